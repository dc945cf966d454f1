"""What goes out to Telegram: within its limits, and through its absences without saying anything twice to a friend."""

import asyncio
import itertools
import os
from collections.abc import Iterator
from typing import Any

import httpx
from telegram.error import BadRequest, NetworkError
from telegram.ext import AIORateLimiter

FLOODS = 20  # 429s in a row that are waited out
LONGEST_SECONDS = 30.0
TRIES = 8  # of a request that may have arrived
os.environ.setdefault("PTB_TIMEDELTA", "1")  # or every 429 comes with a deprecation warning
_NEVER_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Outgoing(AIORateLimiter):
    """A request that never left is repeated until it does; one that may have arrived only where twice does no harm."""

    def __init__(self, owner_id: int, ending: asyncio.Event) -> None:
        super().__init__(max_retries=FLOODS)
        self._owner_id, self._ending = owner_id, ending

    async def process_request(
        self, callback: Any, args: Any, kwargs: dict[str, Any], endpoint: str, data: dict[str, Any],
        rate_limit_args: int | None,
    ) -> Any:  # fmt: skip
        """One request, as often as it takes."""
        harmless = self._harmless(endpoint, data)
        for number, seconds in enumerate(pauses(), 1):
            try:
                return await super().process_request(callback, args, kwargs, endpoint, data, rate_limit_args)
            except BadRequest:
                raise
            except NetworkError as error:
                if not isinstance(error.__cause__, _NEVER_LEFT) and (not harmless or number == TRIES):
                    raise
                if await self._ends_within(seconds):
                    raise

    async def _ends_within(self, seconds: float) -> bool:
        """Wait; True where the bot is being stopped meanwhile: nobody waits for Telegram then."""
        try:
            async with asyncio.timeout(seconds):
                return await self._ending.wait()
        except TimeoutError:
            return False

    def _harmless(self, endpoint: str, data: dict[str, Any]) -> bool:
        """Whether nobody but the owner would see it twice."""
        says = endpoint.startswith(("send", "forward", "copy"))
        return not says or (data.get("chat_id") == self._owner_id and not data.get("business_connection_id"))


def pauses() -> Iterator[float]:
    """Seconds between one try and the next, without end."""
    return itertools.chain((1.0, 2.0, 4.0, 8.0, 16.0), itertools.repeat(LONGEST_SECONDS))
