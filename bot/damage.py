"""A voice whose files are damaged never speaks: the last good one does, and the owner is told."""

import logging
from collections.abc import Awaitable, Callable

from bot.history import now
from bot.texts import say
from bot.voice import Voice
from storage import runs
from storage.database import Database
from storage.errors import Damaged

log = logging.getLogger(__name__)
Tell = Callable[[str], Awaitable[None]]


async def sound(database: Database, voice: Voice, tell: Tell) -> runs.Version | None:
    """The version that speaks (None: stock), its files checked; damaged ones give way to the last good one."""
    while (version := await runs.serving(database)) is not None:
        if voice.only_model:  # another engine, with files of its own
            return version
        try:
            await voice.described(version.name)
            return version
        except Damaged:
            await fall_back(database, version, tell)
    return None


async def fall_back(database: Database, damaged: runs.Version, tell: Tell) -> None:
    """Let the last good version speak instead of a damaged one, and tell the owner."""
    async with database.transaction():
        await runs.note_damaged(database, damaged.number, now())
        serving = await runs.serving(database)
        if serving is None or serving.number != damaged.number:
            return
        number = await runs.last_good(database)
        await runs.serve(database, number, "rollback", f"the files of version {damaged.number} are damaged", now())
    log.error("version %d is damaged, %s speaks", damaged.number, number or "the stock model")
    speaks = say("rolled_back", number=number) if number else say("rolled_to_stock")
    await tell(say("version_damaged", number=damaged.number, speaks=speaks))
