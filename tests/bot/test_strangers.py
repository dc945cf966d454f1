"""Who may do what: the handler table walked as a stranger, and everything forged refused and counted."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from telegram import Bot, Update, User
from telegram.ext import (
    BusinessConnectionHandler,
    BusinessMessagesDeletedHandler,
    CallbackQueryHandler,
    CommandHandler,
    MessageHandler,
    PollAnswerHandler,
    TypeHandler,
)

from bot import languages, overview, play, refused, secretary
from bot.application import build
from bot.context import App, Services
from bot.sandbox.server import Sandbox
from bot.sandbox.things import Option, Poll
from bot.settings import Settings
from storage import invitations, quizzes
from tests.bot.conftest import BOT, Listener, services_of, until
from tests.sandbox_fixtures import ANNA, BORIS, CLARA, GROUP, OWNER, TOKEN
from tests.voice_fixtures import Script

# What anybody may set off, and what keeps him in his place: a quiz link's token, a poll that was put to him, whose
# connection it is. Everything else asks who it is before it does anything.
OPEN_TO_ALL = {
    languages.listen, play.join, play.answered, overview.stranger, overview.unknown_button, refused.nobody,
    secretary.connected, secretary.written, secretary.edited, secretary.deleted,
}  # fmt: skip


def update_for(handler: Any, user_id: int, chat_id: int) -> Update:
    """An update that the handler would take if this person were allowed to."""
    user = {"id": user_id, "is_bot": False, "first_name": "Somebody"}
    chat = {"id": chat_id, "type": "private" if chat_id > 0 else "group", "first_name": "Somebody", "title": "Friends"}
    message = {"message_id": 1, "date": int(datetime.now(UTC).timestamp()), "chat": chat, "from": user}
    if isinstance(handler, CallbackQueryHandler):
        data = EXAMPLES[handler.pattern.pattern]  # type: ignore[union-attr]
        query = {"id": "1", "from": user, "chat_instance": "1", "data": data, "message": message}
        body: dict[str, Any] = {"callback_query": query}
    elif isinstance(handler, CommandHandler):
        command = f"/{next(iter(handler.commands))}"
        entities = [{"type": "bot_command", "offset": 0, "length": len(command)}]
        body = {"message": {**message, "text": command, "entities": entities}}
    else:
        body = {"message": {**message, "text": "draft me something"}}
    bot = Bot(TOKEN)
    bot._bot_user = User(4242, "likeme", is_bot=True, username="likeme_test_bot")  # as getMe would have told
    update = Update.de_json({"update_id": 1, **body}, bot)
    assert update is not None
    return update


EXAMPLES = {
    r"^card:\d+:(\d|edit|again|skip|rest)$": "card:1:0",
    r"^mode:\d+:(off|card|cloud)$": "mode:1:off",
    r"^draft:\d+:\d$": "draft:1:0",
    r"^again:\d+$": "again:1",
    r"^ask:\d+$": "ask:1",
    r"^askall:\d+$": "askall:1",
    r"^drop:\d+$": "drop:1",
    r"^link:\d+$": "link:1",
    r"^revoke:\d+$": "revoke:1",
    r"^train:cancel$": "train:cancel",
    r"^chats:\d+(:-?\d+:(on|off))?$": "chats:0:1002:off",
    r"^forget:-?\d+:(yes|no|undo)$": "forget:1002:yes",
}


def handlers(settings: Settings) -> list[Any]:
    app = build(settings)
    return [handler for group in app.handlers.values() for handler in group]


def owned(handler: Any) -> bool:
    return handler.callback not in OPEN_TO_ALL


@pytest.fixture
def plain() -> Settings:
    return Settings(bot_token=TOKEN, owner_id=OWNER)


@pytest.mark.parametrize("chat_id", [ANNA, GROUP])
def test_no_handler_of_the_table_takes_a_stranger_s_command_or_message(plain: Settings, chat_id: int) -> None:
    seen = 0
    for handler in handlers(plain):
        if isinstance(handler, CommandHandler | MessageHandler) and owned(handler):
            assert not handler.check_update(update_for(handler, ANNA, chat_id)), handler
            seen += 1
    assert seen > 10


def test_the_owner_s_handlers_do_take_the_owner_s(plain: Settings) -> None:
    for handler in handlers(plain):
        if isinstance(handler, CommandHandler | MessageHandler) and owned(handler):
            assert handler.check_update(update_for(handler, OWNER, OWNER)) not in (None, False), handler


async def test_every_button_asks_who_presses_it_before_anything_else(plain: Settings, monkeypatch: Any) -> None:
    stopped: list[int] = []

    async def unknown(update: Update, context: Any) -> None:
        stopped.append(1)

    monkeypatch.setattr(overview, "unknown_button", unknown)
    buttons = [h for h in handlers(plain) if isinstance(h, CallbackQueryHandler) and h.pattern is not None]
    assert {h.pattern.pattern for h in buttons} == set(EXAMPLES), "a new button: add an example of it here"
    for handler in buttons:
        nothing: Any = object()  # whatever a handler looked up in it would fail
        assert handler.check_update(update_for(handler, ANNA, ANNA))
        await handler.callback(update_for(handler, ANNA, ANNA), nothing)
    assert len(stopped) == len(buttons)


def test_nothing_else_stands_in_the_table_than_what_is_looked_at_here(plain: Settings) -> None:
    looked_at = (
        CommandHandler, MessageHandler, CallbackQueryHandler, PollAnswerHandler, BusinessConnectionHandler,
        BusinessMessagesDeletedHandler, TypeHandler,
    )  # fmt: skip
    for handler in handlers(plain):
        assert isinstance(handler, looked_at)
        if not isinstance(handler, CommandHandler | MessageHandler) and not isinstance(handler, CallbackQueryHandler):
            assert handler.callback in OPEN_TO_ALL


# Over the wire


@pytest.fixture
def model_url(scripted_url: str) -> str:
    """A model that says what a test wants."""
    return scripted_url


async def test_what_strangers_try_changes_nothing_is_counted_and_stands_in_status(
    sandbox: Sandbox, bot: App, script: Script
) -> None:
    world, services = sandbox.world, services_of(bot)
    hears = Listener(sandbox, OWNER)
    world.send(OWNER, OWNER, "/start")
    world.send(ANNA, ANNA, "/start")
    drafts = await hears.after(lambda: world.send(OWNER, OWNER, "are you coming?"), lambda m: bool(m.buttons))
    before = await _rows(services)
    for data in EXAMPLES.values():  # forged: each a button's data, pressed by somebody else
        world.tap_data(ANNA, drafts, data)
    for command in ("/train", "/versions", "/rollback 0", "/forget 2001", "/quiz", "/sync", "/mode", "/status"):
        world.send(ANNA, ANNA, command)
        world.send(BORIS, GROUP, command)
    world.send(ANNA, ANNA, "draft me something")
    world.send(ANNA, ANNA, "/start quiz_of-my-own-making")
    world.connect(BORIS)
    world.write(CLARA, BORIS, "a secret of others")
    world.vote(CLARA, _foreign_poll(sandbox), [0])
    expected = {"button": len(EXAMPLES), "message": 17, "quiz link": 1, "business connection": 1, "business message": 1}
    await until(lambda: services.refused == expected)
    assert await _rows(services) == before
    assert script.asked and len(script.asked) == 1, "no stranger's word came to the model"
    status = await hears.after(lambda: world.send(OWNER, OWNER, "/status"))
    assert "Refused to strangers since I was started: message 17" in status.text


async def _rows(services: Services) -> dict[str, list[tuple[Any, ...]]]:
    """All that is stored."""
    database = services.database
    tables = [row[0] for row in await database.rows(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'message_%' AND name NOT LIKE 'sqlite_%'"
    )]  # fmt: skip
    return {name: [tuple(row) for row in await database.rows(f"SELECT * FROM {name}")] for name in tables}


def _foreign_poll(sandbox: Sandbox) -> Poll:
    """A poll of the bot's that it has no record of."""
    poll = Poll("77", "which?", [Option("a", "A"), Option("b", "B")], is_quiz=True, is_anonymous=False, correct=(0,))
    sandbox.world.post(BOT, sandbox.world.private(CLARA).chat_id, poll=poll)
    return poll


