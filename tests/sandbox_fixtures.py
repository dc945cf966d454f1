"""A running sandbox for the tests, every exchange held against Telegram's schema."""

from collections.abc import AsyncIterator, Callable

import pytest_asyncio

from bot.sandbox.server import Sandbox
from bot.sandbox.world import World
from tests.bot_api_schema import SCHEMA, Validator

TOKEN = "4242:" + "A" * 35
OWNER, ANNA, BORIS, CLARA = 1001, 1002, 1003, 1004
GROUP = -500


def small_world() -> World:
    """An owner, three friends, a bot, and a group of them all."""
    world = World()
    for user_id, name in ((OWNER, "Owner"), (ANNA, "Anna"), (BORIS, "Boris"), (CLARA, "Clara")):
        world.add_user(user_id, name)
    bot = world.add_bot(TOKEN, "likeme_test_bot", "likeme")
    world.add_group(GROUP, "Friends", [OWNER, ANNA, BORIS, CLARA, bot.user_id])
    return world


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """The small world on a loopback port."""
    check: Callable[..., None] | None = Validator() if SCHEMA.is_file() else None
    async with Sandbox.start(small_world(), on_exchange=check) as running:
        yield running
    if isinstance(check, Validator):
        assert check.violations == []
