"""The whole quiz over the wire, as people play it: a voice trained, questions reviewed, five friends, one a cheat.

Anna's own chat is among the questions, Clara leaves and comes back after a restart, Mallory cheats, Emil sits in the
group. Nothing is put into the database by hand but the history.
"""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from bot.sandbox.server import Sandbox
from bot.sandbox.things import Event, Message, Poll, Vote
from bot.settings import Settings
from storage import history, quizzes, runs
from storage.database import Database
from storage.records import Chat, ChatKind, MessageKind
from storage.records import Message as StoredMessage
from tests.bot.conftest import BOT, FIRST, SECOND, START, Listener, running
from tests.bot.test_quiz_by_link import Friend
from tests.sandbox_fixtures import ANNA, BORIS, CLARA, GROUP, OWNER

pytestmark = pytest.mark.slow

EMIL, MALLORY = 1005, 1006
PEOPLE = {ANNA: "Anna", BORIS: "Boris", 2001: "Xenia", 2002: "Yuri", 2003: "Zoe", 2004: "Wim", 2005: "Vera"}


async def a_longer_history(settings: Settings) -> None:
    """Seven more chats, so that there are held-out prompts for two quizzes."""
    async with Database.open(settings.likeme_home / "history.db") as database, database.transaction():
        for place, (chat, name) in enumerate(PEOPLE.items()):
            await history.put_chat(database, Chat(chat, ChatKind.PERSONAL, name))
            for n in range(24):
                day, own = divmod(n, 2)
                text = f"{FIRST[place]} {SECOND[day % 8]} {day}" if own else f"Well {place}-{day}, is it so?"
                when = START + timedelta(days=day, minutes=own)
                one = StoredMessage(chat, 100 + n, when, "user", bool(own), MessageKind.TEXT, text)
                await history.put_messages(database, [one])


