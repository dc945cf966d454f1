"""A running MTProto server over the small world, and settings that lead to it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bot import account
from bot.context import App, Services
from bot.sandbox.mtproto.accounts import Account
from bot.sandbox.mtproto.server import API_HASH, API_ID, MtprotoServer
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from storage.records import Account as Owner
from tests.bot.conftest import services_of, until
from tests.sandbox_fixtures import OWNER, small_world

PHONE, PASSWORD = "447700900001", "correct horse"


class Answers:
    """A person at the terminal: what he types, and what he was told."""

    def __init__(self, account: Account, *codes: str, passwords: tuple[str, ...] = (PASSWORD,)) -> None:
        self._account = account
        self._codes, self._passwords = list(codes), list(passwords)
        self.told: list[str] = []

    def phone(self) -> str:
        return f"+{PHONE}"

    def code(self) -> str:
        """A wrong code while there is one, then what Telegram has sent."""
        return self._codes.pop(0) if self._codes else self._account.last_code

    def password(self) -> str:
        return self._passwords.pop(0)

    def tell(self, line: str) -> None:
        self.told.append(line)


async def anybody(owner: Owner) -> None:
    """Whose account it is does not matter here."""


@pytest_asyncio.fixture
async def telegram() -> AsyncIterator[MtprotoServer]:
    """The small world's MTProto side; the owner's account has no second step."""
    async with MtprotoServer.start(small_world()) as running:
        running.add_account(OWNER, PHONE)
        yield running


@pytest_asyncio.fixture
async def mtproto(sandbox: Sandbox) -> AsyncIterator[MtprotoServer]:
    """The account's side of the world that the Bot API's sandbox has."""
    async with MtprotoServer.start(sandbox.world) as running:
        running.add_account(OWNER, PHONE)
        yield running


@pytest.fixture
def account_settings(telegram: MtprotoServer, tmp_path: Path) -> Settings:
    """A home whose account lives on the test server."""
    return settings_for(telegram, tmp_path)


def settings_for(telegram: MtprotoServer, folder: Path) -> Settings:
    key = folder / "server.pem"
    key.write_text(telegram.public_key)
    return Settings(
        api_id=API_ID,
        api_hash=API_HASH,
        mtproto_server=f"127.0.0.1:{telegram.port}",
        mtproto_key=str(key),
        likeme_home=folder / "home",
    )


async def with_account(settings: Settings, telegram: MtprotoServer, folder: Path) -> Settings:
    """The same settings, the owner signed in."""
    its = settings_for(telegram, folder).model_dump(exclude_unset=True, exclude={"likeme_home"})
    both = settings.model_copy(update=its)
    await account.login(both, Answers(telegram.accounts[PHONE]), anybody)
    return both


async def followed(app: App) -> Services:
    """Once the bot follows the account."""
    services = services_of(app)
    await until(lambda: services.follower.own is not None)
    await asyncio.sleep(0.3)  # until the first difference has come
    return services


@pytest_asyncio.fixture
async def signed_in(telegram: MtprotoServer, account_settings: Settings) -> Settings:
    """The same, signed in."""
    await account.login(account_settings, Answers(telegram.accounts[PHONE]), anybody)
    return account_settings
