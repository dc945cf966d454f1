"""The owner at his phone: his account lent to the real bot, his friends writing to him."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from bot import sending
from bot.context import App, Services
from bot.sandbox.server import Sandbox
from bot.sandbox.things import Connection, Message
from bot.settings import Settings
from storage import drafts
from storage.drafts import Draft
from tests.bot.conftest import Listener, running, services_of
from tests.sandbox_fixtures import OWNER

CHANGED = "onnect"  # stands in whatever the bot says of a connection


class Desk:
    """What he sees and does."""

    def __init__(self, sandbox: Sandbox, app: App) -> None:
        self.sandbox, self.world, self.services = sandbox, sandbox.world, services_of(app)
        self.hears = Listener(sandbox, OWNER)

    async def connect(self, **terms: bool) -> Connection:
        made: list[Connection] = []
        await self.hears.after(lambda: made.append(self.world.connect(OWNER, **terms)), lambda m: CHANGED in m.text)
        return made[0]

    async def card(self, friend: int, *texts: str) -> Message:
        """What a friend's lines bring."""
        return await self.hears.after(
            lambda: [self.world.write(friend, OWNER, text) for text in texts], lambda m: bool(m.buttons)
        )

    async def draft(self, number: int, state: str) -> Draft:
        return await draft_in(self.services, number, state)

    def said_to(self, friend: int) -> list[str]:
        """What the owner's name has said in a chat."""
        return [m.text for m in self.world.history(self.world.between(OWNER, friend).chat_id) if m.sender == OWNER]


@asynccontextmanager
async def at_the_desk(sandbox: Sandbox, settings: Settings) -> AsyncIterator[Desk]:
    async with running(settings) as app:
        yield Desk(sandbox, app)


@pytest.fixture
def quick_thumbs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses of somebody who types, without the waiting."""
    monkeypatch.setattr(sending, "LEAST_PAUSE", 0.01)
    monkeypatch.setattr(sending, "LONGEST_PAUSE", 0.02)


@pytest_asyncio.fixture
async def desk(sandbox: Sandbox, settings: Settings, quick_thumbs: None) -> AsyncIterator[Desk]:
    """A running bot whose owner has written to it and connected it."""
    sandbox.world.send(OWNER, OWNER, "/start")
    async with at_the_desk(sandbox, settings) as made:
        await made.connect()
        yield made


async def draft_in(services: Services, number: int, state: str) -> Draft:
    """The stored draft, once it is in a state."""
    async with asyncio.timeout(30):
        while True:
            found = await drafts.find(services.database, number)
            if found is not None and found.state == state:
                return found
            await asyncio.sleep(0.01)


def labels(card: Message) -> list[str]:
    """What stands on its buttons."""
    return [button["text"] for row in card.buttons for button in row]
