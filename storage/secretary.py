"""What the secretary knows: business connections, what the owner wants in which chat, who waits, which cards stand."""

import sqlite3
from dataclasses import dataclass
from typing import Literal

from storage.database import Database

Mode = Literal["off", "card", "cloud"]


@dataclass(frozen=True, slots=True)
class Connection:
    """The owner's account lent to the bot."""

    connection_id: str
    can_reply: bool
    is_enabled: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """A chat that waits for drafts. Times are Unix seconds; `card_draft_id`: the card to be written anew."""

    chat_id: int
    way: Mode
    connection_id: str | None
    newest: int
    since: float
    due: float
    card_draft_id: int | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A card: the chat it is about, and the message it is in the owner's chat with the bot (None: not sent yet)."""

    draft_id: int
    connection_id: str
    chat_id: int
    answers: int
    answered_at: int
    message_id: int | None = None
    prompt_id: int | None = None
    note: str = ""


async def put_connection(database: Database, connection: Connection) -> None:
    """Note a business connection as it is now; inside a transaction."""
    await database.execute(
        "INSERT OR REPLACE INTO connection (connection_id, can_reply, is_enabled) VALUES (?, ?, ?)",
        (connection.connection_id, int(connection.can_reply), int(connection.is_enabled)),
    )


async def find_connection(database: Database, connection_id: str) -> Connection | None:
    """A connection, or None."""
    row = await database.row("SELECT * FROM connection WHERE connection_id = ?", (connection_id,))
    return Connection(row["connection_id"], bool(row["can_reply"]), bool(row["is_enabled"])) if row else None


async def mode(database: Database, chat_id: int) -> Mode:
    """What the owner wants in a chat: what he said of it, else of all, else cards where a connection is, else cloud."""
    row = await database.row(
        "SELECT coalesce((SELECT mode FROM chat_mode WHERE chat_id = ?), "
        "(SELECT value FROM preference WHERE name = 'mode'), "
        "(SELECT 'card' FROM connection WHERE is_enabled LIMIT 1), 'cloud') AS mode",
        (chat_id,),
    )
    assert row is not None
    wanted: Mode = row["mode"]
    return wanted


async def set_mode(database: Database, chat_id: int | None, wanted: Mode) -> None:
    """Say what the owner wants in a chat, or (None) in all that he has said nothing of; inside a transaction."""
    if chat_id is None:
        await set_preference(database, "mode", wanted)
    else:
        await database.execute("INSERT OR REPLACE INTO chat_mode (chat_id, mode) VALUES (?, ?)", (chat_id, wanted))


async def recent_chats(database: Database, limit: int) -> list[tuple[int, str]]:
    """(id, name) of the personal chats that were written in last."""
    rows = await database.rows(
        "SELECT chat.chat_id, chat.name FROM chat JOIN message USING (chat_id) WHERE chat.kind = 'personal' "
        "GROUP BY chat.chat_id ORDER BY max(message.date) DESC LIMIT ?",
        (limit,),
    )
    return [(row["chat_id"], row["name"]) for row in rows]


async def preference(database: Database, name: str) -> str:
    """What the owner has set, or ""."""
    row = await database.row("SELECT value FROM preference WHERE name = ?", (name,))
    return row["value"] if row else ""


async def set_preference(database: Database, name: str, value: str) -> None:
    """Set it; inside a transaction."""
    await database.execute("INSERT OR REPLACE INTO preference (name, value) VALUES (?, ?)", (name, value))


async def wait(database: Database, waiting: Waiting) -> None:
    """Let a chat wait, or wait anew with a newer state; inside a transaction. `since` stays the first one's."""
    await database.execute(
        "INSERT INTO waiting (chat_id, way, connection_id, newest, since, due, card_draft_id) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (chat_id) DO UPDATE SET way = excluded.way, "
        "connection_id = excluded.connection_id, newest = excluded.newest, due = excluded.due, "
        "card_draft_id = ifnull(excluded.card_draft_id, card_draft_id)",
        (
            waiting.chat_id,
            waiting.way,
            waiting.connection_id,
            waiting.newest,
            waiting.since,
            waiting.due,
            waiting.card_draft_id,
        ),
    )


async def waiting_in(database: Database, chat_id: int) -> Waiting | None:
    """The chat's job, if it waits."""
    row = await database.row("SELECT * FROM waiting WHERE chat_id = ?", (chat_id,))
    return Waiting(*tuple(row)) if row else None