async def test_a_poll_of_the_moment_of_a_kill_counts_for_the_friend_it_was_put_to(sandbox: Sandbox, bot: App) -> None:
    world, services = sandbox.world, services_of(bot)
    database, now = services.database, datetime.now(UTC)
    replies = tuple(quizzes.Reply(source, f"reply {source}") for source in ("real", "tuned", "stock"))  # type: ignore[arg-type]
    world.send(ANNA, ANNA, "/start")
    async with database.transaction():
        asked = [quizzes.NewQuestion(2000, 1, "a question", replies, "three")]
        quiz = await quizzes.add_quiz(database, chat_id=None, model="likeme-0001", seed=1, questions=asked, now=now)
        await quizzes.move(database, 1, "candidate", "approved")
        link = await invitations.add(database, token="t", quiz_id=quiz, now=now, expires_at=now + timedelta(days=1))
        await invitations.take(database, link, ANNA, "en")
        # As kill -9 leaves it: stored, sent, and the poll's id never heard.
        await invitations.add_asking(
            database, question_id=1, chat_id=ANNA, invitation_id=link, order=(2, 0, 1), now=now
        )
    poll = _foreign_poll(sandbox)
    world.vote(BORIS, poll, [1])  # somebody whom nothing was put to
    world.vote(ANNA, poll, [1])
    async with asyncio.timeout(20):
        while not (answers := await quizzes.answers(database)):
            await asyncio.sleep(0.02)
    assert [(a.voter_id, a.source) for a in answers] == [(ANNA, "real")]
