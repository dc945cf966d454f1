"""Sending in the owner's name, after his tap and never without it: line by line, as he writes, once.

What was claimed is in the database before anything is sent, and each line as soon as Telegram has it. A stop in
between leaves a card that says how far it came; nothing is sent again by itself.
"""

import asyncio
import contextlib
import random
import time

from telegram.constants import ChatAction
from telegram.error import BadRequest, NetworkError, TelegramError

from bot import cards, incoming
from bot.context import Services
from bot.history import now
from storage import drafts, secretary
from storage.drafts import Draft
from storage.errors import StorageError
from storage.secretary import Card

DAY_SECONDS = 24 * 3600  # Telegram lets a bot answer in the owner's name so long after the friend's last message
LETTERS_A_SECOND = (6.0, 11.0)  # a thumb on glass
SHOW_AGAIN_SECONDS = 30.0
LEAST_PAUSE, LONGEST_PAUSE = 0.7, 6.0
REASONS = {
    "business_connection_invalid": "card_no_connection",
    "business_connection_not_allowed": "card_no_reply",
    "business_peer_usage_missing": "card_day_over",
    "business_peer_invalid": "card_peer",
    "premium_account_required": "card_premium",
    "peer_id_invalid": "card_peer",
    "chat not found": "card_peer",
    "blocked": "card_peer",
}


def pause_before(line: str, chance: random.Random) -> float:
    """Seconds that a person takes to type it."""
    return min(LONGEST_PAUSE, max(LEAST_PAUSE, len(line) / chance.uniform(*LETTERS_A_SECOND)))


def begin(services: Services, card: Card, draft: Draft) -> None:
    """Send what is missing of a claimed draft, beside the handlers."""
    if card.draft_id not in services.being_sent:
        services.being_sent.add(card.draft_id)
        services.spawn(_guarded(services, card, draft), "sending")


async def take_up(services: Services) -> None:
    """At start: cards that were not shown yet are shown, those that were being sent say so."""
    for card in await secretary.open_cards(services.database):
        if card.message_id is None:
            await cards.show(services, card)
    for draft in await drafts.being_sent(services.database):
        found = await secretary.find_card(services.database, draft.draft_id)
        if found is not None and draft.draft_id not in services.being_sent:
            known = len(await drafts.sent_lines(services.database, draft.draft_id))
            await cards.annotate(services, found, "card_interrupted", sent=str(known), lines=str(len(draft.lines)))


async def keep_up(services: Services) -> None:
    """Cards that Telegram did not take are shown when it takes them."""
    while True:
        await asyncio.sleep(SHOW_AGAIN_SECONDS)
        with contextlib.suppress(TelegramError, StorageError):
            for card in await secretary.open_cards(services.database):
                if card.message_id is None:
                    await cards.show(services, card)


async def _guarded(services: Services, card: Card, draft: Draft) -> None:
    try:
        refusal = await _refusal(services, card)
        if refusal is None:
            await _send(services, card, draft)
            await cards.show(services, (await secretary.find_card(services.database, card.draft_id)) or card)
        else:
            await _not_sent(services, card, refusal)
    except BadRequest as error:
        await _not_sent(services, card, reason(error), str(error))
    except NetworkError:  # the line may have gone out, or not
        known = len(await drafts.sent_lines(services.database, draft.draft_id))
        await cards.annotate(services, card, "card_no_answer", sent=str(known), lines=str(len(draft.lines)))
    except TelegramError as error:
        await _not_sent(services, card, reason(error), str(error))
    finally:
        services.being_sent.discard(card.draft_id)


def reason(error: TelegramError) -> str:
    """The text that tells the owner what Telegram minds, and what to do."""
    said = str(error).casefold()
    return next((key for part, key in REASONS.items() if part in said), "card_refused")


async def _refusal(services: Services, card: Card) -> str | None:
    """What Telegram would refuse, known without asking it."""
    connection = await secretary.find_connection(services.database, card.connection_id)
    if connection is None or not connection.is_enabled:
        return "card_no_connection"
    if not connection.can_reply:
        return "card_no_reply"
    return "card_day_over" if time.time() - card.answered_at > DAY_SECONDS else None


async def _send(services: Services, card: Card, draft: Draft) -> None:
    bot, chance = services.application.bot, random.Random()
    known = await drafts.sent_lines(services.database, draft.draft_id)
    to = {"chat_id": card.chat_id, "business_connection_id": card.connection_id}
    for number, line in enumerate(draft.lines):
        if number in known:
            continue
        if number:
            await bot.send_chat_action(action=ChatAction.TYPING, **to)
            await asyncio.sleep(pause_before(line, chance))
        message = await bot.send_message(text=line, **to)
        async with services.database.transaction():
            await incoming.keep(services.database, message, services.settings.owner_id)
            await note(services, draft, number, message.message_id)


async def note(services: Services, draft: Draft, line: int, message_id: int) -> bool:
    """A line stands in the friend's chat; inside a transaction. Whether it was the last: then he waits no longer."""
    assert draft.chat_id is not None
    last = await drafts.note_line(services.database, draft, line, message_id, now())
    if last:
        await secretary.no_longer(services.database, draft.chat_id)
    return last


async def _not_sent(services: Services, card: Card, key: str, detail: str = "") -> None:
    """The card says why. What has not begun to go out stands as before, to be tapped again."""
    async with services.database.transaction():
        if not await drafts.sent_lines(services.database, card.draft_id):
            await drafts.give_back(services.database, card.draft_id)
    await cards.annotate(services, card, key, reason=detail)
