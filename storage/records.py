"""What the house speaks of: chats and messages as frozen records, times as aware UTC.

Ids are the Bot API's: a person's chat is his user id, a basic group is negative, a supergroup
or channel is -100… — so an export, the live account and the bot all name a chat the same way.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

BUSINESS_BOT = "business bot "  # begins `via_bot` of what the owner's own bot sent in his name, after his tap


class ChatKind(StrEnum):
    """Where a message stands. Training takes PERSONAL unless the owner opts others in."""

    PERSONAL = "personal"
    BOT = "bot"
    SAVED = "saved"
    GROUP = "group"
    SUPERGROUP = "supergroup"
    CHANNEL = "channel"
    OTHER = "other"  # Telegram's own service chats: replies, verification codes


class MessageKind(StrEnum):
    """What a message is made of. Only TEXT has words of its own; media keep their caption in `text`."""

    TEXT = "text"
    STICKER = "sticker"
    PHOTO = "photo"
    VIDEO = "video"
    ANIMATION = "animation"
    VOICE = "voice"
    VIDEO_NOTE = "video_note"
    AUDIO = "audio"
    FILE = "file"
    POLL = "poll"
    LOCATION = "location"
    CONTACT = "contact"
    GAME = "game"
    INVOICE = "invoice"
    SERVICE = "service"
    OTHER = "other"  # types newer than this list, 'unsupported' included


@dataclass(frozen=True, slots=True)
class Account:
    """The owner, as the export or Telegram itself names him."""

    user_id: int
    first_name: str = ""
    last_name: str = ""
    username: str = ""


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat of the owner's. `included` is his own on/off switch; None leaves it to the kind."""

    chat_id: int
    kind: ChatKind
    name: str
    included: bool | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it stands in the history. (chat_id, message_id) is its identity.

    `sender` is the export's form: "user123", "channel456", or None where Telegram no longer knows.
    `entities` is Telegram's own list as JSON text, or "" where the text is plain.
    """

    chat_id: int
    message_id: int
    date: datetime
    sender: str | None
    is_own: bool
    kind: MessageKind
    text: str
    emoji: str = ""  # a sticker's
    reply_to: int | None = None
    forwarded_from: str | None = None
    via_bot: str | None = None
    edited_at: datetime | None = None
    entities: str = ""
    deleted_at: datetime | None = None
