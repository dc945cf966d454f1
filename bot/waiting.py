"""Who waits for drafts: a burst is awaited, one job a chat, the newest state wins, one draft at a time.

The list lies in SQLite, so a restart goes on where it was. Handlers only write to it: the bot answers
commands at once, however many friends wait.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

from bot import quiet
from storage import secretary
from storage.database import Database
from storage.errors import LikemeError, ModelError, StorageError
from storage.secretary import Waiting

BURST_SHARE = 4  # a friend who never pauses is answered after this many waits
AGAIN_SECONDS = 30.0  # after the model server failed

log = logging.getLogger(__name__)

Serve = Callable[[Waiting], Awaitable[None]]


class WaitingList:
    """Jobs and the one worker that does them. `serve` draws and shows; it takes the job off the list itself."""

    def __init__(self, database: Database, burst_seconds: float, serve: Serve) -> None:
        self._database, self._burst, self._serve = database, burst_seconds, serve
        self._changed = asyncio.Event()
        self._failed = False

    async def add(self, job: Waiting) -> None:
        """Let a chat wait until its burst is over; inside a transaction. Call `wake` behind it."""
        standing = await secretary.waiting_in(self._database, job.chat_id)
        since = standing.since if standing else job.since
        due = min(job.since + self._burst, since + BURST_SHARE * self._burst)
        await secretary.wait(self._database, replace(job, since=since, due=max(due, job.due)))

    def wake(self) -> None:
        """Something on the list, or about the quiet hours, has changed."""
        self._changed.set()

    async def work(self, report: Callable[[Exception], Awaitable[object]]) -> None:
        """Serve for ever. `report` hears of what goes wrong, of a model server that is away only once."""
        while True:
            try:
                await self._turn(report)
            except StorageError as error:  # the disk is full, or the file is locked: nothing is taken off the list
                await report(error)
                await asyncio.sleep(AGAIN_SECONDS)

    async def _turn(self, report: Callable[[Exception], Awaitable[object]]) -> None:
        self._changed.clear()
        job = await secretary.next_waiting(self._database)
        pause = None if job is None else await self._seconds_until(job)
        if job is None or (pause is not None and pause > 0):
            await self._sleep(pause)
            return
        try:
            await self._serve(job)
            self._failed = False
        except ModelError as error:
            await self._put_off(job)
            if not self._failed:
                self._failed = True
                await report(error)
        except StorageError:
            raise
        except Exception as error:
            await self._drop(job)
            if not isinstance(error, LikemeError):
                log.exception("drafts for chat %s failed", job.chat_id)
            await report(error)

    async def _seconds_until(self, job: Waiting) -> float:
        now = datetime.now().astimezone()
        quiet_until = quiet.ends(await secretary.preference(self._database, "quiet"), now)
        resting = max(timedelta(), quiet_until - now).total_seconds() if quiet_until else 0.0
        return max(job.due - time.time(), resting)

    async def _sleep(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _put_off(self, job: Waiting) -> None:
        async with self._database.transaction():
            await secretary.put_off(self._database, job, time.time() + AGAIN_SECONDS)

    async def _drop(self, job: Waiting) -> None:
        async with self._database.transaction():
            await secretary.served(self._database, job)
