"""Secretary Mode over the wire: the real bot, the sandbox's Telegram, a model that says what a test wants."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot import sending
from bot.sandbox.server import Sandbox
from bot.sandbox.things import Event, Message
from bot.sandbox.world import World
from bot.settings import Settings
from storage import drafts, history, secretary
from tests.bot.conftest import until
from tests.desk_fixtures import CHANGED, Desk, at_the_desk, labels
from tests.sandbox_fixtures import ANNA, BORIS, OWNER
from tests.voice_fixtures import REPLIES, Script
from training.dataset.pairs import Options, pairs_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_thumbs")]


@pytest.fixture
def model_url(scripted_url: str) -> str:
    """A model that says what a test wants."""
    return scripted_url


async def replies_to_learn(desk: Desk, friend: int) -> list[str]:
    """What the next training would take from a chat."""
    chat = await history.find_chat(desk.services.database, friend)
    assert chat is not None
    pairs = pairs_of(chat, await history.messages(desk.services.database, friend), Options()).pairs
    return [pair.reply for pair in pairs]


async def test_a_friend_s_burst_becomes_one_card_and_a_tap_sends_it_once(desk: Desk) -> None:
    card = await desk.card(ANNA, "hey", "are you coming?", "on friday I mean")
    assert labels(card) == ["1", "2", "3", "edit", "again", "skip"]
    assert card.text.startswith("Anna\nAnna: hey\nare you coming?\non friday I mean")
    assert sum(reply in card.text for reply in REPLIES) == 3
    desk.world.tap(OWNER, card, "1")
    desk.world.tap(OWNER, card, "1")
    desk.world.tap(OWNER, card, "2")
    kept = await desk.draft(1, "sent")
    await until(lambda: not card.buttons)
    assert desk.said_to(ANNA) == kept.lines
    assert "Sent to Anna." in card.text
    assert kept.way == "card"
    assert kept.context[-1] == ("user", "hey\nare you coming?\non friday I mean")


async def test_lines_go_out_one_by_one_and_are_no_words_of_the_owner_s_own(desk: Desk, script: Script) -> None:
    script.reply = lambda asked, i: ["no idea yet\ntell you tonight", "what", "well then"][i % 3]
    card = await desk.card(ANNA, "and friday?")
    number = next(i for i, text in enumerate(card.text.split("\n\n")) if "no idea yet" in text)
    typing: list[Event] = []
    desk.world.observe(lambda e: typing.append(e) if e.kind == "typing" and e.what.text == "" else None)
    desk.world.tap(OWNER, card, str(number))
    await desk.draft(1, "sent")
    assert desk.said_to(ANNA) == ["no idea yet", "tell you tonight"]
    assert typing
    stored = [m for m in await history.messages(desk.services.database, ANNA) if m.is_own]
    assert [m.via_bot for m in stored] == ["likeme", "likeme"]
    async with desk.services.database.transaction():  # what an import or a sync would say of it
        from dataclasses import replace

        await history.put_messages(desk.services.database, [replace(m, via_bot=None) for m in stored])
    assert {m.via_bot for m in await history.messages(desk.services.database, ANNA) if m.is_own} == {"likeme"}
    assert await replies_to_learn(desk, ANNA) == []


async def test_what_was_sent_in_his_name_is_not_answered(desk: Desk, script: Script) -> None:
    card = await desk.card(ANNA, "coming?")
    desk.world.tap(OWNER, card, "1")
    await desk.draft(1, "sent")
    await asyncio.sleep(0.6)
    assert len(script.asked) == 1


async def test_the_owner_s_own_words_in_answer_to_a_card_are_sent_and_kept_as_his(desk: Desk) -> None:
    card = await desk.card(ANNA, "coming?")
    asked = await desk.hears.after(lambda: desk.world.tap(OWNER, card, "edit"))
    assert asked.text.startswith("Your words to Anna?")
    desk.world.send(OWNER, OWNER, "only if Boris drives", reply_to=asked.message_id)
    kept = await desk.draft(1, "edited")
    assert desk.said_to(ANNA) == ["only if Boris drives"] == [kept.edited]
    stored = [m for m in await history.messages(desk.services.database, ANNA) if m.is_own]
    assert [m.via_bot for m in stored] == [None]
    assert await replies_to_learn(desk, ANNA) == ["only if Boris drives"]
    late = await desk.hears.after(lambda: desk.world.send(OWNER, OWNER, "or not", reply_to=card.message_id))
    assert late.text == "That one has been taken already."


async def test_skip_and_again(desk: Desk, script: Script) -> None:
    card = await desk.card(ANNA, "coming?")
    script.reply = lambda asked, i: ["quite other words", "and more of them", "a third"][i % 3]
    desk.world.tap(OWNER, card, "again")
    await until(lambda: "quite other words" in card.text)
    assert (await desk.draft(1, "replaced")).replies
    desk.world.tap(OWNER, card, "skip")
    await desk.draft(2, "skipped")
    await until(lambda: card.text == "Anna: skipped.")
    assert desk.said_to(ANNA) == []


async def test_a_newer_message_replaces_the_card(desk: Desk) -> None:
    first = await desk.card(ANNA, "coming?")
    second = await desk.card(ANNA, "hello??")
    assert "coming?\nhello??" in second.text
    await until(lambda: not first.buttons)
    assert "newer card" in first.text
    desk.world.tap_data(OWNER, first, "card:1:0")
    await asyncio.sleep(0.3)
    assert desk.said_to(ANNA) == []


async def test_the_newest_state_wins_over_drafts_that_are_being_drawn(desk: Desk, script: Script) -> None:
    script.delay_seconds = 0.4
    async with desk.world.events() as events:
        desk.world.write(ANNA, OWNER, "coming?")
        await until(lambda: script.asked)
        desk.world.write(ANNA, OWNER, "to the lake I mean")
        cards = []
        async with asyncio.timeout(15):
            while not cards:
                event = await events.get()
                if event.kind == "message" and event.what.buttons:
                    cards.append(event.what)
    assert "to the lake" in cards[0].text
    assert len(script.asked) == 2


async def test_the_friend_edits_and_deletes(desk: Desk) -> None:
    card = await desk.card(ANNA, "friday?")
    place = desk.world.between(OWNER, ANNA).chat_id
    theirs = desk.world.history(place)[-1]
    desk.world.edit(theirs, text="saturday?")
    await until(lambda: "changed their message" in card.text)
    await until(lambda: "saturday?" in card.text)
    assert len(labels(card)) == 6
    desk.world.delete(theirs)
    await until(lambda: "deleted a message" in card.text)
    assert len(labels(card)) == 6


async def test_the_owner_answers_by_himself(desk: Desk) -> None:
    card = await desk.card(ANNA, "friday?")
    desk.world.write(OWNER, ANNA, "yes!")
    kept = await desk.draft(1, "answered")
    assert kept.edited == "yes!"
    await until(lambda: card.text == "Anna: you have answered by yourself.")


async def test_he_answers_before_the_burst_is_over_and_no_card_comes(desk: Desk, script: Script) -> None:
    desk.world.write(ANNA, OWNER, "friday?")
    desk.world.write(OWNER, ANNA, "yes!")
    await asyncio.sleep(0.8)
    assert script.asked == []


REFUSALS = {
    "BUSINESS_PEER_USAGE_MISSING": "24 hours",
    "BUSINESS_PEER_INVALID": "does not let the bot write",
    "PREMIUM_ACCOUNT_REQUIRED": "Premium",
    "BUSINESS_CONNECTION_INVALID": "no longer connected",
    "SOMETHING_NEW": "«Something_new»",
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refusal_is_told_on_the_card_and_the_tap_can_be_repeated(desk: Desk, refusal: str) -> None:
    card = await desk.card(ANNA, "friday?")
    desk.sandbox.faults.fail("sendMessage", 400, f"Bad Request: {refusal}")
    desk.world.tap(OWNER, card, "1")
    await until(lambda: REFUSALS[refusal] in card.text)
    assert len(labels(card)) == 6
    assert desk.said_to(ANNA) == []
    desk.world.tap(OWNER, card, "1")
    await desk.draft(1, "sent")
    assert len(desk.said_to(ANNA)) == 1


async def test_no_leave_to_reply_and_a_connection_that_is_gone(desk: Desk) -> None:
    card = await desk.card(ANNA, "friday?")
    await desk.connect(can_reply=False)
    desk.world.tap(OWNER, card, "1")
    await until(lambda: "may not reply for you" in card.text)
    gone = await desk.hears.after(lambda: desk.world.connect(OWNER, is_enabled=False), lambda m: CHANGED in m.text)
    assert "no longer connected" in gone.text
    desk.world.tap(OWNER, card, "1")
    await until(lambda: "no longer connected" in card.text)
    await desk.connect()
    desk.world.tap(OWNER, card, "1")
    await desk.draft(1, "sent")


async def test_after_a_day_nothing_is_even_tried(desk: Desk) -> None:
    card = await desk.card(ANNA, "friday?")
    async with desk.services.database.transaction():
        await desk.services.database.execute("UPDATE card SET answered_at = answered_at - 90000")
    desk.world.tap(OWNER, card, "1")
    await until(lambda: "24 hours" in card.text)
    assert desk.said_to(ANNA) == []


async def test_no_answer_from_telegram_leaves_it_to_the_owner_to_look(desk: Desk) -> None:
    card = await desk.card(ANNA, "friday?")
    desk.sandbox.faults.fail("sendMessage", 502, "Bad Gateway")
    desk.world.tap(OWNER, card, "1")
    await until(lambda: "did not answer" in card.text)
    assert labels(card) == ["send the rest", "skip"]
    desk.world.tap(OWNER, card, "send the rest")
    await desk.draft(1, "sent")
    assert len(desk.said_to(ANNA)) == 1


async def test_fifty_friends_at_once_get_a_card_each_while_commands_are_answered(
    sandbox: Sandbox, desk: Desk, script: Script
) -> None:
    script.delay_seconds = 0.02
    friends = range(5000, 5050)
    for friend in friends:
        sandbox.world.add_user(friend, f"Friend {friend}")
    cards: list[Message] = []
    sandbox.world.observe(lambda e: cards.append(e.what) if e.kind == "message" and e.what.buttons else None)
    for friend in friends:
        sandbox.world.write(friend, OWNER, f"hello from {friend}?")
    await desk.hears.after(lambda: sandbox.world.send(OWNER, OWNER, "/status"), lambda m: "Voice:" in m.text)
    assert len(cards) < 50, "the answer to a command does not wait for the drafts"
    async with asyncio.timeout(60):
        while len(cards) < 50:
            await asyncio.sleep(0.05)
    assert len(script.asked) == 50
    assert {card.text.split("\n")[0] for card in cards} == {f"Friend {friend}" for friend in friends}


async def test_modes_and_quiet_hours(desk: Desk, script: Script) -> None:
    await desk.card(ANNA, "one?")
    shown = await desk.hears.after(lambda: desk.world.send(OWNER, OWNER, "/mode"))
    row = next(i for i, buttons in enumerate(shown.buttons) if buttons[0]["text"] == "Anna")
    desk.world.tap_data(OWNER, shown, shown.buttons[row + 1][0]["callback_data"])
    await until(lambda: shown.buttons[row + 1][0]["text"] == "● off")
    asked = len(script.asked)
    desk.world.write(ANNA, OWNER, "two?")
    await desk.card(BORIS, "three?")
    assert len(script.asked) == asked + 1
    clock = (await desk.hears.after(lambda: desk.world.send(OWNER, OWNER, "/quiet nonsense"))).text
    assert "23-7" in clock
    set_ = await desk.hears.after(lambda: desk.world.send(OWNER, OWNER, "/quiet 0:00-23:59"))
    assert "0:00-23:59" in set_.text
    desk.world.write(BORIS, OWNER, "four?")
    await asyncio.sleep(0.8)
    assert len(script.asked) == asked + 1
    await desk.hears.after(lambda: desk.world.send(OWNER, OWNER, "/quiet off"), lambda m: bool(m.buttons))
    assert len(script.asked) == asked + 2


async def test_the_first_words_stream_while_the_model_is_slow(
    desk: Desk, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.streaming.EVERY_SECONDS", 0.0)
    script.delay_seconds = 0.2
    streamed: list[str] = []
    desk.world.observe(lambda e: streamed.append(e.what.text) if e.kind == "typing" and e.what.text else None)
    card = await desk.card(ANNA, "friday?")
    assert streamed
    assert streamed[0].startswith("Anna\nAnna: friday?\n\n1  ")
    assert streamed[0].endswith("…")
    assert labels(card)[:3] == ["1", "2", "3"]


async def test_no_thought_and_no_cut_sentence_reaches_the_owner_not_even_while_it_grows(
    desk: Desk, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.streaming.EVERY_SECONDS", 0.0)
    script.delay_seconds, script.finish_reason = 0.2, "length"
    script.reply = lambda asked, i: (
        f"<think>what is {i} to him</think>Fine by {'me us them all'.split()[i]}. And then I wo"
    )
    shown: list[str] = []
    desk.world.observe(lambda e: shown.append(e.what.text) if e.kind == "typing" and e.what.text else None)
    card = await desk.card(ANNA, "friday?")
    for text in (*shown, card.text):
        assert "think" not in text
        assert "him" not in text
    assert "Fine by me." in card.text
    assert "I wo" not in card.text


async def test_a_restart_between_card_and_tap_loses_nothing(sandbox: Sandbox, settings: Settings) -> None:
    world: World = sandbox.world
    world.send(OWNER, OWNER, "/start")
    async with at_the_desk(sandbox, settings) as desk:
        await desk.connect()
        card = await desk.card(ANNA, "friday?")
        world.write(BORIS, OWNER, "and you?")  # still waiting when the bot goes down
        await until(lambda: True)
    world.tap(OWNER, card, "1")
    async with at_the_desk(sandbox, settings) as desk:
        await desk.draft(1, "sent")
        await until(lambda: any(m.text.startswith("Boris") and m.buttons for m in world.messages.values()))
        assert len(desk.said_to(ANNA)) == 1


async def killed_while_sending(sandbox: Sandbox, settings: Settings, line: str) -> Message:
    """As kill -9 leaves it: a draft or the owner's words claimed, `line` of it at Telegram, its answer never heard."""
    world: World = sandbox.world
    world.send(OWNER, OWNER, "/start")
    async with at_the_desk(sandbox, settings) as desk:
        connection = await desk.connect()
        card = await desk.card(ANNA, "friday?")
        async with asyncio.timeout(10):
            while await secretary.card_at(desk.services.database, card.message_id) is None:
                await asyncio.sleep(0.01)
        index = next((i for i, part in enumerate(card.text.split("\n\n")[1:]) if line in part), None)
        async with desk.services.database.transaction():
            edited = line if index is None else None
            assert await drafts.claim(desk.services.database, 1, index, edited, datetime.now(UTC))
    world.post(OWNER, world.between(OWNER, ANNA).chat_id, text=line, business_bot=connection.bot)
    return card


