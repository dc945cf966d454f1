"""What was refused to strangers, counted since the start: in the log by kind, and in /status."""

import logging

from telegram import Update

from bot.context import Context, Services

log = logging.getLogger(__name__)


def refuse(services: Services, what: str) -> None:
    """Count one refusal; who it was is nobody's business."""
    services.refused[what] += 1
    log.warning("refused: %s (%d so far)", what, services.refused[what])


async def nobody(update: Update, context: Context) -> None:
    """What no handler has taken, of anybody but the owner: a command, a forwarded message, an inline query."""
    user = update.effective_user
    if user is not None and user.id != context.services.settings.owner_id:
        refuse(context.services, "message")
