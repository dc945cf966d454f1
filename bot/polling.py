"""How updates come in: one is Telegram's until it is handled, and a refusal of the token ends the bot.

PTB confirms what lies in its queue; a kill -9 would lose it. Here `put` comes back when the update has been handled, so
that the next getUpdates confirms no more than that; what could not be stored (a full disk) is handled again.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from telegram import Bot, Update
from telegram.error import NetworkError, TelegramError
from telegram.request import HTTPXRequest

from bot.texts import duration

AGAIN_SECONDS, LONGEST_SECONDS = 1.0, 60.0

log = logging.getLogger(__name__)


class Updates(asyncio.Queue[object]):
    """The application's queue of one: filled again only when it has been emptied and worked off."""

    def __init__(self) -> None:
        super().__init__()
        self._failed = False
        self._in_hand: object = None
        self._handled: int | None = None
        self.ending = asyncio.Event()  # set when the bot is being stopped

    async def get(self) -> object:
        """What is handled next."""
        self._in_hand = await super().get()
        return self._in_hand

    def task_done(self) -> None:
        """It has been handled."""
        if isinstance(self._in_hand, Update) and not self._failed:
            self._handled = self._in_hand.update_id
        super().task_done()

    async def confirm(self, bot: Bot) -> None:
        """At the end: the update that was in hand when the bot was stopped is handled, and must not come again."""
        if self._handled is not None:
            with contextlib.suppress(TelegramError):
                await bot.get_updates(offset=self._handled + 1, timeout=0, limit=1)

    async def put(self, item: object) -> None:
        """Hand over an update, and wait until it has been handled."""
        if not isinstance(item, Update):  # PTB's word for the end
            self.ending.set()
        pause = AGAIN_SECONDS
        while True:
            self._failed = False
            await super().put(item)
            await self.join()
            if not self._failed:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_SECONDS)

    def again(self) -> None:
        """The update in hand could not be stored: it has to come again."""
        self._failed = True


class Polling(HTTPXRequest):
    """getUpdates' own connection: it notices a refused token, and how long Telegram is away."""

    def __init__(self, refused: Callable[[], None]) -> None:
        super().__init__()
        self._refused: Callable[[], None] | None = refused
        self._away_since = 0.0

    async def do_request(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        """One request."""
        try:
            status, content = await super().do_request(*args, **kwargs)
        except NetworkError as error:
            self._note_away(type(error.__cause__ or error).__name__)
            raise
        if status == HTTPStatus.UNAUTHORIZED and self._refused is not None:
            refused, self._refused = self._refused, None
            refused()
            await asyncio.Event().wait()  # the bot ends in order; an error here would end PTB's polling and no more
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._note_away(str(status))
        elif self._away_since:
            log.warning("Telegram is back after %s", duration(time.monotonic() - self._away_since))
            self._away_since = 0.0
        return status, content

    def _note_away(self, why: str) -> None:
        if not self._away_since:
            self._away_since = time.monotonic()
            log.warning("Telegram can't be reached (%s): I keep trying, nothing that comes meanwhile is lost", why)
