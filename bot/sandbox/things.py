"""What there is in the small Telegram: people, chats, messages, and what happens to them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

TELEGRAM = 777000  # the user id of Telegram's own messages


@dataclass(frozen=True, slots=True)
class User:
    """A person or a bot. An extra is somebody in the background, whom nobody plays on the page."""

    user_id: int
    first_name: str
    last_name: str = ""
    username: str = ""
    is_bot: bool = False
    language: str = "en"
    is_extra: bool = False


@dataclass(slots=True)
class Chat:
    """A private chat with the bot (its id is the person's), a group, or a personal chat of two people.

    The id of a personal chat is the world's own: each of the two knows it by the other's id.
    """

    chat_id: int
    kind: Literal["private", "group", "personal"]
    title: str
    members: list[int]


@dataclass(slots=True)
class Option:
    """One answer of a poll and who chose it."""

    key: str
    text: str
    voters: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Poll:
    """A poll; a quiz has the indices of its right answers."""

    poll_id: str
    question: str
    options: list[Option]
    is_quiz: bool
    is_anonymous: bool
    correct: tuple[int, ...] = ()
    explanation: str = ""
    allows_multiple: bool = False
    is_closed: bool = False

    @property
    def voters(self) -> set[int]:
        """Everybody who has voted."""
        return {user for option in self.options for user in option.voters}


@dataclass(slots=True)
class Photo:
    """An uploaded file."""

    file_id: str
    content: bytes
    name: str


@dataclass(slots=True)
class Message:
    """A message of a chat. `buttons` are rows of (label, callback data)."""

    chat_id: int
    message_id: int
    sender: int
    date: datetime
    text: str = ""
    entities: list[dict[str, Any]] = field(default_factory=list)
    reply_to: int | None = None
    forwarded_from: int | None = None
    forwarded_name: str = ""
    buttons: list[list[dict[str, Any]]] = field(default_factory=list)
    poll: Poll | None = None
    photo: Photo | None = None
    edited: datetime | None = None
    business_bot: int | None = None  # the bot that sent it in the sender's name
    asks_reply: str | None = None  # the hint in the input line of whoever is asked to answer this very message


@dataclass(frozen=True, slots=True)
class Tap:
    """A press of an inline button."""

    tap_id: str
    user: int
    message: Message
    data: str


@dataclass(frozen=True, slots=True)
class Vote:
    """Somebody's whole answer to a poll; no option: taken back."""

    poll: Poll
    user: int
    chosen: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CloudDraft:
    """Words that a person has typed in a chat and not sent, as all his devices show them."""

    user: int
    chat_id: int
    text: str
    date: datetime


@dataclass(frozen=True, slots=True)
class Typing:
    """Somebody types; of a bot, with the beginning of what it is about to send (or "")."""

    sender: int
    chat_id: int
    text: str


@dataclass(slots=True)
class Connection:
    """A person's account lent to a bot (Secretary Mode)."""

    connection_id: str
    user: int
    bot: int
    date: datetime
    can_reply: bool = True
    is_enabled: bool = True


Kind = Literal[
    "message", "edited", "deleted", "tap", "vote", "poll", "answer", "typing", "draft", "connection", "commands"
]


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened. `what` is a Message, Tap, Vote, Poll, CloudDraft, Connection, Typing or (tap id, text)."""

    kind: Kind
    what: Any
    chat_id: int | None = None