async def test_a_stop_while_sending_never_sends_twice(sandbox: Sandbox, settings: Settings, script: Script) -> None:
    script.reply = lambda asked, i: ["first line\nsecond line", "what", "well then"][i % 3]
    card = await killed_while_sending(sandbox, settings, "first line")
    async with at_the_desk(sandbox, settings) as desk:
        await until(lambda: "I was stopped while sending" in card.text)
        assert labels(card) == ["send the rest", "skip"]
        async with asyncio.timeout(10):
            while await drafts.sent_lines(desk.services.database, 1) != {0}:
                await asyncio.sleep(0.01)
        assert desk.said_to(ANNA) == ["first line"], "nothing goes out by itself"
        desk.world.tap(OWNER, card, "send the rest")
        await desk.draft(1, "sent")
        assert desk.said_to(ANNA) == ["first line", "second line"]


async def test_what_was_sent_when_the_bot_was_stopped_is_settled_by_its_echo(
    sandbox: Sandbox, settings: Settings
) -> None:
    card = await killed_while_sending(sandbox, settings, "in my own words")
    async with at_the_desk(sandbox, settings) as desk:
        await desk.draft(1, "edited")
        await until(lambda: "Sent to Anna." in card.text)
        assert desk.said_to(ANNA) == ["in my own words"]


