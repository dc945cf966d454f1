"""The first words of a card while the rest is being drawn, where Telegram shows such drafts (sendMessageDraft)."""

import asyncio
import time
from collections.abc import Callable, Sequence

from telegram.constants import ParseMode
from telegram.error import TelegramError

from bot.context import Services
from bot.suitable import DRAFTS, so_far

EVERY_SECONDS = 0.7  # a quicker model is done before there is anything to show


class Stream:
    """One card's growing text. It is decoration: what goes wrong with it is nobody's business."""

    def __init__(self, services: Services, render: Callable[[Sequence[str]], str], chat_id: int) -> None:
        self._services, self._render, self._number = services, render, abs(chat_id) % 2**31 or 1
        self._shown_at = time.monotonic()
        self._showing: asyncio.Task[None] | None = None

    def grown(self, texts: Sequence[str]) -> None:
        """The replies as far as they are."""
        busy = self._showing is not None and not self._showing.done()
        if busy or time.monotonic() - self._shown_at < EVERY_SECONDS:
            return
        begun = [seen for text in texts if (seen := so_far(text))][:DRAFTS]
        if not begun:
            return
        self._shown_at = time.monotonic()
        text = self._render(begun)
        self._showing = asyncio.create_task(self._show(text))

    async def close(self) -> None:
        """The card itself comes now."""
        if self._showing is not None:
            self._showing.cancel()
            await asyncio.wait([self._showing])

    async def _show(self, text: str) -> None:
        bot, owner = self._services.application.bot, self._services.settings.owner_id
        try:
            await bot.send_message_draft(owner, self._number, text, parse_mode=ParseMode.HTML)
        except TelegramError:
            self._shown_at += 3600.0
