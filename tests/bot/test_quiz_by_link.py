"""The quiz end to end in the sandbox: four friends by link, one of them a cheat, and one in a group."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from bot.questions import masked, order_for
from bot.sandbox.server import Sandbox
from bot.sandbox.things import Message, Poll
from bot.settings import Settings
from storage import history, invitations, quizzes, runs
from storage.database import Database
from storage.quizzes import Kind, NewQuestion, Question, Reply, Source
from storage.records import Chat, ChatKind
from tests.bot.conftest import Listener, running
from tests.sandbox_fixtures import ANNA, BORIS, CLARA, GROUP, OWNER

pytestmark = pytest.mark.slow

DAVID, CHEAT = 1005, 1006
LONG = "a reply that goes on and on, far beyond what the option of a poll can hold, as some people's replies will do"


def replies(number: int, kind: Kind) -> tuple[Reply, ...]:
    texts: dict[Source, str] = {"real": f"yep {number}", "tuned": f"yes {number}", "stock": f"Certainly, {number}."}
    if number == 2:
        texts["stock"] = LONG
    sources: tuple[Source, ...] = ("real", "tuned", "stock") if kind == "three" else ("tuned", "stock")
    return tuple(Reply(source, texts[source]) for source in sources)


@pytest_asyncio.fixture
async def home(settings: Settings, sandbox: Sandbox) -> AsyncIterator[Database]:
    """A quiz of four approved questions, one of them a duel, one out of Anna's own chat."""
    world = sandbox.world
    world.add_user(DAVID, "David")
    world.add_user(CHEAT, "Mallory")
    async with Database.open(settings.likeme_home / "history.db") as database:
        now = datetime.now(UTC)
        kinds: list[tuple[int, Kind]] = [(2000, "three"), (2001, "three"), (ANNA, "three"), (2003, "stock")]
        async with database.transaction():
            await history.put_chat(database, Chat(ANNA, ChatKind.PERSONAL, "Anna"))
            await runs.add_version(database, runs.Version(1, "likeme-0001", "job", now, "tiny", "", {}))
            await quizzes.add_quiz(
                database,
                chat_id=None,
                model="likeme-0001",
                seed=7,
                questions=[
                    NewQuestion(chat, n, f"are you there {n}?", replies(n, kind), kind)
                    for n, (chat, kind) in enumerate(kinds, 1)
                ],
                now=now,
            )
            for one in range(1, 5):
                await quizzes.move(database, one, "candidate", "approved")
        yield database


async def a_link(database: Database, token: str, days: float = 7) -> int:
    now = datetime.now(UTC)
    async with database.transaction():
        return await invitations.add(database, token=token, quiz_id=1, now=now, expires_at=now + timedelta(days=days))


class Friend:
    """Somebody who opens a link and answers what comes."""

    def __init__(self, sandbox: Sandbox, user: int) -> None:
        self.sandbox, self.user, self.hears = sandbox, user, Listener(sandbox, user)

    async def opens(self, token: str) -> Message:
        """The first thing of use that the bot says to it: a poll, or a refusal."""
        world = self.sandbox.world
        return await self.hears.after(
            lambda: world.send(self.user, self.user, f"/start quiz_{token}"), lambda m: not m.text.startswith("Which")
            and "\n\nA  " not in m.text
        )  # fmt: skip

    async def picks(self, poll: Poll, place: int) -> Message:
        """The next poll, or the thanks."""
        return await self.hears.after(
            lambda: self.sandbox.world.vote(self.user, poll, [place]), lambda m: "\n\nA  " not in m.text
        )

    async def plays(self, token: str, right: bool) -> Message:
        """To the end; the thanks."""
        return await self.to_the_end(await self.opens(token), right)

    async def to_the_end(self, said: Message, right: bool) -> Message:
        """From a poll to the thanks."""
        while said.poll is not None:
            place = said.poll.correct[0]
            said = await self.picks(said.poll, place if right else (place + 1) % len(said.poll.options))
        return said


async def stored(database: Database, n: int) -> list[quizzes.Answer]:
    async with asyncio.timeout(20):
        while len(found := await quizzes.answers(database)) < n:
            await asyncio.sleep(0.02)
    return found


async def test_friends_play_by_link_and_nobody_sees_words_of_his_own_chat(
    sandbox: Sandbox, settings: Settings, home: Database
) -> None:
    for token in ("anna", "boris", "clara", "david"):
        await a_link(home, token)
    async with running(settings):
        boris = await Friend(sandbox, BORIS).plays("boris", right=True)
        assert "4 of 4 right" in boris.text
        anna = await Friend(sandbox, ANNA).plays("anna", right=False)
        assert "0 of 3 right" in anna.text
        await Friend(sandbox, CLARA).plays("clara", right=True)
        await Friend(sandbox, DAVID).plays("david", right=True)
    seen = [m.text + (m.poll.question if m.poll else "") for m in sandbox.world.messages.values() if m.chat_id == ANNA]
    assert not any("are you there 3?" in text for text in seen)
    answers = await stored(home, 15)
    assert len(answers) == 15
    assert {a.voter_id for a in answers if a.is_friend} == {ANNA}
    orders = {await order_seen(home, BORIS), await order_seen(home, CLARA), await order_seen(home, DAVID)}
    assert len(orders) > 1, "not everybody sees the same order"


async def order_seen(database: Database, chat: int) -> str:
    rows = await database.rows("SELECT order_shown FROM asking WHERE chat_id = ? ORDER BY question_id", (chat,))
    return " ".join(row["order_shown"] for row in rows)


