"""The owner's chats and messages in SQLite."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from storage.database import Database
from storage.errors import BadInput
from storage.records import Account, Chat, ChatKind, Message, MessageKind
from storage.rows import COLUMNS, NAMES, Row, add_rows, index_rows, replace_rows


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
    if known is None or owner.first_name or owner.last_name:  # a one-chat export names nobody
        await database.execute(
            "INSERT OR REPLACE INTO account (only_one, user_id, first_name, last_name, username) "
            "VALUES (1, ?, ?, ?, ?)",
            (owner.user_id, owner.first_name, owner.last_name, owner.username),
        )


async def put_chat(database: Database, chat: Chat) -> None:
    """Add a chat or refresh its name and kind; inside a transaction. The owner's own switch stays."""
    await put_chats(database, [chat])


async def put_chats(database: Database, chats: Iterable[Chat]) -> None:
    """`put_chat` for many."""
    await database.execute_many(
        "INSERT INTO chat (chat_id, kind, name) VALUES (?, ?, ?) "
        "ON CONFLICT (chat_id) DO UPDATE SET kind = excluded.kind, name = excluded.name",
        [(chat.chat_id, chat.kind.value, chat.name) for chat in chats],
    )


async def put_messages(database: Database, messages: Sequence[Message]) -> Stored:
    """Add messages and apply edits, as Telegram itself tells them now; inside a transaction. Later ones win."""
    rows = list({(message.chat_id, message.message_id): _row(message) for message in messages}.values())
    added = await add_rows(database, rows)
    await index_rows(database, added)
    updated = await replace_rows(database, added.standing, _told_by_telegram)
    return Stored(added.count, updated, len(rows) - added.count - updated)


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
        f"SELECT {COLUMNS} FROM message WHERE chat_id = ? AND deleted_at IS NULL ORDER BY message_id", (chat_id,)
    )
    return [message_of(row) for row in rows]


async def count_since(database: Database, when: datetime) -> int:
    """How many messages are younger, without deleted ones."""
    row = await database.row(
        "SELECT count(*) AS count FROM message WHERE date > ? AND deleted_at IS NULL", (int(when.timestamp()),)
    )
    assert row is not None
    return int(row["count"])


async def newest(database: Database, chat_id: int, limit: int) -> list[Message]:
    """A chat's last messages in the order of their ids, without deleted ones."""
    rows = await database.rows(
        f"SELECT {COLUMNS} FROM message WHERE chat_id = ? AND deleted_at IS NULL ORDER BY message_id DESC LIMIT ?",
        (chat_id, limit),
    )
    return [message_of(row) for row in reversed(rows)]


async def mark_deleted_anywhere(database: Database, message_ids: Sequence[int], now: datetime) -> int:
    """Mark messages by their ids alone, as Telegram tells of deletions in personal chats and basic groups, which
    share one sequence of ids; inside a transaction. Returns how many were marked."""
    return await database.execute(
        "UPDATE message SET deleted_at = ? WHERE chat_id IN (SELECT chat_id FROM chat WHERE chat_id > -1000000000000) "
        "AND message_id IN (SELECT value FROM json_each(?)) AND deleted_at IS NULL",
        (int(now.timestamp()), json.dumps(list(message_ids))),
    )


async def search(database: Database, words: str, limit: int = 20) -> list[Message]:
    """Messages that hold the words, best first (BM25)."""
    quoted = " ".join('"' + word.replace('"', '""') + '"' for word in words.split())
    if not quoted:
        return []
    rows = await database.rows(
        f"SELECT {', '.join(f'message.{name}' for name in NAMES)} "
        "FROM message_words JOIN message ON message.rowid = message_words.rowid "
        "WHERE message_words MATCH ? AND message.deleted_at IS NULL ORDER BY message_words.rank LIMIT ?",
        (quoted, limit),
    )
    return [message_of(row) for row in rows]


async def delete(database: Database, chat_id: int, message_ids: Iterable[int], now: datetime) -> int:
    """Mark messages as deleted; inside a transaction. Returns how many were there."""
    seconds = int(now.timestamp())
    return await database.execute_many(
        "UPDATE message SET deleted_at = ? WHERE chat_id = ? AND message_id = ? AND deleted_at IS NULL",
        [(seconds, chat_id, message_id) for message_id in message_ids],
    )


async def set_included(database: Database, chat_id: int, included: bool | None) -> bool:
    """Switch a chat on or off for training (None: by its kind); inside a transaction. False: no such chat."""
    value = None if included is None else int(included)
    return await database.execute("UPDATE chat SET included = ? WHERE chat_id = ?", (value, chat_id)) > 0


def _told_by_telegram(rowid: int, stored: Row, told: Row) -> Row | None:
    return told if told != stored and _edited(told) >= _edited(stored) else None


def _edited(row: Row) -> int:
    return row[11] or 0


def _row(message: Message) -> Row:
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


def message_of(row: sqlite3.Row) -> Message:
    """The record of a row with every column."""
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
