"""A whole Telegram on loopback: Bot API, MTProto and the page over one world, and the way there for likeme."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bot.sandbox.mtproto.accounts import Account
from bot.sandbox.mtproto.server import API_HASH, API_ID, MtprotoServer
from bot.sandbox.server import Sandbox
from bot.sandbox.world import World

PHONE = "447700900001"  # of a range that is kept for stories


def new_token() -> str:
    """A bot's token, of this box alone."""
    return f"10000:{secrets.token_urlsafe(27)[:35]}"


@dataclass(frozen=True, slots=True)
class Box:
    """The running servers; `account` is the owner's, who signs in with PHONE."""

    world: World
    sandbox: Sandbox
    telegram: MtprotoServer
    account: Account

    @property
    def url(self) -> str:
        """The page's address."""
        return self.sandbox.page.url

    def environment(self, key: Path) -> dict[str, str]:
        """What likeme needs to come here instead of to Telegram; writes the server's public key to `key`."""
        key.write_text(self.telegram.public_key, encoding="ascii")
        return {
            "BOT_TOKEN": next(iter(self.world.bots)),
            "OWNER_ID": str(self.account.user_id),
            "BOT_API_URL": self.sandbox.url,
            "API_ID": str(API_ID),
            "API_HASH": API_HASH,
            "MTPROTO_SERVER": f"127.0.0.1:{self.telegram.port}",
            "MTPROTO_KEY": str(key.resolve()),
        }

    async def followed(self) -> None:
        """Until likeme follows the owner's account: what is written before, it takes in without drafting."""
        while not self.telegram.calls["GetDifference"]:  # noqa: ASYNC110 - the server tells nobody of it
            await asyncio.sleep(0.05)


@asynccontextmanager
async def opened(world: World, owner: int, port: int = 0) -> AsyncIterator[Box]:
    """Serve `world` while the block runs; `port`: the page's and the Bot API's (0: any free one)."""
    async with Sandbox.start(world, port) as sandbox, MtprotoServer.start(world) as telegram:
        yield Box(world, sandbox, telegram, telegram.add_account(owner, PHONE))