async def test_a_cheat_gains_nothing(
    sandbox: Sandbox, settings: Settings, home: Database, owner_hears: Listener
) -> None:
    world = sandbox.world
    link_id = await a_link(home, "boris")
    await a_link(home, "old", days=-1)
    mallory, boris = Friend(sandbox, CHEAT), Friend(sandbox, BORIS)
    async with running(settings) as app:
        assert (await mallory.opens("guess")).text.startswith("This link is closed")
        assert (await mallory.opens("old")).text.startswith("This link is closed")
        first = await boris.opens("boris")
        assert (await mallory.opens("boris")).text.startswith("This link belongs to somebody else")
        assert first.poll is not None
        world.send(OWNER, OWNER, "/start")
        forged = world.tap_data(CHEAT, first, f"revoke:{link_id}")
        await world.wait_for(lambda e: e.kind == "answer" and e.what[0] == forged.tap_id)
        assert (await invitations.find(home, link_id)).is_open(datetime.now(UTC))  # type: ignore[union-attr]
        world.vote(CHEAT, first.poll, [0])  # the poll was forwarded to him
        second = await boris.picks(first.poll, first.poll.correct[0])
        again = await boris.opens("boris")  # he comes back: the same question in the same order
        assert second.poll is not None and again.poll is not None
        assert [o.text for o in again.poll.options] == [o.text for o in second.poll.options]
        third = await boris.picks(second.poll, 0)
        world.vote(BORIS, again.poll, [1])  # twice, by the other poll
        assert third.poll is not None
        closed = asyncio.create_task(world.wait_for(lambda e: e.kind == "poll" and e.what.is_closed))
        await asyncio.sleep(0)
        async with home.transaction():
            await invitations.revoke(home, link_id, datetime.now(UTC))
        closed.cancel()
        world.vote(BORIS, third.poll, [0])  # too late: the link is revoked
        assert (await boris.opens("boris")).text.startswith("This link is closed")
        assert app.running
    answers = await quizzes.answers(home)
    assert [(a.voter_id, a.question_id) for a in answers] == [(BORIS, 1), (BORIS, 2)]
    assert answers[0].source == "real"


async def test_a_friend_goes_on_after_a_restart_and_answers_while_the_bot_is_down_count(
    sandbox: Sandbox, settings: Settings, home: Database
) -> None:
    await a_link(home, "clara")
    clara = Friend(sandbox, CLARA)
    async with running(settings):
        first = await clara.opens("clara")
    assert first.poll is not None
    assert sandbox.world.vote(CLARA, first.poll, [first.poll.correct[0]])
    following = asyncio.create_task(clara.hears.after(lambda: None, lambda m: m.poll is not None))
    await asyncio.sleep(0)
    async with running(settings):
        second = await following
    assert [(a.voter_id, a.source) for a in await stored(home, 1)] == [(CLARA, "real")]
    # Killed between the vote's noting and the next poll: at the start it goes out.
    async with home.transaction():
        await home.execute("DELETE FROM asking WHERE message_id = ?", (second.message_id,))
    following = asyncio.create_task(clara.hears.after(lambda: None, lambda m: m.poll is not None))
    await asyncio.sleep(0)
    async with running(settings):
        assert (await following).poll.options[0].text == second.poll.options[0].text  # type: ignore[union-attr]


async def test_the_owner_makes_a_link_revokes_it_and_a_member_s_own_words_stay_out_of_his_group(
    sandbox: Sandbox, settings: Settings, home: Database, owner_hears: Listener
) -> None:
    world = sandbox.world
    async with running(settings):
        await owner_hears.after(lambda: world.send(OWNER, OWNER, "/start"))
        page = world.post(int(settings.bot_token.get_secret_value().split(":")[0]), OWNER, text="…")
        made = await owner_hears.after(lambda: world.tap_data(OWNER, page, "link:1"), lambda m: "t.me/" in m.text)
        token = made.text.rsplit("start=quiz_", 1)[1]
        said = await Friend(sandbox, BORIS).opens(token)
        assert said.poll is not None
        closed = asyncio.create_task(world.wait_for(lambda e: e.kind == "poll"))
        await asyncio.sleep(0)
        world.tap(OWNER, made, "revoke")
        assert (await closed).what is said.poll
        assert said.poll.is_closed
        async with home.transaction():
            await home.execute("UPDATE quiz SET chat_id = ?", (GROUP,))
        tapped = world.tap_data(OWNER, page, "ask:3")
        told = await world.wait_for(lambda e: e.kind == "answer" and e.what[0] == tapped.tap_id)
        assert "a member of this group" in told.what[1], "Anna is in the group"
        in_group = Listener(sandbox, GROUP)
        asked = await in_group.after(lambda: world.tap_data(OWNER, page, "ask:1"), lambda m: m.poll is not None)
        assert asked.poll is not None
        world.vote(DAVID, asked.poll, [asked.poll.correct[0]])
        assert (await stored(home, 1))[0].source == "real"


def test_secrets_and_names_are_masked_and_words_stay() -> None:
    said = masked(
        "Mira will call will@example.org, ask Mark or mira; mark it", "Mira Stone", ["Mark Hill", "Bo", "Will"]
    )
    assert said == "[name] will call [email], ask [name] or [name]; mark it"


def test_the_order_is_the_person_s_own_and_always_the_same(tmp_path: Path) -> None:
    one = Question(5, 1, 1, 1, "hi", replies(1, "three"), "three", "approved", None, "likeme-0001", 7)
    assert order_for(one, ANNA) == order_for(one, ANNA)
    assert len({order_for(one, person) for person in range(50)}) == 6
