"""`likeme sync` over MTProto, killed and done again."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.soak_books import Books, rows
from bench.soak_process import Process, until
from bot import account
from bot.sandbox.mtproto.server import API_HASH, API_ID, MtprotoServer
from bot.sandbox.world import World
from bot.settings import Settings
from tests.mtproto_fixtures import PHONE, Answers, anybody

OWNER, FRIENDS = 1001, range(6000, 6012)
START = datetime(2025, 6, 1, tzinfo=UTC)


class Syncing:
    """An owner's account that grows, and a home that fetches it."""

    def __init__(self, folder: Path, telegram: MtprotoServer, settings: Settings, books: Books, chance: random.Random):
        self._telegram, self._books, self._chance, self._number = telegram, books, chance, 0
        self.home = settings.likeme_home
        environment = {
            "API_ID": str(API_ID), "API_HASH": API_HASH, "MTPROTO_SERVER": settings.mtproto_server,
            "MTPROTO_KEY": settings.mtproto_key, "LIKEME_HOME": str(settings.likeme_home),
        }  # fmt: skip
        self._process = Process(folder / "sync.log", "-m", "bot", "sync", **environment)

    @classmethod
    @asynccontextmanager
    async def start(cls, folder: Path, books: Books, chance: random.Random) -> AsyncIterator["Syncing"]:
        """A world of its own, the owner signed in."""
        folder.mkdir(parents=True)
        world = World()
        for user_id in (OWNER, *FRIENDS):
            world.add_user(user_id, f"Friend {user_id}")
        async with MtprotoServer.start(world) as telegram:
            owner = telegram.add_account(OWNER, PHONE)
            key = folder / "server.pem"
            key.write_text(telegram.public_key)
            settings = Settings(
                api_id=API_ID, api_hash=API_HASH, mtproto_server=f"127.0.0.1:{telegram.port}", mtproto_key=str(key),
                likeme_home=folder / "home",
            )  # fmt: skip
            await account.login(settings, Answers(owner), anybody)
            yield cls(folder, telegram, settings, books, chance)

    async def round(self) -> None:
        """More is written, edited, deleted; the sync is killed somewhere among it."""
        self._grow()
        calls = self._telegram.calls
        before = calls.total()
        await self._process.start()
        far = before + self._chance.randrange(1, 20)
        await until(lambda: not self._process.is_up() or calls.total() >= far, 30, look=0.001)
        self._books.notes["syncs killed before they were done"] += self._process.is_up()
        await self._process.kill()

    async def settle(self) -> None:
        """One sync to the end, then the comparison."""
        await self._process.start()
        code = await self._process.ended()
        self._books.balance("the last sync's exit code", 0, code)
        world = self._telegram.world
        places = {friend: world.between(OWNER, friend).chat_id for friend in FRIENDS}
        expected = {(f, m.message_id, m.text) for f in FRIENDS for m in world.history(places[f])}
        path = self.home / "history.db"
        there = rows(path, "SELECT chat_id, message_id, text FROM message WHERE deleted_at IS NULL")
        self._books.balance("synced messages", len(expected), len(there))
        self._books.balance("synced messages, word for word", expected, set(there))
        self._books.integrity("the synced home", path)

    def _grow(self) -> None:
        world, chance = self._telegram.world, self._chance
        for _ in range(chance.randrange(100, 400)):
            friend = chance.choice(FRIENDS)
            pair = (friend, OWNER) if chance.random() < 0.5 else (OWNER, friend)
            self._number += 1
            world.write(*pair, f"sync {self._number}", date=START + timedelta(minutes=self._number))
        place = world.between(OWNER, chance.choice(FRIENDS)).chat_id
        for message in chance.sample(world.history(place), k=min(4, len(world.history(place)))):
            world.edit(message, text=f"{message.text} edited") if chance.random() < 0.5 else world.delete(message)
