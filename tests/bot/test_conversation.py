"""The bot as its owner, his friends and strangers meet it: over the wire, unchanged."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from telegram.ext import Application, CallbackQueryHandler, CommandHandler, MessageHandler

from bot.context import App
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from bot.work import roll_back
from storage import drafts, quizzes, runs
from storage.database import Database
from tests.bot.conftest import Listener, running
from tests.sandbox_fixtures import ANNA, BORIS, CLARA, GROUP, OWNER

pytestmark = pytest.mark.slow


async def trained(sandbox: Sandbox, owner_hears: Listener) -> None:
    world = sandbox.world
    done = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/train"), lambda m: m.photo is not None)
    assert "Version 1 is ready" in done.text
    assert done.photo is not None
    assert done.photo.content.startswith(b"\x89PNG")


async def test_start_greets_the_owner_and_tells_a_stranger_only_his_own_id(
    sandbox: Sandbox, bot: App, owner_hears: Listener
) -> None:
    world = sandbox.world
    hello = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/start"))
    assert "Hello Owner" in hello.text
    stranger = await Listener(sandbox, ANNA).after(lambda: world.send(ANNA, ANNA, "/start"))
    assert stranger.text.endswith(f"Your user id is {ANNA}.")
    assert {c["command"] for c in world.commands[bot.bot.id, f"chat:{OWNER}"]} >= {"train", "quiz", "rollback"}
    assert {c["command"] for c in world.commands[bot.bot.id, "all_group_chats"]} == {"quiz", "standings"}


async def test_a_pasted_message_becomes_three_drafts_and_a_tap_gives_one_once(
    sandbox: Sandbox, bot: App, owner_hears: Listener, settings: Settings
) -> None:
    world = sandbox.world
    shown = await owner_hears.after(lambda: world.send(OWNER, OWNER, "are you coming?"), lambda m: bool(m.buttons))
    labels = [button["text"] for row in shown.buttons for button in row]
    assert labels[-1] == "again"
    assert 1 <= len(labels) - 1 <= 3
    async with Database.open(settings.likeme_home / "history.db") as database:
        stored = await drafts.find(database, 1)
        assert stored is not None
        taken = await owner_hears.after(lambda: world.tap(OWNER, shown, "1"))
        assert taken.text == stored.replies[0].split("\n")[0].strip()
        answer = asyncio.create_task(world.wait_for(lambda e: e.kind == "answer"))
        await asyncio.sleep(0)
        world.tap(OWNER, shown, "1")
        assert (await answer).what[1] == "That one has been taken already."
        chosen = await drafts.find(database, 1)
        assert chosen is not None
        assert chosen.chosen == 0


async def test_training_ends_with_a_picture_and_the_voice_speaks_until_rolled_back(
    sandbox: Sandbox, bot: App, owner_hears: Listener, settings: Settings
) -> None:
    world = sandbox.world
    await trained(sandbox, owner_hears)
    versions = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/versions"))
    assert versions.text.startswith("▶ 1 ")
    drafted = await owner_hears.after(lambda: world.send(OWNER, OWNER, "hello?"), lambda m: bool(m.buttons))
    assert drafted.text.endswith("likeme-0001")
    back = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/rollback"))
    assert back.text == "The stock model speaks from now on."
    drafted = await owner_hears.after(lambda: world.send(OWNER, OWNER, "hello?"), lambda m: bool(m.buttons))
    assert drafted.text.endswith("tiny")
    assert (await roll_back(settings, 1))["serving"] == 1  # `likeme rollback 1` beside the running bot
    drafted = await owner_hears.after(lambda: world.send(OWNER, OWNER, "hello?"), lambda m: bool(m.buttons))
    assert drafted.text.endswith("likeme-0001")
    none = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/rollback 7"))
    assert "no version 7" in none.text


async def test_report_sends_the_pictures_and_the_numbers_of_the_voice_that_speaks(
    sandbox: Sandbox, bot: App, owner_hears: Listener, settings: Settings
) -> None:
    world = sandbox.world
    none = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/report"))
    assert "Nothing has been measured of the stock model" in none.text
    await trained(sandbox, owner_hears)
    told = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/report"), lambda m: "McNemar" in m.text)
    pictures = [m for m in world.messages.values() if m.photo is not None and m.message_id < told.message_id]
    assert len(pictures) == 1 + 3, "the training's own, and three of the evaluation"
    assert "drafts with one of your history's 0 secrets: 0 of" in told.text


async def test_the_gate_decides_who_speaks_and_its_reason_stands_in_the_chat(
    sandbox: Sandbox, bot: App, owner_hears: Listener, settings: Settings
) -> None:
    world = sandbox.world
    path = settings.likeme_home / "history.db"
    async with Database.open(path) as database, database.transaction():
        await database.execute(
            "UPDATE message SET text = text || ' write to mira@example.org' WHERE chat_id = 2003 AND is_own = 0"
        )
    done = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/train"), lambda m: m.photo is not None)
    async with Database.open(path) as database:
        version = await runs.find_version(database, 1)
        assert version is not None and version.evaluation is not None
        serving = await runs.serving(database)
        assert (serving is not None) == version.evaluation["gate"]["promote"]
        assert version.evaluation["gate"]["reason"] in done.text
        assert version.evaluation["leaks"]["history_secrets"]["secrets"] >= 1


async def test_a_training_can_be_cancelled_from_its_message(sandbox: Sandbox, bot: App, owner_hears: Listener) -> None:
    world = sandbox.world
    started = await owner_hears.after(
        lambda: world.send(OWNER, OWNER, "/train"), lambda m: "examples to train on" in m.text, edits=True
    )
    while bot.bot_data["services"].training_job is None:
        await asyncio.sleep(0.01)
    again = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/train"))
    assert "running already" in again.text
    ended = await owner_hears.after(
        lambda: world.tap(OWNER, started, "cancel"), lambda m: "cancelled" in m.text, edits=True
    )
    assert ended.message_id == started.message_id
    assert ended.buttons == []


async def test_a_quiz_reaches_the_group_only_after_the_owner_s_tap_and_counts_each_vote_once(
    sandbox: Sandbox, bot: App, owner_hears: Listener, settings: Settings
) -> None:
    world = sandbox.world
    world.send(OWNER, OWNER, "/start")
    await trained(sandbox, owner_hears)
    group: list[object] = []
    world.observe(lambda e: group.append(e.what) if e.kind == "message" and e.chat_id == GROUP else None)
    ready = await owner_hears.after(
        lambda: world.send(OWNER, GROUP, "/quiz 2"), lambda m: any(r[0]["text"] == "send all" for r in m.buttons)
    )
    assert len(group) == 1, "only the owner's own /quiz stands in the group before his tap"
    candidates = [m for m in world.messages.values() if any(b["text"] == "drop" for r in m.buttons for b in r)]
    assert candidates
    forged = world.tap_data(ANNA, ready, ready.buttons[0][0]["callback_data"])
    await world.wait_for(lambda e: e.kind == "answer" and e.what[0] == forged.tap_id)
    assert len(group) == 1, "a friend's press of the owner's button does nothing"
    heard = Listener(sandbox, GROUP)
    asked = await heard.after(lambda: world.tap(OWNER, ready, "send all"), lambda m: m.poll is not None)
    poll = asked.poll
    assert poll is not None
    assert poll.is_quiz
    assert not poll.is_anonymous
    assert len(poll.options) == 3
    assert world.vote(ANNA, poll, [poll.correct[0]])
    wrong = (poll.correct[0] + 1) % 3
    assert world.vote(BORIS, poll, [wrong])
    assert world.vote(OWNER, poll, [poll.correct[0]])
    assert not world.vote(BORIS, poll, [poll.correct[0]]), "a quiz takes one answer of each"
    async with Database.open(settings.likeme_home / "history.db") as database:
        async with asyncio.timeout(20):
            while len(answers := await quizzes.answers(database)) < 2:
                await asyncio.sleep(0.02)
        assert [answer.source == "real" for answer in answers] == [True, False]
        assert {answer.model for answer in answers} == {"likeme-0001"}
        assert OWNER not in {answer.voter_id for answer in answers}, "the owner's own answer is kept apart"
    board = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/standings"), lambda m: m.photo is not None)
    assert "the real reply: 50% (1 of 2; 95 % interval 9%–91%)" in board.text
    assert "too few" in board.text


async def test_a_restart_between_card_and_tap_loses_nothing(
    sandbox: Sandbox, settings: Settings, owner_hears: Listener
) -> None:
    world = sandbox.world
    async with running(settings):
        shown = await owner_hears.after(lambda: world.send(OWNER, OWNER, "well?"), lambda m: bool(m.buttons))
    world.tap(OWNER, shown, "1")  # while the bot is down
    world.send(CLARA, CLARA, "/start")
    taken = asyncio.create_task(owner_hears.after(lambda: None))
    await asyncio.sleep(0)
    async with running(settings):
        assert (await taken).reply_to is None
    async with Database.open(settings.likeme_home / "history.db") as database:
        draft = await drafts.find(database, 1)
        assert draft is not None
        assert draft.chosen == 0


async def test_a_version_that_was_trained_while_the_bot_was_down_is_noted_at_start(
    sandbox: Sandbox, settings: Settings, owner_hears: Listener
) -> None:
    async with running(settings):
        await trained(sandbox, owner_hears)
    path = settings.likeme_home / "history.db"
    async with Database.open(path) as database, database.transaction():
        await runs.serve(database, None, "rollback", "a test", datetime(2026, 1, 1, tzinfo=UTC))
        await database.execute("DELETE FROM promotion")
        await database.execute("DELETE FROM version")
    async with running(settings), Database.open(path) as database:
        async with asyncio.timeout(20):
            while not await runs.versions(database):
                await asyncio.sleep(0.02)


async def test_strangers_and_unknown_buttons_change_nothing(sandbox: Sandbox, bot: App, owner_hears: Listener) -> None:
    world = sandbox.world
    shown = await owner_hears.after(lambda: world.send(OWNER, OWNER, "hm?"), lambda m: bool(m.buttons))
    for user, data in ((ANNA, "draft:1:0"), (OWNER, "draft:99:0"), (OWNER, "nonsense"), (ANNA, "train:cancel")):
        answered = asyncio.create_task(world.wait_for(lambda e: e.kind == "answer"))
        await asyncio.sleep(0)
        world.tap_data(user, shown, data)
        await answered
    world.send(ANNA, ANNA, "/train")
    world.send(ANNA, ANNA, "draft something")
    world.send(ANNA, ANNA, "/versions")
    status = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/status"))
    assert "Training: none" in status.text
    assert [m for m in world.messages.values() if m.chat_id == ANNA and m.sender == bot.bot.id] == []


def test_every_handler_but_polls_quiz_links_and_the_strangers_start_is_the_owner_s_alone(
    settings: Settings, tmp_path: Path
) -> None:
    from bot.application import build

    app: Application = build(settings)  # type: ignore[type-arg]
    free = []
    for handler in app.handlers[0]:
        if isinstance(handler, CommandHandler | MessageHandler):
            if f"<{OWNER}>" not in str(handler.filters) and str(OWNER) not in str(handler.filters):
                free.append(handler.callback.__name__)
        elif isinstance(handler, CallbackQueryHandler):
            if handler.callback.__name__ != "guarded":
                free.append(handler.callback.__name__)
        else:
            free.append(handler.callback.__name__)
    business = ["connected", "written", "edited", "deleted"]  # these look the connection's owner up
    assert free == ["join", *business, "unknown_button", "answered", "nobody"]
