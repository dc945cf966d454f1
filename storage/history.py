"""The owner's chats and messages in SQLite."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from storage.database import Database
from storage.errors import BadInput
from storage.records import Account, Chat, ChatKind, Message, MessageKind

_COLUMNS = (
    "chat_id, message_id, date, sender, is_own, kind, text, emoji, reply_to, forwarded_from, via_bot, "
    "edited_at, entities, deleted_at"
)
# A row that stands already is replaced by a later state of itself only: an older export imported after a
# newer one undoes no edit, and what has not changed is not written.
_UPSERT = f"""
INSERT INTO message ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (chat_id, message_id) DO UPDATE SET
    date = excluded.date, sender = excluded.sender, is_own = excluded.is_own, kind = excluded.kind,
    text = excluded.text, emoji = excluded.emoji, reply_to = excluded.reply_to,
    forwarded_from = excluded.forwarded_from, via_bot = excluded.via_bot, edited_at = excluded.edited_at,
    entities = excluded.entities, deleted_at = excluded.deleted_at
WHERE ifnull(excluded.edited_at, 0) > ifnull(message.edited_at, 0)
   OR (excluded.edited_at IS message.edited_at
       AND (excluded.text <> message.text OR excluded.kind <> message.kind OR message.deleted_at IS NOT NULL))
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a batch changed."""

    new: int
    updated: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class ChatCount:
    """A chat with the number of its messages, and of the owner's among them."""

    chat: Chat
    messages: int
    own: int


async def account(database: Database) -> Account | None:
    """The owner, once a history is there."""
    row = await database.row("SELECT user_id, first_name, last_name, username FROM account")
    return Account(row["user_id"], row["first_name"], row["last_name"], row["username"]) if row else None


async def set_account(database: Database, owner: Account) -> None:
    """Note whose history this is; inside a transaction. BadInput when it is somebody else's already."""
    known = await account(database)
    if known is not None and known.user_id != owner.user_id:
        raise BadInput(
            f"This home holds the history of user {known.user_id}, the file is user {owner.user_id}'s: "
            "name another folder with --home."
        )
    await database.execute(
        "INSERT OR REPLACE INTO account (only_one, user_id, first_name, last_name, username) VALUES (1, ?, ?, ?, ?)",
        (owner.user_id, owner.first_name, owner.last_name, owner.username),
    )


async def put_chat(database: Database, chat: Chat) -> None:
    """Add a chat or refresh its name and kind; inside a transaction. The owner's own switch stays."""
    await database.execute(
        "INSERT INTO chat (chat_id, kind, name) VALUES (?, ?, ?) "
        "ON CONFLICT (chat_id) DO UPDATE SET kind = excluded.kind, name = excluded.name",
        (chat.chat_id, chat.kind.value, chat.name),
    )


async def put_messages(database: Database, messages: Sequence[Message]) -> Stored:
    """Add messages, apply edits; inside a transaction. Later ones of the same id win."""
    unique = {(message.chat_id, message.message_id): message for message in messages}
    before = await _total(database)
    written = await database.execute_many(_UPSERT, (_row(message) for message in unique.values()))
    new = await _total(database) - before
    return Stored(new, written - new, len(unique) - written)


async def mark_deleted(database: Database, chat_id: int, seen: Iterable[int], now: datetime) -> int:
    """Mark what stands between the ends of `seen` but is not in it; inside a transaction. Returns how many."""
    ids = set(seen)
    if not ids:
        return 0
    newest = await database.row("SELECT max(message_id) AS id FROM message WHERE chat_id = ?", (chat_id,))
    if newest is None or newest["id"] is None or newest["id"] > max(ids):
        return 0  # an older state of the chat than the one we have
    stored = await database.rows(
        "SELECT message_id FROM message WHERE chat_id = ? AND message_id BETWEEN ? AND ? AND deleted_at IS NULL",
        (chat_id, min(ids), max(ids)),
    )
    gone = [row["message_id"] for row in stored if row["message_id"] not in ids]
    await database.execute_many(
        "UPDATE message SET deleted_at = ? WHERE chat_id = ? AND message_id = ?",
        [(int(now.timestamp()), chat_id, message_id) for message_id in gone],
    )
    return len(gone)


