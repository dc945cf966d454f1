"""Telegram's own objects -> records, in the same form that an export's entries become.

Objects are told by the names of their types, so that this room needs no Telethon.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from storage.records import BUSINESS_BOT, Chat, ChatKind, Message, MessageKind

_CHANNELS = -(10**12)
_SERVICE_USERS = {777000, 1271266957, 489000}  # Telegram itself, Replies, verification codes
_MEDIA = {
    "MessageMediaPhoto": MessageKind.PHOTO,
    "MessageMediaGeo": MessageKind.LOCATION,
    "MessageMediaGeoLive": MessageKind.LOCATION,
    "MessageMediaVenue": MessageKind.LOCATION,
    "MessageMediaContact": MessageKind.CONTACT,
    "MessageMediaPoll": MessageKind.POLL,
    "MessageMediaGame": MessageKind.GAME,
    "MessageMediaInvoice": MessageKind.INVOICE,
}
_WORDS = ("NoneType", "MessageMediaEmpty", "MessageMediaWebPage")
_DOCUMENTS = {  # by attribute, the first that is there
    "DocumentAttributeSticker": MessageKind.STICKER,
    "DocumentAttributeCustomEmoji": MessageKind.STICKER,
    "DocumentAttributeAnimated": MessageKind.ANIMATION,
    "DocumentAttributeAudio": MessageKind.AUDIO,
    "DocumentAttributeVideo": MessageKind.VIDEO,
}
_ENTITIES = {  # as Telegram Desktop's export names them, and the fields that go with them
    "Mention": ("mention", {}),
    "Hashtag": ("hashtag", {}),
    "Cashtag": ("cashtag", {}),
    "BotCommand": ("bot_command", {}),
    "Url": ("link", {}),
    "Email": ("email", {}),
    "Phone": ("phone", {}),
    "BankCard": ("bank_card", {}),
    "Bold": ("bold", {}),
    "Italic": ("italic", {}),
    "Underline": ("underline", {}),
    "Strike": ("strikethrough", {}),
    "Spoiler": ("spoiler", {}),
    "Code": ("code", {}),
    "Pre": ("pre", {"language": "language"}),
    "TextUrl": ("text_link", {"href": "url"}),
    "MentionName": ("mention_name", {"user_id": "user_id"}),
    "CustomEmoji": ("custom_emoji", {"document_id": "document_id"}),
    "Blockquote": ("blockquote", {"collapsed": "collapsed"}),
}

Entities = Mapping[int, Any]  # users and chats by the house's ids


def chat_id_of(peer: Any) -> int:
    """The house's id of a Peer, InputPeer, User or Chat."""
    name = type(peer).__name__
    if name.startswith("Channel"):
        return int(_CHANNELS - peer.id)
    if name.startswith("Chat"):
        return -int(peer.id)
    if name.startswith("User"):
        return int(peer.id)
    if "Channel" in name:
        return int(_CHANNELS - peer.channel_id)
    return -int(peer.chat_id) if "Chat" in name else int(peer.user_id)


def entities_of(answer: Any) -> dict[int, Any]:
    """The users and chats that an answer brings along, by the house's ids."""
    return {chat_id_of(entity): entity for entity in (*answer.users, *answer.chats)}


def chat_of(entity: Any) -> Chat:
    """A User, Chat or Channel as the owner's chat with it."""
    return Chat(chat_id_of(entity), _kind_of_chat(entity), name_of(entity))


def name_of(entity: Any) -> str:
    """What a person or group is called."""
    if entity is None or getattr(entity, "deleted", False):
        return "Deleted account"
    if (title := getattr(entity, "title", None)) is not None:
        return str(title) or "Untitled"
    parts = (getattr(entity, "first_name", None), getattr(entity, "last_name", None))
    return " ".join(filter(None, parts)) or "Deleted account"


def why_not(chat: Chat) -> str:
    """The reason why a chat is not taken in; "" for personal ones and those switched on."""
    if chat.included is not None:
        return "" if chat.included else "switched off"
    return "" if chat.kind is ChatKind.PERSONAL else f"of the kind {chat.kind.value}"


def message_of(sent: Any, me: int, entities: Entities) -> Message | None:
    """A Message or MessageService; None for MessageEmpty."""
    if type(sent).__name__ == "MessageEmpty":
        return None
    chat_id = chat_id_of(sent.peer_id)
    sender = f"user{me}" if sent.from_id is None and sent.out else _sender(sent.from_id or sent.peer_id)
    text = (getattr(sent, "message", None) or "").replace("\0", "")
    kind, emoji = _kind_of(sent)
    edited = getattr(sent, "edit_date", None)
    return Message(
        chat_id=chat_id,
        message_id=sent.id,
        date=_utc(sent.date),
        sender=sender,
        is_own=sender == f"user{me}",
        kind=kind,
        text=text,
        emoji=emoji,
        reply_to=_reply_to(sent, chat_id),
        forwarded_from=_forwarded_from(getattr(sent, "fwd_from", None), entities),
        via_bot=_via_bot(sent, entities),
        edited_at=None if edited is None or sent.edit_hide else _utc(edited),  # hidden: a reaction, no edit
        entities=_entities(text, getattr(sent, "entities", None) or ()),
    )