async def next_waiting(database: Database) -> Waiting | None:
    """The one that is due first."""
    row = await database.row("SELECT * FROM waiting ORDER BY due, chat_id LIMIT 1")
    return Waiting(*tuple(row)) if row else None


async def stands(database: Database, job: Waiting) -> bool:
    """Whether a job still waits, and nothing newer in its place."""
    found = await waiting_in(database, job.chat_id)
    return found is not None and (found.newest, found.due) == (job.newest, job.due)


async def put_on_card(database: Database, chat_id: int, draft_id: int) -> None:
    """Let the drafts that a chat waits for take the place of a card; inside a transaction."""
    await database.execute("UPDATE waiting SET card_draft_id = ? WHERE chat_id = ?", (draft_id, chat_id))


async def served(database: Database, job: Waiting) -> bool:
    """Take a job off the list; inside a transaction. False: something newer has come, and waits in its place."""
    gone = await database.execute(
        "DELETE FROM waiting WHERE chat_id = ? AND newest = ? AND due = ?", (job.chat_id, job.newest, job.due)
    )
    return gone > 0


async def put_off(database: Database, job: Waiting, due: float) -> None:
    """Let a job wait longer, if nothing newer has come; inside a transaction."""
    await database.execute(
        "UPDATE waiting SET due = ? WHERE chat_id = ? AND newest = ? AND due = ?",
        (due, job.chat_id, job.newest, job.due),
    )


async def no_longer(database: Database, chat_id: int) -> None:
    """Nobody waits in this chat any more; inside a transaction."""
    await database.execute("DELETE FROM waiting WHERE chat_id = ?", (chat_id,))


async def add_card(database: Database, card: Card) -> None:
    """Note a card that is about to be shown; inside a transaction."""
    await database.execute(
        "INSERT INTO card (draft_id, connection_id, chat_id, answers, answered_at, message_id, note) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            card.draft_id,
            card.connection_id,
            card.chat_id,
            card.answers,
            card.answered_at,
            card.message_id,
            card.note,
        ),
    )


async def find_card(database: Database, draft_id: int) -> Card | None:
    """The card of a draft, or None."""
    row = await database.row("SELECT * FROM card WHERE draft_id = ?", (draft_id,))
    return _card(row) if row else None


async def card_at(database: Database, message_id: int) -> Card | None:
    """The newest card that is, or asks for words with, a message in the owner's chat with the bot."""
    row = await database.row(
        "SELECT * FROM card WHERE message_id = ? OR prompt_id = ? ORDER BY draft_id DESC LIMIT 1",
        (message_id, message_id),
    )
    return _card(row) if row else None


async def open_cards(database: Database, chat_id: int | None = None) -> list[Card]:
    """Cards whose drafts still stand; of one chat, or of all."""
    rows = await database.rows(
        "SELECT card.* FROM card JOIN draft USING (draft_id) WHERE draft.state = 'shown' "
        "AND card.chat_id = ifnull(?, card.chat_id) ORDER BY draft_id",
        (chat_id,),
    )
    return [_card(row) for row in rows]


async def place_card(
    database: Database, draft_id: int, *, message_id: int | None = None, prompt_id: int | None = None
) -> None:
    """Note where a card, or the question for the owner's words, stands; inside a transaction."""
    await database.execute(
        "UPDATE card SET message_id = ifnull(?, message_id), prompt_id = ifnull(?, prompt_id) WHERE draft_id = ?",
        (message_id, prompt_id, draft_id),
    )


async def annotate(database: Database, draft_id: int, note: str) -> None:
    """Note what the card is to say; inside a transaction."""
    await database.execute("UPDATE card SET note = ? WHERE draft_id = ?", (note, draft_id))


async def cloud_draft(database: Database, chat_id: int) -> tuple[int, str] | None:
    """(draft id, words) of what we put into a chat's input line, or None."""
    row = await database.row("SELECT draft_id, text FROM cloud_draft WHERE chat_id = ?", (chat_id,))
    return (row["draft_id"], row["text"]) if row else None


async def put_cloud_draft(database: Database, chat_id: int, draft_id: int, text: str) -> None:
    """Note what is put there, before it is; inside a transaction."""
    await database.execute(
        "INSERT OR REPLACE INTO cloud_draft (chat_id, draft_id, text) VALUES (?, ?, ?)", (chat_id, draft_id, text)
    )


async def drop_cloud_draft(database: Database, chat_id: int) -> None:
    """It is ours no longer; inside a transaction."""
    await database.execute("DELETE FROM cloud_draft WHERE chat_id = ?", (chat_id,))


def _card(row: sqlite3.Row) -> Card:
    return Card(*tuple(row))
