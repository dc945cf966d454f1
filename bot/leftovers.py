"""What a model server still holds of a forgotten chat: deleted there, now or as soon as it can be.

The debt lies in the database: files that were noted when they went there, of training sets that hold the chat.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

from bot.context import Services
from bot.failures import tell_owner
from bot.texts import say
from bot.voice import Voice
from storage import forgetting
from storage.database import Database
from storage.errors import ModelError, StorageError

AGAIN_SECONDS = 30.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cleared:
    """What became of the files. `lost`: servers that held some and are not the one that is asked now; `waits`: why
    some are still to be deleted."""

    owed: int
    deleted: int = 0
    lost: tuple[str, ...] = ()
    waits: str = ""

    @property
    def said(self) -> str:
        """In words; "" when there was nothing to do."""
        lines = [say("forget_deleted", files=self.deleted)] if self.owed and (self.deleted or not self.waits) else []
        lines += [say("forget_lost", servers=", ".join(self.lost))] if self.lost else []
        lines += [say("forget_waits", reason=self.waits)] if self.waits else []
        return "\n".join(lines)


async def clear(database: Database, voice: Voice | None) -> Cleared:
    """Delete what is owed, by the model server of today (None: there is none but in this home, and that is clean).

    One that is not there keeps it owed, and so does a kill at any moment.
    """
    asked = voice if voice is not None and not voice.only_model else None
    here = {"", asked.place if asked else ""}
    owed = await forgetting.owed(database)
    deleted, lost, waits = 0, set[str](), ""
    for file in owed:
        try:
            found = asked is not None and await asked.delete_file(file.file_id)
        except ModelError as error:
            log.warning("files of forgotten chats are not deleted: %s", error)
            waits = str(error)
            break
        deleted += found
        if not found and file.server not in here:
            lost.add(file.server)
        async with database.transaction():
            await forgetting.settled(database, file)
    return Cleared(len(owed), deleted, tuple(sorted(lost)), waits)


async def keep_up(services: Services) -> None:
    """Delete what is owed whenever something is, and tell the owner; of a server that is away only once."""
    told = ""
    while True:
        services.forgot.clear()
        with suppress(StorageError):
            cleared = await clear(services.database, services.voice)
            if cleared.said and not (told and cleared.waits and not cleared.deleted):
                await tell_owner(services.application, services.settings.owner_id, cleared.said)
            told = cleared.waits
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_SECONDS):
                await services.forgot.wait()
