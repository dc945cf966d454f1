"""How far the account's history has been fetched, and how far its events."""

from dataclasses import dataclass
from datetime import UTC, datetime

from storage.database import Database


@dataclass(frozen=True, slots=True)
class Position:
    """A chat's messages from `oldest` to `newest` (ids) are stored; `is_whole`: it begins at `oldest`."""

    newest: int
    oldest: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Clock:
    """Telegram's state of an account: everything up to `pts` is stored."""

    pts: int
    qts: int
    date: datetime


async def positions(database: Database) -> dict[int, Position]:
    """Where each chat's fetching stands."""
    rows = await database.rows("SELECT chat_id, newest, oldest, is_whole FROM sync_position")
    return {row["chat_id"]: Position(row["newest"], row["oldest"], bool(row["is_whole"])) for row in rows}


async def move(database: Database, chat_id: int, position: Position) -> None:
    """Note where a chat stands; inside the transaction that stores its messages."""
    await database.execute(
        "INSERT OR REPLACE INTO sync_position (chat_id, newest, oldest, is_whole) VALUES (?, ?, ?, ?)",
        (chat_id, position.newest, position.oldest, int(position.is_whole)),
    )


async def clock(database: Database) -> Clock | None:
    """How far the events have been taken in; None before the first sync."""
    row = await database.row("SELECT pts, qts, date FROM account_clock")
    return Clock(row["pts"], row["qts"], datetime.fromtimestamp(row["date"], UTC)) if row else None


async def set_clock(database: Database, now: Clock) -> None:
    """Note it; inside the transaction that stores the events."""
    await database.execute(
        "INSERT OR REPLACE INTO account_clock (only_one, pts, qts, date) VALUES (1, ?, ?, ?)",
        (now.pts, now.qts, int(now.date.timestamp())),
    )
