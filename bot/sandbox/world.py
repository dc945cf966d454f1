"""A small Telegram: users, chats, messages, buttons, polls, cloud drafts. It knows no HTTP and no MTProto.

People act by its methods (send, write, tap, vote …), bots by the Bot API over it, an owner's own client by
MTProto. Whatever happens is an `Event` that observers get: each bot's queue of updates is one observer, each
account's another, a scripted friend a third.
"""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from bot.sandbox.things import (
    TELEGRAM,
    Chat,
    CloudDraft,
    Connection,
    Event,
    Kind,
    Message,
    Photo,
    Poll,
    Tap,
    Typing,
    User,
    Vote,
)


class World:
    """Everything there is. One event loop."""

    def __init__(self) -> None:
        self.users: dict[int, User] = {}
        self.bots: dict[str, User] = {}  # by token
        self.chats: dict[int, Chat] = {}
        self.messages: dict[tuple[int, int], Message] = {}
        self.drafts: dict[tuple[int, int], CloudDraft] = {}  # by (user, chat)
        self.connections: dict[str, Connection] = {}
        self.photos: dict[str, Photo] = {}
        self.commands: dict[tuple[int, str], list[dict[str, str]]] = {}  # (bot, scope as JSON)
        self.started: set[tuple[int, int]] = set()  # (user, bot): a bot can't write first
        self._observers: list[Callable[[Event], None]] = []
        self.since = self.now()
        self._newest = 0
        self._personal = itertools.count(10**13)

    def add_user(
        self, user_id: int, first_name: str, last_name: str = "", username: str = "", *, is_extra: bool = False
    ) -> User:
        """A person."""
        user = User(user_id, first_name, last_name, username, is_extra=is_extra)
        self.users[user_id] = user
        return user

    def add_bot(self, token: str, username: str, name: str) -> User:
        """A bot; its id stands before the colon of its token."""
        bot = User(int(token.split(":")[0]), name, "", username, is_bot=True)
        self.users[bot.user_id] = bot
        self.bots[token] = bot
        return bot

    def add_telegram(self) -> None:
        """Telegram's own account, which tells people their login codes."""
        self.users[TELEGRAM] = User(TELEGRAM, "Telegram", is_bot=True, is_extra=True)

    def add_group(self, chat_id: int, title: str, members: Iterable[int]) -> Chat:
        """A group; ids of groups are negative."""
        self.chats[chat_id] = Chat(chat_id, "group", title, list(members))
        return self.chats[chat_id]

    def private(self, user_id: int) -> Chat:
        """The chat between a person and the bot."""
        if user_id not in self.chats:
            person = self.users[user_id]
            name = f"{person.first_name} {person.last_name}".strip()
            self.chats[user_id] = Chat(user_id, "private", name, [user_id])
        return self.chats[user_id]

    def between(self, one: int, other: int) -> Chat:
        """The personal chat of two people; of one with himself: his saved messages."""
        both = {one, other}
        found = (chat for chat in self.chats.values() if chat.kind == "personal" and set(chat.members) == both)
        chat = next(found, None)
        if chat is None:
            chat = Chat(next(self._personal), "personal", "", sorted(both))
            self.chats[chat.chat_id] = chat
        return chat

    def history(self, chat_id: int) -> list[Message]:
        """A chat's messages, oldest first."""
        return [message for (chat, _), message in self.messages.items() if chat == chat_id]

    def now(self) -> datetime:
        """The world's clock."""
        return datetime.now(UTC)

    # What people and bots do

    def post(
        self, sender: int, chat_id: int, date: datetime | None = None, message_id: int = 0, **content: Any
    ) -> Message:
        """A new message; `date` and `message_id` for one of the past."""
        message_id = message_id or self._newest + 1
        self._newest = max(self._newest, message_id)
        message = Message(chat_id, message_id, sender, date or self.now(), **content)
        self.messages[chat_id, message.message_id] = message
        self._happened("message", message, chat_id)
        return message

    def send(self, user: int, chat_id: int, text: str, **content: Any) -> Message:
        """A person writes; a leading /command is marked as one, as Telegram does."""
        if chat_id == user:
            self.private(user)
            self.started.update((user, bot.user_id) for bot in self.bots.values())
        if text.startswith("/"):
            length = len(text.split()[0])
            content["entities"] = [{"type": "bot_command", "offset": 0, "length": length}]
        return self.post(user, chat_id, text=text, **content)

    def write(self, sender: int, receiver: int, text: str, **content: Any) -> Message:
        """A person writes to another one."""
        return self.post(sender, self.between(sender, receiver).chat_id, text=text, **content)

    def connect(self, user: int, *, can_reply: bool = True, is_enabled: bool = True) -> Connection:
        """A person lends his account to the bot, or changes on what terms."""
        bot = next(iter(self.bots.values())).user_id
        known = next((c for c in self.connections.values() if (c.user, c.bot) == (user, bot)), None)
        connection = known or Connection(secrets.token_urlsafe(12), user, bot, self.now())
        connection.can_reply, connection.is_enabled = can_reply, is_enabled
        self.connections[connection.connection_id] = connection
        self._happened("connection", connection)
        return connection

    def stream(self, sender: int, chat_id: int, text: str = "") -> None:
        """Somebody types; a bot shows the beginning of what it is about to send."""
        self._happened("typing", Typing(sender, chat_id, text), chat_id)

    def set_commands(self, bot: int, scope: str, commands: list[dict[str, str]]) -> None:
        """What a bot's menu offers, and to whom."""
        self.commands[bot, scope] = commands
        self._happened("commands", (scope, commands))

    def type_draft(self, user: int, chat_id: int, text: str) -> CloudDraft:
        """A person types in a chat without sending; "" clears it."""
        draft = CloudDraft(user, chat_id, text, self.now())
        self.drafts[user, chat_id] = draft
        self._happened("draft", draft, chat_id)
        return draft

    def forward(self, user: int, chat_id: int, text: str, origin: int | str) -> Message:
        """A person forwards somebody's words; a name instead of an id when that one hides his account."""
        if isinstance(origin, int):
            return self.send(user, chat_id, text, forwarded_from=origin)
        return self.send(user, chat_id, text, forwarded_name=origin)

    def edit(self, message: Message, **content: Any) -> Message:
        """Change a message in place."""
        for name, value in content.items():
            setattr(message, name, value)
        message.edited = self.now()
        self._happened("edited", message, message.chat_id)
        return message

    def delete(self, message: Message) -> None:
        """Remove a message."""
        self.messages.pop((message.chat_id, message.message_id), None)
        self._happened("deleted", message, message.chat_id)

    def tap(self, user: int, message: Message, label: str) -> Tap:
        """Press the button whose label begins with `label`."""
        button = next((b for row in message.buttons for b in row if b["text"].startswith(label)), None)
        if button is None:
            raise KeyError(f"no button {label!r} under message {message.message_id}")
        return self.tap_data(user, message, button["callback_data"])

    def tap_data(self, user: int, message: Message, data: str) -> Tap:
        """Press a button by its data; a forged one too."""
        tap = Tap(secrets.token_hex(8), user, message, data)
        self._happened("tap", tap, message.chat_id)
        return tap

    def vote(self, user: int, poll: Poll, chosen: Sequence[int]) -> bool:
        """Answer a poll. False when it is closed, or a quiz that this person has answered."""
        if poll.is_closed or (poll.is_quiz and user in poll.voters):
            return False
        for index, option in enumerate(poll.options):
            if user in option.voters:
                option.voters.remove(user)
            if index in chosen:
                option.voters.append(user)
        self._happened("vote", Vote(poll, user, tuple(chosen)))
        return True

    def close_poll(self, poll: Poll) -> Poll:
        """No more votes."""
        poll.is_closed = True
        self._happened("poll", poll)
        return poll

    def answer_tap(self, tap_id: str, text: str) -> None:
        """A bot's answer to a press."""
        self._happened("answer", (tap_id, text))

    def add_photo(self, content: bytes, name: str) -> Photo:
        """Keep an uploaded file."""
        photo = Photo(secrets.token_urlsafe(18), content, name)
        self.photos[photo.file_id] = photo
        return photo

    # Who watches

    def observe(self, observer: Callable[[Event], None]) -> Callable[[], None]:
        """Call `observer` at every event; returns how to stop it."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    @asynccontextmanager
    async def events(self) -> AsyncIterator[asyncio.Queue[Event]]:
        """A queue of what happens from now on."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        stop = self.observe(queue.put_nowait)
        try:
            yield queue
        finally:
            stop()

    async def wait_for(self, wanted: Callable[[Event], bool], seconds: float = 30.0) -> Event:
        """The next event that is `wanted`; TimeoutError when none comes."""
        async with self.events() as queue, asyncio.timeout(seconds):
            while True:
                event = await queue.get()
                if wanted(event):
                    return event

    def _happened(self, kind: Kind, what: Any, chat_id: int | None = None) -> None:
        for observer in list(self._observers):
            observer(Event(kind, what, chat_id))