async def chats(database: Database) -> list[Chat]:
    """Every chat, by id."""
    return [_chat(row) for row in await database.rows("SELECT * FROM chat ORDER BY chat_id")]


async def find_chat(database: Database, chat_id: int) -> Chat | None:
    """One chat, or None."""
    row = await database.row("SELECT * FROM chat WHERE chat_id = ?", (chat_id,))
    return _chat(row) if row else None


async def chat_counts(database: Database) -> list[ChatCount]:
    """Every chat with its numbers, the busiest first."""
    rows = await database.rows(
        "SELECT chat.*, count(message.message_id) AS messages, ifnull(sum(message.is_own), 0) AS own "
        "FROM chat LEFT JOIN message USING (chat_id) GROUP BY chat_id ORDER BY messages DESC, chat_id"
    )
    return [ChatCount(_chat(row), row["messages"], row["own"]) for row in rows]


async def messages(database: Database, chat_id: int) -> list[Message]:
    """A chat's messages in the order of their ids, without deleted ones."""
    rows = await database.rows(
        f"SELECT {_COLUMNS} FROM message WHERE chat_id = ? AND deleted_at IS NULL ORDER BY message_id", (chat_id,)
    )
    return [_message(row) for row in rows]


async def search(database: Database, words: str, limit: int = 20) -> list[Message]:
    """Messages that hold the words, best first (BM25)."""
    quoted = " ".join('"' + word.replace('"', '""') + '"' for word in words.split())
    if not quoted:
        return []
    rows = await database.rows(
        f"SELECT {', '.join('message.' + column.strip() for column in _COLUMNS.split(','))} "
        "FROM message_words JOIN message ON message.rowid = message_words.rowid "
        "WHERE message_words MATCH ? AND message.deleted_at IS NULL ORDER BY message_words.rank LIMIT ?",
        (quoted, limit),
    )
    return [_message(row) for row in rows]


async def set_included(database: Database, chat_id: int, included: bool | None) -> bool:
    """Switch a chat on or off for training (None: by its kind); inside a transaction. False: no such chat."""
    value = None if included is None else int(included)
    return await database.execute("UPDATE chat SET included = ? WHERE chat_id = ?", (value, chat_id)) > 0


async def _total(database: Database) -> int:
    row = await database.row("SELECT count(*) AS n FROM message")
    assert row is not None
    return int(row["n"])


def _row(message: Message) -> tuple[object, ...]:
    return (
        message.chat_id,
        message.message_id,
        int(message.date.timestamp()),
        message.sender,
        int(message.is_own),
        message.kind.value,
        message.text,
        message.emoji,
        message.reply_to,
        message.forwarded_from,
        message.via_bot,
        int(message.edited_at.timestamp()) if message.edited_at else None,
        message.entities,
        int(message.deleted_at.timestamp()) if message.deleted_at else None,
    )


def _chat(row: sqlite3.Row) -> Chat:
    included = None if row["included"] is None else bool(row["included"])
    return Chat(row["chat_id"], ChatKind(row["kind"]), row["name"], included)


def _message(row: sqlite3.Row) -> Message:
    return Message(
        chat_id=row["chat_id"],
        message_id=row["message_id"],
        date=datetime.fromtimestamp(row["date"], UTC),
        sender=row["sender"],
        is_own=bool(row["is_own"]),
        kind=MessageKind(row["kind"]),
        text=row["text"],
        emoji=row["emoji"],
        reply_to=row["reply_to"],
        forwarded_from=row["forwarded_from"],
        via_bot=row["via_bot"],
        edited_at=_time(row["edited_at"]),
        entities=row["entities"],
        deleted_at=_time(row["deleted_at"]),
    )


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
