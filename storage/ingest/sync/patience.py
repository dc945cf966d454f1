"""Asking Telegram: floods and outages are waited out, for as long as Telegram says.

The client is made with flood_sleep_threshold=0: Telethon's own sleep would use up a request's retries, and six
floods in a row would end it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from telethon import TelegramClient, errors

log = logging.getLogger(__name__)

TOLD_SECONDS = 60  # longer waits are told
RECONNECT_SECONDS = (5, 20, 60)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the owner should know while he waits."""

    kind: Literal["flood", "takeout_delay", "offline"]
    seconds: int


class Patient:
    """Asks Telegram; waits out floods and outages, for as long as Telegram says."""

    def __init__(
        self,
        client: TelegramClient,
        tell: Callable[[Notice], None] = lambda notice: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.client = client
        self.tell = tell
        self.waited_seconds = 0
        self._sleep = sleep

    async def __call__(self, request: Any) -> Any:
        """The answer. Raises ConnectionError after some minutes without a connection."""
        outages = iter(RECONNECT_SECONDS)
        while True:
            try:
                return await self.client(request)
            except errors.FloodWaitError as flood:
                await self._wait(max(1, flood.seconds), "flood")
            except (OSError, errors.ServerError, errors.TimedOutError) as error:
                if (seconds := next(outages, None)) is None:
                    raise
                log.warning("%s: again in %d s", type(error).__name__, seconds)
                await self._wait(seconds, "offline")
                if not self.client.is_connected():
                    await self._reconnect()

    async def _wait(self, seconds: int, kind: Literal["flood", "offline"]) -> None:
        if seconds > TOLD_SECONDS:
            self.tell(Notice(kind, seconds))
        self.waited_seconds += seconds
        await self._sleep(seconds)

    async def _reconnect(self) -> None:
        try:
            await self.client.connect()
        except OSError as error:
            log.warning("still no connection: %s", type(error).__name__)