class Owner:
    """What he does, by his buttons alone."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._world, self._hears = sandbox.world, Listener(sandbox, OWNER)

    async def trains(self) -> None:
        done = await self._hears.after(lambda: self._world.send(OWNER, OWNER, "/train"), lambda m: m.photo is not None)
        assert "Version 1 is ready" in done.text

    async def prepares(self, chat: int, n: int, button: str) -> Message:
        """The message below the candidates."""
        return await self._hears.after(
            lambda: self._world.send(OWNER, chat, f"/quiz {n}"),
            lambda m: any(row[0]["text"] == button for row in m.buttons),
        )

    async def link(self, ready: Message) -> tuple[str, Message]:
        made = await self._hears.after(lambda: self._world.tap(OWNER, ready, "a link"), lambda m: "t.me/" in m.text)
        return made.text.rsplit("start=quiz_", 1)[1].split()[0], made

    async def revokes(self, made: Message) -> None:
        tapped = self._world.tap(OWNER, made, "revoke")
        await self._world.wait_for(lambda e: e.kind == "answer" and e.what[0] == tapped.tap_id)

    async def standings(self) -> Message:
        return await self._hears.after(
            lambda: self._world.send(OWNER, OWNER, "/standings"), lambda m: m.photo is not None
        )


def polls_seen_by(sandbox: Sandbox, chat: int) -> list[Message]:
    return [m for m in sandbox.world.messages.values() if m.chat_id == chat and m.poll is not None]


def words_shown_to(sandbox: Sandbox, chat: int) -> str:
    shown = (m for m in sandbox.world.messages.values() if m.chat_id == chat and m.sender == BOT)
    return "\n".join(m.text + (m.poll.question if m.poll else "") for m in shown)


async def a_forged_press(sandbox: Sandbox, message: Message, data: str) -> None:
    tapped = sandbox.world.tap_data(MALLORY, message, data)
    await sandbox.world.wait_for(lambda e: e.kind == "answer" and e.what[0] == tapped.tap_id)


def again(sandbox: Sandbox, user: int, poll: Poll, place: int) -> None:
    """The same answer delivered once more, or one that was on its way when the poll closed: Telegram does both."""
    sandbox.world._happened("vote", Vote(poll, user, (place,)))


async def counted(database: Database, n: int) -> list[quizzes.Answer]:
    async with asyncio.timeout(30):
        while len(found := await quizzes.answers(database)) < n:
            await asyncio.sleep(0.02)
    return found


async def test_five_friends_play_one_of_them_cheats_and_the_standings_are_right(
    sandbox: Sandbox, settings: Settings
) -> None:
    world, owner = sandbox.world, Owner(sandbox)
    world.add_user(MALLORY, "Mallory")
    world.add_user(EMIL, "Emil")
    world.chats[GROUP].members.append(EMIL)
    await a_longer_history(settings)
    anna, boris, clara, mallory = (Friend(sandbox, user) for user in (ANNA, BORIS, CLARA, MALLORY))
    path = settings.likeme_home / "history.db"
    world.send(OWNER, OWNER, "/start")
    async with running(settings):
        await owner.trains()
        ready = await owner.prepares(OWNER, 4, "approve all")
        candidates = [m for m in world.messages.values() if any(b["text"] == "drop" for r in m.buttons for b in r)]
        async with Database.open(path) as database:
            made = await quizzes.questions(database, 1)
            assert (await runs.serving(database)) is not None
        assert len(candidates) == len(made) >= 3
        assert {m.chat_id for m in candidates} == {OWNER}, "he alone reviews them"
        links = {user: await owner.link(ready) for user in (ANNA, BORIS, CLARA, MALLORY)}

        # Boris is early: before the owner's tap nobody sees a question.
        early = await boris.opens(links[BORIS][0])
        assert "not ready yet" in early.text
        await a_forged_press(sandbox, ready, ready.buttons[0][0]["callback_data"])
        await a_forged_press(sandbox, candidates[0], candidates[0].buttons[0][0]["callback_data"])
        assert [m for m in world.messages.values() if m.poll is not None] == []
        first = await boris.hears.after(lambda: world.tap(OWNER, ready, "approve all"), lambda m: m.poll is not None)
        assert first.poll is not None
        thanks = await boris.to_the_end(first, right=True)
        assert "right. Thank you!" in thanks.text

        thanks = await anna.plays(links[ANNA][0], right=False)
        assert thanks.poll is None
        begun = await clara.opens(links[CLARA][0])
        assert begun.poll is not None
        second = await clara.picks(begun.poll, begun.poll.correct[0])

        # Mallory: a guessed link, Boris's forwarded one, Boris's forwarded poll, the owner's buttons.
        assert (await mallory.opens("guess")).text.startswith("This link is closed")
        assert (await mallory.opens(links[BORIS][0])).text.startswith("This link belongs to somebody else")
        for message, data in ((ready, "link:1"), (links[CLARA][1], links[CLARA][1].buttons[0][0]["callback_data"])):
            await a_forged_press(sandbox, message, data)
        world.vote(MALLORY, polls_seen_by(sandbox, BORIS)[0].poll, [0])  # type: ignore[arg-type]
        his = await mallory.opens(links[MALLORY][0])
        twin = await mallory.opens(links[MALLORY][0])
        assert his.poll is not None and twin.poll is not None
        following = await mallory.picks(his.poll, (his.poll.correct[0] + 1) % 3)
        world.vote(MALLORY, twin.poll, [twin.poll.correct[0]])  # a second answer by the other poll
        again(sandbox, MALLORY, his.poll, his.poll.correct[0])
        await owner.revokes(links[MALLORY][1])
        assert following.poll is not None
        assert following.poll.is_closed
        again(sandbox, MALLORY, following.poll, following.poll.correct[0])  # it was on its way: too late
        assert (await mallory.opens(links[MALLORY][0])).text.startswith("This link is closed")

    # The bot is down; Clara answers nevertheless, and Telegram keeps it.
    assert second.poll is not None
    world.vote(CLARA, second.poll, [(second.poll.correct[0] + 1) % 3])
    waiting = asyncio.create_task(clara.hears.after(lambda: None, lambda m: "\n\nA  " not in m.text))
    await asyncio.sleep(0)
    async with running(settings):
        said = await waiting
        while said.poll is not None:
            said = await clara.picks(said.poll, said.poll.correct[0])
        assert f"{len(made) - 1} of {len(made)} right" in said.text

        # The group: what comes from a member's chat stays out, and Emil answers.
        of_group = await owner.prepares(GROUP, 10, "send all")
        in_group: list[Poll] = []
        world.observe(lambda e: _collect(e, in_group))
        async with Database.open(path) as database:
            asked = await quizzes.questions(database, 2)
            allowed = [one for one in asked if one.source_chat_id not in world.chats[GROUP].members]
            world.tap(OWNER, of_group, "send all")
            async with asyncio.timeout(30):
                while len(in_group) < len(allowed):
                    await asyncio.sleep(0.02)
            before = len(await quizzes.answers(database))
            for poll in in_group:
                world.vote(EMIL, poll, [poll.correct[0]])
            answers = await counted(database, before + len(in_group))
        board = await owner.standings()

    own = [one for one in made if one.source_chat_id == ANNA] + [one for one in asked if one.source_chat_id == ANNA]
    assert own, "the test needs a question out of Anna's own chat"
    assert not any(one.prompt in words_shown_to(sandbox, ANNA) + words_shown_to(sandbox, GROUP) for one in own)
    bodies = [m.text for m in world.messages.values() if m.chat_id == BORIS and "\n\nB  " in m.text]
    assert bodies, "replies over 100 characters stand above the poll as A, B, C"
    assert [o.text for o in polls_seen_by(sandbox, BORIS)[0].poll.options] == ["A", "B", "C"]  # type: ignore[union-attr]

    per_person = Counter(answer.voter_id for answer in answers)
    asked_of = {user: sum(one.source_chat_id != user for one in made) for user in (ANNA, BORIS, CLARA)}
    expected = {**asked_of, MALLORY: 1, EMIL: len(in_group)}
    assert per_person == Counter({user: n for user, n in expected.items() if n})
    of_mallory = next(answer for answer in answers if answer.voter_id == MALLORY)
    assert of_mallory.source != "real", "his first answer counts, and it was wrong"
    real = sum(answer.source == "real" for answer in answers)
    assert f"{len(answers)} answers of {len(per_person)} judges" in board.text
    assert f"the real reply: {real / len(answers):.0%} ({real} of {len(answers)};" in board.text
    friends = sum(answer.voter_id in (ANNA, BORIS) for answer in answers)
    assert f"friends (n = {friends})" in board.text
    assert f"strangers (n = {len(answers) - friends})" in board.text
    assert "too few to say anything" in board.text.splitlines()[1]


def _collect(event: Event, polls: list[Poll]) -> None:
    if event.kind == "message" and event.chat_id == GROUP and event.what.poll is not None:
        polls.append(event.what.poll)