async def test_a_line_is_known_and_its_draft_settled_at_one_moment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, asked = drafts.settle, []

    async def dies_first(*given: Any, **options: Any) -> bool:
        asked.append(given)
        if len(asked) == 1:
            raise RuntimeError("as if killed here")
        return await plain(*given, **options)

    card = await desk.card(ANNA, "friday?")
    monkeypatch.setattr(drafts, "settle", dies_first)
    desk.world.tap(OWNER, card, "1")
    await desk.draft(1, "sent")  # the other of answer and echo does it: neither left half of it behind
    assert len(desk.said_to(ANNA)) == 1


async def test_another_person_s_connection_is_none_of_the_bot_s_business(desk: Desk, script: Script) -> None:
    desk.world.connect(BORIS)
    desk.world.write(ANNA, BORIS, "a secret")
    await asyncio.sleep(0.6)
    assert script.asked == []
    assert await history.messages(desk.services.database, ANNA) == []
    connections = [c for c in desk.world.connections.values() if c.user == BORIS]
    assert await secretary.find_connection(desk.services.database, connections[0].connection_id) is None


async def test_a_connection_made_while_the_bot_was_down_is_asked_for(sandbox: Sandbox, settings: Settings) -> None:
    sandbox.world.send(OWNER, OWNER, "/start")
    connection = sandbox.world.connect(OWNER)
    async with at_the_desk(sandbox, settings) as desk:
        async with desk.services.database.transaction():
            await desk.services.database.execute("DELETE FROM connection")
        card = await desk.card(ANNA, "friday?")
        assert labels(card)
        assert await secretary.find_connection(desk.services.database, connection.connection_id) is not None


def test_a_day_is_telegram_s() -> None:
    assert timedelta(seconds=sending.DAY_SECONDS) == timedelta(days=1)
