"""The real bot in the sandbox, with a real model server that has a tiny model."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from bot.application import build
from bot.context import App, Services
from bot.sandbox.server import Sandbox
from bot.sandbox.things import Event, Message
from bot.settings import Settings
from storage import history
from storage.database import Database
from storage.records import Account, Chat, ChatKind, MessageKind
from storage.records import Message as StoredMessage
from tests.sandbox_fixtures import OWNER, TOKEN
from training.evaluation import versions
from training.evaluation.evaluate import SHORT

BOT = int(TOKEN.split(":")[0])
FIRST = "yep hm right oof well ok nah sure".split()
SECOND = "thing mate then later bread monday soup why".split()
START = datetime(2026, 1, 5, 18, 0, tzinfo=UTC)


async def small_history(home: Path, chats: int = 8, pairs: int = 8) -> None:
    """An owner of few words."""
    async with Database.open(home / "history.db") as database, database.transaction():
        await history.set_account(database, Account(OWNER, "Owner"))
        for chat in range(chats):
            chat_id = 2000 + chat
            await history.put_chat(database, Chat(chat_id, ChatKind.PERSONAL, f"Friend {chat}"))
            messages = []
            for number in range(2 * pairs):
                own = number % 2 == 1
                day, index = divmod(number, 2)
                text = f"{FIRST[chat]} {SECOND[day]}" if own else f"Question {chat} {day}, are you there?"
                sender = OWNER if own else chat_id
                when = START + timedelta(days=day, minutes=index)
                messages.append(StoredMessage(chat_id, number + 1, when, f"user{sender}", own, MessageKind.TEXT, text))
            await history.put_messages(database, messages)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[App]:
    """The application from post_init to post_stop, polling."""
    app = build(settings)
    assert app.post_init is not None and app.post_stop is not None and app.updater is not None
    await app.initialize()
    await app.post_init(app)
    await app.start()
    await app.updater.start_polling(
        poll_interval=0,
        timeout=1,
        error_callback=lambda error: app.create_task(app.process_error(None, error)) and None,  # as run_polling does
    )
    try:
        yield app
    finally:
        await app.updater.stop()
        await app.stop()
        await app.post_stop(app)
        await app.shutdown()


@pytest.fixture(autouse=True)
def short_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bot's part is the same, however much the server measures."""
    monkeypatch.setitem(versions.EXTENTS, "full", SHORT)


@pytest.fixture
def owner_home(tmp_path: Path) -> Path:
    """Where everything of the owner lies."""
    return tmp_path / "owner"


@pytest.fixture
def telegram_url(sandbox: Sandbox) -> str:
    """The bot's way to Telegram."""
    return sandbox.url


@pytest_asyncio.fixture
async def settings(telegram_url: str, model_url: str, owner_home: Path) -> Settings:
    """A home with a small history; a module that needs another Telegram, model or home overrides that fixture."""
    await small_history(owner_home)
    return Settings(
        bot_token=TOKEN, owner_id=OWNER, bot_api_url=telegram_url, model_url=model_url, likeme_home=owner_home,
        burst_seconds=0.2,
    )  # fmt: skip


@pytest_asyncio.fixture
async def bot(settings: Settings) -> AsyncIterator[App]:
    """The bot, up."""
    async with running(settings) as app:
        yield app


def services_of(app: App) -> Services:
    """What the bot's handlers are handed."""
    services = app.bot_data["services"]
    assert isinstance(services, Services)
    return services


async def until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait for what comes to hold over the wire. TimeoutError."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


class Listener:
    """What the bot says from now on, in one chat."""

    def __init__(self, sandbox: Sandbox, chat_id: int) -> None:
        self._sandbox, self._chat = sandbox, chat_id

    async def after(
        self, act: Callable[[], object], wanted: Callable[[Message], bool] = lambda _: True, edits: bool = False
    ) -> Message:
        """Do `act`; the bot's first message in the chat after it that is `wanted`."""
        kinds = ("message", "edited") if edits else ("message",)
        async with self._sandbox.world.events() as events:
            act()
            async with asyncio.timeout(60):
                while True:
                    event: Event = await events.get()
                    what = event.what
                    if event.kind in kinds and what.sender == BOT and what.chat_id == self._chat and wanted(what):
                        assert isinstance(what, Message)
                        return what


@pytest_asyncio.fixture
async def owner_hears(sandbox: Sandbox) -> Listener:
    """What the bot says to the owner."""
    return Listener(sandbox, OWNER)
