"""The demo's people: where they come from, what they do by themselves, and when they stop."""

import asyncio
from pathlib import Path

import pytest

from bot import account
from bot.history import now
from bot.sandbox import cast, friends, sample
from bot.sandbox.friends import Friend, Friends
from bot.sandbox.judges import replies_of, ways
from bot.sandbox.mtproto.server import MtprotoServer
from bot.sandbox.things import TELEGRAM, Message, Option, Poll
from bot.sandbox.world import World
from bot.settings import Settings
from storage import history
from storage.database import Database
from storage.ingest.export import import_export
from tests.mtproto_fixtures import PHONE, Answers, anybody
from tests.sandbox_fixtures import ANNA, BORIS, GROUP, OWNER, TOKEN, small_world

BOT = int(TOKEN.split(":")[0])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(friends, "LETTERS_A_SECOND", 1e4)
    monkeypatch.setattr(friends, "ANSWER_SECONDS", 0.02)
    monkeypatch.setattr(friends, "VOTE_SECONDS", 0.01)


def of_two(world: World, taken: set[int]) -> Friends:
    two = [
        Friend(ANNA, "Anna", [["hi", "you there?"], ["good"]], lambda replies: 1, "picks the second"),
        Friend(BORIS, "Boris", [["yo"]], lambda replies: replies.index("b b"), "picks b"),
    ]
    return Friends(world, OWNER, two, lambda person: person in taken)


def poll(*options: str) -> Poll:
    return Poll("1", "Which?", [Option(text, text) for text in options], is_quiz=True, is_anonymous=False, correct=(0,))


def said(world: World, friend: int) -> list[str]:
    return [m.text for m in world.history(world.between(OWNER, friend).chat_id) if m.sender == friend]


async def test_a_friend_writes_a_turn_and_the_next_one_when_he_is_answered() -> None:
    world = small_world()
    people = of_two(world, set())
    async with people.living():
        people.begin(people.friends[0])
        await asyncio.sleep(0.1)
        assert said(world, ANNA) == ["hi", "you there?"]
        world.write(OWNER, ANNA, "yes")
        world.write(OWNER, ANNA, "here")
        await asyncio.sleep(0.1)
        assert said(world, ANNA) == ["hi", "you there?", "good"]
        assert said(world, BORIS) == []


async def test_friends_vote_by_what_they_see_and_one_who_is_played_by_hand_does_not() -> None:
    world = small_world()
    taken = {ANNA}
    people = of_two(world, taken)
    async with people.living():
        world.post(BOT, GROUP, text="a question\n\nA  a a\n\nB  b b\n\nC  c c")
        world.send(OWNER, GROUP, "what do you say?")
        asked = world.post(BOT, GROUP, poll=poll("A", "B", "C"))
        await asyncio.sleep(0.1)
        assert asked.poll is not None
        assert [option.voters for option in asked.poll.options] == [[], [BORIS], []]
        world.write(OWNER, ANNA, "hello?")
        await asyncio.sleep(0.1)
        assert said(world, ANNA) == []


def test_a_judge_reads_the_options_or_the_message_above() -> None:
    assert replies_of(poll("x y", "z"), "nothing") == ["x y", "z"]
    assert replies_of(poll("A", "B"), "p\n\nA  one\ntwo\n\nB  three") == ["one\ntwo", "three"]
    by_letters, by_length, guess = (choose for _, choose in ways(["yep yep", "yep hm"], seed=1))
    assert by_letters(["indeed, dear sir", "yep hm ok"]) == 1
    assert by_length(["x" * 90, "x" * 7, "x"]) == 1
    assert guess(["a", "b", "c"]) in (0, 1, 2)


async def test_the_cast_of_the_sample_are_people_of_its_history_with_its_words(tmp_path: Path) -> None:
    sample.write_export(tmp_path / "result.json")
    world = World()
    async with Database.open(tmp_path / "history.db") as database:
        await import_export(database, tmp_path / "result.json", now=now())
        owner = await history.account(database)
        assert owner is not None
        played = await cast.seed(world, database, owner)
        stored = {m.message_id: m.text for m in await history.messages(database, 2001)}
    assert [(friend.user_id, friend.name, len(friend.turns)) for friend in played] == [
        (2001, "Mira", 5),
        (2002, "Ben", 5),
        (2003, "Lena", 5),
    ]
    past: list[Message] = world.history(world.between(owner.user_id, 2001).chat_id)
    assert len(past) > 40
    assert all(stored[message.message_id] == message.text for message in past)
    ids = [message.message_id for message in world.messages.values()]
    assert len(set(ids)) == len(ids), "an account counts all its personal chats in one row"
    assert [user.first_name for user in world.users.values() if not user.is_extra and not user.is_bot] == [
        "Jonas", "Mira", "Ben", "Lena",
    ]  # fmt: skip


async def test_without_three_friends_in_the_history_others_come(tmp_path: Path) -> None:
    world = World()
    async with Database.open(tmp_path / "history.db") as database:
        async with database.transaction():
            await history.set_account(database, history.Account(OWNER, "Owner"))
        owner = await history.account(database)
        assert owner is not None
        played = await cast.seed(world, database, owner)
    assert [friend.name for friend in played] == ["Ada", "Bela", "Cleo"]
    assert all(friend.turns for friend in played)


async def test_a_login_code_is_told_by_telegram_where_it_is_in_the_world(
    telegram: MtprotoServer, account_settings: Settings
) -> None:
    telegram.world.add_telegram()
    await account.login(account_settings, Answers(telegram.accounts[PHONE]), anybody)
    told = telegram.world.history(telegram.world.between(OWNER, TELEGRAM).chat_id)
    assert len(told) == 1
    assert told[0].text.startswith("Login code: ")
