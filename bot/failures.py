"""What goes wrong, told: ids and a traceback to the log, never a text; one line to the owner, once while it lasts."""

import logging
import time
from typing import cast

from telegram import Update
from telegram.error import BadRequest, Conflict, NetworkError, TelegramError

from bot.context import App, Context, Services
from bot.polling import Updates
from bot.texts import Reader, say, writing_to
from storage.errors import LikemeError, StorageError

TELL_AGAIN_SECONDS = 3600.0

log = logging.getLogger(__name__)


async def failed(update: object, context: Context) -> None:
    """PTB's error handler."""
    error, number = context.error, update.update_id if isinstance(update, Update) else None
    services = context.application.bot_data.get("services")
    if isinstance(error, NetworkError) and not isinstance(error, BadRequest):
        log.warning("update %s: Telegram did not answer (%s)", number, type(error.__cause__ or error).__name__)
        return  # the owner can't be told now; polling.py notes how long it lasts
    if isinstance(error, Conflict):
        log.error("%s", say("conflict"))
        await _tell_once(services, _said(services, "conflict"))
        return
    if isinstance(error, LikemeError):
        log.error("update %s: %s: %s", number, type(error).__name__, error)
    else:
        log.error("update %s failed", number, exc_info=error)
    if isinstance(error, StorageError):
        queue = context.application.update_queue
        if number is not None and isinstance(queue, Updates):
            queue.again()
        await _tell_once(services, str(error))
    elif isinstance(services, Services):
        text = str(error) if isinstance(error, LikemeError) else _said(services, "error", kind=type(error).__name__)
        await tell_owner(cast(App, context.application), services.settings.owner_id, text)


def _said(services: object, key: str, **values: str) -> str:
    """In the owner's language, whoever's update failed."""
    with writing_to(services.owner if isinstance(services, Services) else Reader()):
        return say(key, **values)


async def _tell_once(services: object, text: str) -> None:
    if not isinstance(services, Services):
        return
    told, now = services.told, time.monotonic()
    if text not in told or now - told[text] > TELL_AGAIN_SECONDS:
        told[text] = now
        await tell_owner(services.application, services.settings.owner_id, text)


async def tell_owner(app: App, owner_id: int, text: str) -> None:
    """A line to the owner, if he can be reached."""
    try:
        await app.bot.send_message(owner_id, text)
    except TelegramError as error:
        log.warning("the owner could not be told: %s", type(error).__name__)
