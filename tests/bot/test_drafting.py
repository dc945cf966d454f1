"""From a history to what a model is asked with, and from its replies to drafts."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest_asyncio

from bot.drafting import Drafting, context_in, exchanges_like
from bot.voice import Voice
from storage import history, similar
from storage.database import Database
from storage.records import Account, Chat, ChatKind, Message, MessageKind
from tests.voice_fixtures import REPLIES, Script
from training.dataset.render import Turn

OWNER = 1
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
Said = tuple[bool, str]  # (the owner's, text)


async def not_told(text: str) -> None:
    raise AssertionError(f"the owner has nothing to be told: {text}")


async def tell(database: Database, chat_id: int, name: str, days: list[list[Said]], kind: ChatKind) -> None:
    messages, number = [], 0
    for day, said in enumerate(days):
        for minute, (own, text) in enumerate(said):
            number += 1
            when = START + timedelta(days=day, minutes=minute)
            sender = f"user{OWNER if own else chat_id}"
            messages.append(Message(chat_id, number, when, sender, own, MessageKind.TEXT, text))
    async with database.transaction():
        await history.put_chat(database, Chat(chat_id, kind, name))
        await history.put_messages(database, messages)


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """Two friends and a group."""
    async with Database.open(tmp_path / "history.db") as opened:
        async with opened.transaction():
            await history.set_account(opened, Account(OWNER, "Owner"))
        anna = [
            [(False, "climbing on thursday?"), (True, "yesss, the usual wall")],
            [(False, "how was climbing"), (True, "my arms are jelly")],
            [(False, "did you see the film"), (True, "not yet")],
        ]
        boris = [
            [(False, "fancy climbing with Anna at 18:30?"), (True, "always")],
            [(False, "climbing again?"), (True, "Anna broke her toe so no")],
            [(False, "what is the plan"), (True, "the plan is that there is no plan and never was one mate")],
        ]
        await tell(opened, 10, "Anna", anna, ChatKind.PERSONAL)
        await tell(opened, 20, "Boris", boris, ChatKind.PERSONAL)
        await tell(opened, -30, "Climbers", [[(False, "climbing now"), (True, "in a group")]], ChatKind.GROUP)
        yield opened


async def test_the_same_person_s_exchanges_come_first_and_others_lend_no_facts(database: Database) -> None:
    found = await exchanges_like(database, [Turn("user", "climbing tomorrow?")], 10, {"anna"})
    assert [one.reply for one in found] == ["always", "my arms are jelly", "yesss, the usual wall"] or [
        one.reply for one in found
    ] == ["always", "yesss, the usual wall", "my arms are jelly"]
    assert found[0].said == "fancy climbing with [name] at [number]?"
    assert all("toe" not in one.reply for one in found), "a reply with a name in it lends nothing"


async def test_nothing_later_than_the_moment_is_shown(database: Database) -> None:
    found = await exchanges_like(
        database, [Turn("user", "climbing tomorrow?")], 10, {"anna"}, START + timedelta(hours=1)
    )
    assert {one.reply for one in found} == {"yesss, the usual wall", "always"}


async def test_signs_of_the_search_language_are_only_words(database: Database) -> None:
    for text in ('"', "AND OR NOT", "climbing*", "text:climbing", "()", "", "NEAR(a b)", "ok'; DROP TABLE message"):
        await similar.similar(database, text, chat_id=10, same_chat=True, limit=3)
        await similar.said_elsewhere(database, text * 9, 10, 8)


async def test_a_pasted_message_of_a_known_chat_is_seen_in_its_conversation(database: Database) -> None:
    later = START + timedelta(days=2, minutes=5)
    assert await context_in(database, 10, "and now?", later) == (
        Turn("user", "did you see the film"),
        Turn("assistant", "not yet"),
        Turn("user", "and now?"),
    )
    assert await context_in(database, 10, "and now?", later + timedelta(days=3)) == (Turn("user", "and now?"),)
    assert await context_in(database, None, "and now?", later) == (Turn("user", "and now?"),)


async def test_unfit_drafts_are_replaced_and_another_chat_s_words_are_not_repeated(
    database: Database, script: Script, scripted_url: str
) -> None:
    rounds = [
        ["", "the plan is that there is no plan and never was one", "well ok", "Well, ok!"],
        ["<think>hm", "sounds good to me", "WELL OK"],
        ["not really no", "why", "because"],
    ]
    script.reply = lambda asked, i: rounds[len(script.asked) - 1][i]
    voice = Voice(scripted_url, "")
    try:
        drafted = await Drafting(database, voice, not_told).drafts((Turn("user", "what is the plan"),), 10)
        assert set(drafted.replies) == {"well ok", "sounds good to me", "not really no"}
        assert len(script.asked) == 3
        script.asked.clear()
        there = await Drafting(database, voice, not_told).drafts((Turn("user", "what is the plan"),), 20)
        assert "the plan is that there is no plan and never was one" in there.replies, "in its own chat it may"
    finally:
        await voice.close()


async def test_a_model_without_words_gives_no_drafts(database: Database, script: Script, scripted_url: str) -> None:
    script.reply = lambda asked, i: ""
    voice = Voice(scripted_url, "")
    assert (await Drafting(database, voice, not_told).drafts((Turn("user", "hm?"),), None)).replies == ()
    await voice.close()


async def test_the_better_of_the_first_two_drafts_comes_first_then_what_suits_most(
    database: Database, script: Script, scripted_url: str
) -> None:
    script.suits = (0.5, 2.0, 7.5, 3.0)
    voice = Voice(scripted_url, "")
    drafted = await Drafting(database, voice, not_told).drafts((Turn("user", "friday?"),), None)
    assert drafted.replies == tuple(REPLIES[i] for i in (1, 2, 3))
    await voice.close()


async def test_cut_replies_lose_their_cut_end(database: Database, script: Script, scripted_url: str) -> None:
    script.finish_reason = "length"
    script.reply = lambda asked, i: f"Number {'abcdefgh'[i]} it is. And then I wanted to s"
    voice = Voice(scripted_url, "")
    drafted = await Drafting(database, voice, not_told).drafts((Turn("user", "hm?"),), None)
    await voice.close()
    assert all(reply.endswith("it is.") for reply in drafted.replies)
