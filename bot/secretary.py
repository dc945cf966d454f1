"""Secretary Mode: what happens in the owner's private chats, into the history and onto the waiting list."""

import time

from telegram import BusinessConnection, Message, Update

from bot import cards, incoming, sending
from bot.context import Context, Services
from bot.history import now
from bot.refused import refuse
from bot.texts import say
from storage import drafts, history, secretary
from storage.drafts import Draft
from storage.forgetting import forgotten
from storage.secretary import Connection, Waiting


async def connected(update: Update, context: Context) -> None:
    """A business connection was made, changed or ended."""
    connection = update.business_connection
    assert connection is not None
    services = context.services
    if connection.user.id != services.settings.owner_id:
        refuse(services, "business connection")  # anybody may connect any bot; this one works for its owner
        return
    before = await secretary.find_connection(services.database, connection.id)
    await _note(services, connection)
    if before is None and connection.is_enabled:
        key = "connected" if _can_reply(connection) else "connected_no_reply"
    else:
        key = "disconnected" if not connection.is_enabled else "connection_changed"
    await context.bot.send_message(services.settings.owner_id, say(key))


async def written(update: Update, context: Context) -> None:
    """A message in one of the owner's chats: from the friend, from him, or from ourselves in his name."""
    message, services = update.business_message, context.services
    assert message is not None
    if not await _is_ours(services, message):
        return
    own = message.from_user is not None and message.from_user.id == services.settings.owner_id
    settled = None
    async with services.database.transaction():
        await incoming.keep(services.database, message, services.settings.owner_id)
        if message.sender_business_bot is not None:
            settled = await _note_echo(services, message)
        elif own:
            await secretary.no_longer(services.database, message.chat.id)
        else:
            await _let_wait(services, message)
    services.waiting.wake()
    if settled is not None and settled.draft_id not in services.being_sent:
        card = await secretary.find_card(services.database, settled.draft_id)
        if card is not None:
            await cards.show(services, card)
    if own and message.sender_business_bot is None:
        await cards.answered(services, message.chat.id, message.text or message.caption or "")


async def edited(update: Update, context: Context) -> None:
    """Somebody has changed a message: a card that stands on it is drafted anew, and says so."""
    message, services = update.edited_business_message, context.services
    assert message is not None
    if not await _is_ours(services, message):
        return
    own = message.from_user is not None and message.from_user.id == services.settings.owner_id
    async with services.database.transaction():
        await incoming.keep(services.database, message, services.settings.owner_id)
    if own:
        return
    for card in await secretary.open_cards(services.database, message.chat.id):
        if message.message_id <= card.answers:
            await cards.annotate(services, card, "card_edited")
            await cards.draft_again(services, card)


async def deleted(update: Update, context: Context) -> None:
    """Messages were deleted: they leave the history, and a card that stands on one says so."""
    gone, services = update.deleted_business_messages, context.services
    assert gone is not None
    if await _connection(services, gone.business_connection_id) is None:
        refuse(services, "business message")
        return
    async with services.database.transaction():
        await history.delete(services.database, gone.chat.id, gone.message_ids, now())
    for card in await secretary.open_cards(services.database, gone.chat.id):
        if any(number <= card.answers for number in gone.message_ids):
            await cards.annotate(services, card, "card_deleted")


async def _is_ours(services: Services, message: Message) -> bool:
    """Whether it belongs to a connection of the owner's, and to no chat that he has had forgotten."""
    connection_id = message.business_connection_id
    if connection_id is None or await _connection(services, connection_id) is None:
        refuse(services, "business message")
        return False
    return message.chat.id not in await forgotten(services.database)


async def _connection(services: Services, connection_id: str) -> Connection | None:
    """A connection of the owner's; Telegram is asked about one that was made while the bot was down."""
    known = await secretary.find_connection(services.database, connection_id)
    if known is not None:
        return known
    told = await services.application.bot.get_business_connection(connection_id)
    return await _note(services, told) if told.user.id == services.settings.owner_id else None


async def _note(services: Services, told: BusinessConnection) -> Connection:
    connection = Connection(told.id, _can_reply(told), told.is_enabled)
    async with services.database.transaction():
        await secretary.put_connection(services.database, connection)
    return connection


def _can_reply(connection: BusinessConnection) -> bool:
    return bool(connection.rights and connection.rights.can_reply)


async def _let_wait(services: Services, message: Message) -> None:
    if await secretary.mode(services.database, message.chat.id) != "card":
        return
    clock = time.time()
    connection_id = message.business_connection_id
    job = Waiting(message.chat.id, "card", connection_id, message.message_id, since=clock, due=clock)
    await services.waiting.add(job)


async def _note_echo(services: Services, message: Message) -> Draft | None:
    """What we sent comes back: known by now, unless we were stopped before Telegram's answer reached us.

    The draft, if that settled it.
    """
    for draft in await drafts.being_sent(services.database):
        known = await drafts.sent_lines(services.database, draft.draft_id)
        line = next((i for i, text in enumerate(draft.lines) if i not in known and text == message.text), None)
        if draft.chat_id == message.chat.id and line is not None:
            return draft if await sending.note(services, draft, line, message.message_id) else None
    return None
