"""One chat, one entry of Telegram Desktop's export -> a record, or the reason why it can't be one.

The format is read from Telegram Desktop's own writer, from 2018 on:
- `text` is a string, or a list of strings and {type, text, …}; `text_entities` is always a list, and new.
- Until 2021 `from_id` is a bare number and there is no `date_unixtime`: `date` is local and names no zone.
  Ids then carried the kind of their owner in bit 32 (people) or 33 (chats); `edited` stood everywhere, as 1970.
- `from`, `forwarded_from` are null for an account that is gone. {"id": 5, "type": "unsupported"} has no date.
"""

import json
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final

from storage.records import Account, Chat, ChatKind, MessageKind
from storage.rows import Row

EMPTY: Final = "an empty entry"
NO_ID: Final = "without an id"
NO_DATE: Final = "without a date"
UNSUPPORTED: Final = "unsupported by Telegram Desktop, which wrote only an id"

_PEOPLE, _CHATS = 1 << 32, 1 << 33
_LATEST = 253_402_300_799  # the year 9999
_CHAT_KINDS = {
    "personal_chat": ChatKind.PERSONAL,
    "bot_chat": ChatKind.BOT,
    "saved_messages": ChatKind.SAVED,
    "private_group": ChatKind.GROUP,
    "private_supergroup": ChatKind.SUPERGROUP,
    "public_supergroup": ChatKind.SUPERGROUP,
    "private_channel": ChatKind.CHANNEL,
    "public_channel": ChatKind.CHANNEL,
}
_PEERS = {"channel": ChatKind.CHANNEL, "chat": ChatKind.GROUP}
_NAMELESS = {
    "saved_messages": "Saved messages",
    "replies": "Replies",
    "verification_codes": "Verification codes",
    "personal_chat": "Deleted account",
}
_MEDIA = {
    "sticker": MessageKind.STICKER.value,
    "animation": MessageKind.ANIMATION.value,
    "video_file": MessageKind.VIDEO.value,
    "video_message": MessageKind.VIDEO_NOTE.value,
    "voice_message": MessageKind.VOICE.value,
    "audio_file": MessageKind.AUDIO.value,
}
_PARTS = {
    "photo": MessageKind.PHOTO.value,
    "poll": MessageKind.POLL.value,
    "location_information": MessageKind.LOCATION.value,
    "live_location_period_seconds": MessageKind.LOCATION.value,
    "place_name": MessageKind.LOCATION.value,
    "contact_information": MessageKind.CONTACT.value,
    "game_title": MessageKind.GAME.value,
    "invoice_information": MessageKind.INVOICE.value,
    "giveaway_information": MessageKind.OTHER.value,
    "giveaway_results": MessageKind.OTHER.value,
    "paid_stars_amount": MessageKind.OTHER.value,
    "todo_list": MessageKind.OTHER.value,
    "file": MessageKind.FILE.value,
}
_PART_NAMES = frozenset(_PARTS)
_usual_fields = itemgetter("id", "type", "date", "date_unixtime", "from", "from_id", "text", "text_entities")
_USUAL_KEYS = 8
_json = json.JSONEncoder(ensure_ascii=False).encode
_TEXT, _SERVICE, _OTHER = MessageKind.TEXT.value, MessageKind.SERVICE.value, MessageKind.OTHER.value


def account_of(fields: Any) -> Account | None:
    """`personal_information`, where it is there and names an id."""
    if not isinstance(fields, dict) or (user_id := whole_number(fields.get("user_id"))) is None or user_id <= 0:
        return None
    first, last, username = (_plain(fields.get(key)) for key in ("first_name", "last_name", "username"))
    return Account(user_id, first, last, username.removeprefix("@"))


def chat_of(fields: dict[str, Any], old_ids: bool) -> Chat | None:
    """A chat's own fields; None without an id. `old_ids`: its messages name people by bare numbers."""
    found = whole_number(fields.get("id"))
    if found is None or abs(found) >= 1 << 52:
        return None
    written = fields.get("type")
    kind = _CHAT_KINDS.get(written, ChatKind.OTHER) if isinstance(written, str) else ChatKind.OTHER
    name = _plain(fields.get("name")) or (_NAMELESS.get(written, "") if isinstance(written, str) else "")
    return Chat(_marked(found % _PEOPLE if old_ids and found >= _PEOPLE else found, kind), kind, name or "Untitled")


def _marked(bare: int, kind: ChatKind) -> int:
    if bare < 0:  # marked already
        return bare
    if kind is ChatKind.GROUP:
        return -bare
    return -(10**12) - bare if kind in (ChatKind.SUPERGROUP, ChatKind.CHANNEL) else bare


def has_old_ids(entries: list[Any]) -> bool:
    """Whether these name people as exports did until 2021."""
    return any(
        isinstance(entry, dict)
        and "date_unixtime" not in entry
        and type(entry.get("from_id", entry.get("actor_id"))) is int
        for entry in entries
    )


def sender_of(entry: dict[str, Any]) -> str | None:
    """ "user123", "channel456", or None where Telegram no longer knows."""
    sender = entry.get("from_id")
    if sender is None:
        sender = entry.get("actor_id")
    if type(sender) is str:
        return sender or None
    if type(sender) is not int:
        return None
    if "date_unixtime" in entry or sender < _PEOPLE:
        return f"user{sender}"
    return f"channel{sender % _PEOPLE}" if _CHATS <= sender < 2 * _CHATS else f"user{sender % _PEOPLE}"


