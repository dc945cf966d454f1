"""A message of the owner's private chats, as the Bot API tells it, into the history."""

from datetime import UTC, datetime

from telegram import Message

from storage import history
from storage.database import Database
from storage.records import Chat, ChatKind, MessageKind
from storage.records import Message as Record

_KINDS = {
    "sticker": MessageKind.STICKER,
    "photo": MessageKind.PHOTO,
    "animation": MessageKind.ANIMATION,
    "video": MessageKind.VIDEO,
    "voice": MessageKind.VOICE,
    "video_note": MessageKind.VIDEO_NOTE,
    "audio": MessageKind.AUDIO,
    "document": MessageKind.FILE,
    "poll": MessageKind.POLL,
    "location": MessageKind.LOCATION,
    "contact": MessageKind.CONTACT,
    "game": MessageKind.GAME,
    "invoice": MessageKind.INVOICE,
    "text": MessageKind.TEXT,
}


async def keep(database: Database, message: Message, owner_id: int) -> None:
    """Put it into the history, or apply its edit; inside a transaction."""
    place = message.chat
    name = place.full_name or place.username or str(place.id)
    await history.put_chat(database, Chat(place.id, ChatKind.PERSONAL, name))
    await history.put_messages(database, [record(message, owner_id)])


def record(message: Message, owner_id: int) -> Record:
    """As the export and the live account name it: in a business chat ids are the owner's own."""
    sender = message.from_user.id if message.from_user else message.chat.id
    kind = next((kind for name, kind in _KINDS.items() if getattr(message, name, None)), MessageKind.OTHER)
    return Record(
        chat_id=message.chat.id,
        message_id=message.message_id,
        date=_utc(message.date),
        sender=f"user{sender}",
        is_own=sender == owner_id,
        kind=kind,
        text=message.text or message.caption or "",
        emoji=(message.sticker.emoji or "") if message.sticker else "",
        reply_to=message.reply_to_message.message_id if message.reply_to_message else None,
        forwarded_from="forwarded" if message.forward_origin else None,
        via_bot=message.via_bot.username if message.via_bot else None,
        edited_at=_utc(message.edit_date) if message.edit_date else None,
    )


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