def _kind_of_chat(entity: Any) -> ChatKind:
    name = type(entity).__name__
    if name.startswith("Channel"):
        return ChatKind.SUPERGROUP if getattr(entity, "megagroup", False) else ChatKind.CHANNEL
    if name.startswith("Chat"):
        return ChatKind.GROUP
    if getattr(entity, "is_self", False):
        return ChatKind.SAVED
    if entity.id in _SERVICE_USERS or getattr(entity, "support", False):
        return ChatKind.OTHER
    return ChatKind.BOT if getattr(entity, "bot", False) else ChatKind.PERSONAL


def _kind_of(sent: Any) -> tuple[MessageKind, str]:
    """What it is made of, and a sticker's emoji."""
    if type(sent).__name__ == "MessageService":
        return MessageKind.SERVICE, ""
    name = type(sent.media).__name__
    if name in _WORDS:
        return (MessageKind.TEXT if sent.message else MessageKind.OTHER), ""
    if name == "MessageMediaDocument":
        return _kind_of_document(getattr(sent.media.document, "attributes", ()))
    return _MEDIA.get(name, MessageKind.OTHER), ""


def _kind_of_document(attributes: Iterable[Any]) -> tuple[MessageKind, str]:
    found = {type(attribute).__name__: attribute for attribute in attributes}
    for name, kind in _DOCUMENTS.items():
        if (attribute := found.get(name)) is None:
            continue
        if kind is MessageKind.AUDIO and attribute.voice:
            kind = MessageKind.VOICE
        elif kind is MessageKind.VIDEO and attribute.round_message:
            kind = MessageKind.VIDEO_NOTE
        return kind, attribute.alt if kind is MessageKind.STICKER else ""
    return MessageKind.FILE, ""


def _sender(peer: Any) -> str:
    name = type(peer).__name__
    return f"user{peer.user_id}" if name == "PeerUser" else f"channel{getattr(peer, 'channel_id', 0) or peer.chat_id}"


def _reply_to(sent: Any, chat_id: int) -> int | None:
    """Of the same chat; a reply may also go to a story, or to a message of another chat."""
    header = getattr(sent, "reply_to", None)
    number = getattr(header, "reply_to_msg_id", None)
    elsewhere = getattr(header, "reply_to_peer_id", None)
    return number if elsewhere is None or chat_id_of(elsewhere) == chat_id else None


def _forwarded_from(header: Any, entities: Entities) -> str | None:
    if header is None:
        return None
    if header.from_name:
        return str(header.from_name)
    return name_of(entities.get(chat_id_of(header.from_id))) if header.from_id else "Deleted account"


def _via_bot(sent: Any, entities: Entities) -> str | None:
    if (business := getattr(sent, "via_business_bot_id", None)) is not None:
        return f"{BUSINESS_BOT}{business}"
    if (bot := getattr(sent, "via_bot_id", None)) is None:
        return None
    username = getattr(entities.get(bot), "username", None)
    return f"@{username}" if username else f"bot{bot}"


def _entities(text: str, found: Iterable[Any]) -> str:
    """The export's list of parts as JSON; "" where the text is plain. Offsets are UTF-16 units."""
    units = text.encode("utf-16-le")
    parts, end = [], 0
    for entity in sorted(found, key=lambda one: (one.offset, -one.length)):
        if entity.offset < end or (name := type(entity).__name__.removeprefix("MessageEntity")) not in _ENTITIES:
            continue  # inside another one, or newer than this list
        if entity.offset > end:
            parts.append({"type": "plain", "text": _cut(units, end, entity.offset)})
        end = entity.offset + entity.length
        kind, fields = _ENTITIES[name]
        more = {key: getattr(entity, field) for key, field in fields.items()}
        parts.append({"type": kind, "text": _cut(units, entity.offset, end), **more})
    if not parts:
        return ""
    if 2 * end < len(units):
        parts.append({"type": "plain", "text": _cut(units, end, len(units) // 2)})
    return json.dumps(parts, ensure_ascii=False)


def _cut(units: bytes, start: int, end: int) -> str:
    return units[2 * start : 2 * end].decode("utf-16-le", errors="replace")


def _utc(when: datetime) -> datetime:
    return when.astimezone(UTC)