def row_of(entry: Any, chat_id: int, own: str) -> Row | str:
    """A row for the database, or why there is none. `own` is the owner as a sender."""
    if type(entry) is not dict:
        return EMPTY
    if len(entry) == _USUAL_KEYS and (row := _usual(entry, chat_id, own)):
        return row
    message_id = entry.get("id")
    if type(message_id) is not int and (message_id := whole_number(message_id)) is None:
        return NO_ID
    date = _seconds(entry.get("date_unixtime")) or _local(entry.get("date"))
    if date is None:
        return UNSUPPORTED if entry.get("type") == "unsupported" else NO_DATE
    text, entities = _text_of(entry)
    sender = entry.get("from_id")
    if type(sender) is not str:
        sender = sender_of(entry)
    kind = _kind_of(entry, text)
    forwarded = entry.get("forwarded_from")
    if forwarded is None and ("forwarded_from" in entry or "saved_from" in entry):
        forwarded = entry.get("saved_from") or "Deleted account"
    via_bot = entry.get("via_bot")
    edited = entry.get("edited")
    return (
        chat_id,
        message_id,
        date,
        sender,
        1 if sender == own else 0,
        kind,
        text,
        _plain(entry.get("sticker_emoji")) if kind == "sticker" else "",
        _reply_to(entry, chat_id) if "reply_to_message_id" in entry else None,
        None if forwarded is None else _plain(forwarded),
        None if via_bot is None else _plain(via_bot),
        None if edited is None and "edited_unixtime" not in entry else _edited(entry),
        entities,
        None,
    )


def _usual(entry: dict[str, Any], chat_id: int, own: str) -> Row | None:
    """Three of four messages are plain words and have these keys alone: half the work for them."""
    try:
        message_id, written, _, seconds, _, sender, text, entities = _usual_fields(entry)
    except KeyError:
        return None
    if type(message_id) is not int or written != "message" or type(sender) is not str or type(seconds) is not str:
        return None
    if type(text) is not str or not text or "\0" in text or len(seconds) != 10 or not seconds.isdecimal():
        return None
    only = entities[0] if type(entities) is list and len(entities) == 1 else None
    if type(only) is not dict or only.get("type") != "plain":
        return None
    own_one = 1 if sender == own else 0
    return (chat_id, message_id, int(seconds), sender, own_one, _TEXT, text, "", None, None, None, None, "", None)


def whole_number(value: Any) -> int | None:
    """An id, also where another program wrote it as text; None for what no id can be."""
    if type(value) is int:
        return value
    if type(value) is str and len(value) < 20 and value.removeprefix("-").isdecimal():
        return int(value)
    return int(value) if type(value) is float and value.is_integer() and abs(value) < 1 << 53 else None


def _seconds(value: Any) -> int | None:
    if type(value) is str and len(value) == 10 and value.isdecimal():  # 2001 to 2286
        return int(value)
    seconds = whole_number(value)
    return seconds if seconds is not None and 0 < seconds <= _LATEST else None


def _local(value: Any) -> int | None:
    """Local time without a zone, taken as UTC; Telegram did not exist in 1970, so that means none."""
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value)
        seconds = int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None
    return seconds if seconds > 365 * 86_400 else None


def _edited(entry: dict[str, Any]) -> int | None:
    return _seconds(entry.get("edited_unixtime")) or _local(entry.get("edited"))


def _reply_to(entry: dict[str, Any], chat_id: int) -> int | None:
    """Of the same chat; a reply may also go to a message of another one."""
    if isinstance(elsewhere := entry.get("reply_to_peer_id"), str):
        kind = _PEERS.get(elsewhere.rstrip("0123456789"), ChatKind.PERSONAL)
        bare = whole_number(elsewhere.lstrip("abcdefghijklmnopqrstuvwxyz"))
        if bare is None or _marked(bare, kind) != chat_id:
            return None
    return whole_number(entry.get("reply_to_message_id"))


def _kind_of(entry: dict[str, Any], text: str) -> str:
    written = entry.get("type")
    if written != "message" and written is not None:
        return _SERVICE if written == "service" else _OTHER
    media = entry.get("media_type")
    if media is not None:
        return _MEDIA.get(media, _OTHER) if isinstance(media, str) else _OTHER
    if _PART_NAMES.isdisjoint(entry):
        return _TEXT if text else _OTHER
    return next(_PARTS[part] for part in _PARTS if part in entry)


def _text_of(entry: dict[str, Any]) -> tuple[str, str]:
    """The words, and Telegram's entities as JSON where there are any beyond plain words."""
    text, entities = entry.get("text"), entry.get("text_entities")
    if type(text) is str:
        only = entities[0] if type(entities) is list and len(entities) == 1 else None
        if not entities or (type(only) is dict and only.get("type") == "plain"):
            return (text.replace("\0", "") if "\0" in text else text), ""
    parts = text if isinstance(text, list) else entities if text is None and isinstance(entities, list) else [text]
    if not isinstance(entities, list) or not entities:
        entities = [{"type": "plain", "text": part} if isinstance(part, str) else part for part in parts]
    formatted = any(isinstance(part, dict) and part.get("type") != "plain" for part in entities)
    return "".join(map(_words, parts)), _json(entities) if formatted else ""


def _words(part: Any) -> str:
    return _plain(part.get("text")) if isinstance(part, dict) else _plain(part)


def _plain(value: Any) -> str:
    """Text as it can be kept: a NUL would end it for many readers."""
    return value.replace("\0", "") if isinstance(value, str) else ""
