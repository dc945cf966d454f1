"""The nights: when each was due, how far it came, what came of it; and the replies that are held out for ever."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from storage.database import Database

Step = Literal["begun", "fetched", "training", "ended"]
Outcome = Literal["promoted", "kept", "few", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class Night:
    """One night. `due_at` None: the owner asked for it. `anew`: trained from the base model, not further."""

    night_id: int
    due_at: datetime | None
    started_at: datetime
    step: Step
    anew: bool | None
    messages: int | None
    pairs: int | None
    job_id: str | None
    outcome: Outcome | None
    reason: str
    number: int | None  # of the version that came of it
    loss_before: float | None
    loss_after: float | None
    dollars: float | None
    ended_at: datetime | None
    told_at: datetime | None


@dataclass(frozen=True, slots=True)
class End:
    """What came of a night."""

    outcome: Outcome
    reason: str = ""
    number: int | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    dollars: float | None = None


async def begin(database: Database, due_at: datetime | None, now: datetime) -> Night:
    """Note that a night begins; inside a transaction. One that was due at this moment can't begin twice."""
    night_id = await database.insert(
        "INSERT INTO night (due_at, started_at, step) VALUES (?, ?, 'begun')",
        (None if due_at is None else int(due_at.timestamp()), int(now.timestamp())),
    )
    return await find(database, night_id)


async def fetched(database: Database, night_id: int) -> None:
    """The history is up to date; inside a transaction."""
    await database.execute("UPDATE night SET step = 'fetched' WHERE night_id = ?", (night_id,))


async def counted(database: Database, night_id: int, anew: bool, messages: int, pairs: int) -> None:
    """What there is to learn from; inside a transaction."""
    await database.execute(
        "UPDATE night SET anew = ?, messages = ?, pairs = ? WHERE night_id = ?", (int(anew), messages, pairs, night_id)
    )


async def training(database: Database, night_id: int, job_id: str) -> None:
    """The job that trains for it; inside a transaction."""
    await database.execute("UPDATE night SET step = 'training', job_id = ? WHERE night_id = ?", (job_id, night_id))


async def end(database: Database, night_id: int, it: End, now: datetime) -> None:
    """Note what came of it, once; inside a transaction."""
    await database.execute(
        "UPDATE night SET step = 'ended', outcome = ?, reason = ?, number = ?, loss_before = ?, loss_after = ?, "
        "dollars = ?, ended_at = ? WHERE night_id = ? AND step <> 'ended'",
        (it.outcome, it.reason, it.number, it.loss_before, it.loss_after, it.dollars, int(now.timestamp()), night_id),
    )


async def told(database: Database, night_id: int, now: datetime) -> bool:
    """Note that its report goes out; inside a transaction. False: it went before."""
    changed = await database.execute(
        "UPDATE night SET told_at = ? WHERE night_id = ? AND told_at IS NULL", (int(now.timestamp()), night_id)
    )
    return changed > 0


async def not_told(database: Database, night_id: int) -> None:
    """Its report surely did not arrive; inside a transaction."""
    await database.execute("UPDATE night SET told_at = NULL WHERE night_id = ?", (night_id,))


async def find(database: Database, night_id: int) -> Night:
    """A night that there is."""
    row = await database.row("SELECT * FROM night WHERE night_id = ?", (night_id,))
    assert row is not None
    return _night(row)


async def unfinished(database: Database) -> Night | None:
    """The night that has not ended: somebody works on it, or was killed in it."""
    row = await database.row("SELECT * FROM night WHERE step <> 'ended' ORDER BY night_id LIMIT 1")
    return _night(row) if row else None


async def untold(database: Database) -> list[Night]:
    """Nights whose report is still to come; where nothing was to be learned there is none."""
    rows = await database.rows(
        "SELECT * FROM night WHERE step = 'ended' AND told_at IS NULL AND outcome <> 'few' ORDER BY night_id"
    )
    return [_night(row) for row in rows]


async def latest(database: Database, limit: int = 1) -> list[Night]:
    """The newest nights that have ended, the newest first."""
    rows = await database.rows("SELECT * FROM night WHERE step = 'ended' ORDER BY night_id DESC LIMIT ?", (limit,))
    return [_night(row) for row in rows]


async def last_due(database: Database) -> datetime | None:
    """The newest moment that a night was due at and began."""
    row = await database.row("SELECT max(due_at) AS due_at FROM night")
    return _time(row["due_at"]) if row else None


async def hold_out(database: Database, replies: Iterable[tuple[int, int]]) -> None:
    """Note replies (chat and message) that no voice may be trained on; inside a transaction."""
    await database.execute_many(
        "INSERT INTO held_out (chat_id, message_id) VALUES (?, ?) ON CONFLICT DO NOTHING", list(replies)
    )


async def held_out(database: Database) -> frozenset[tuple[int, int]]:
    """Every reply that is held out."""
    rows = await database.rows("SELECT chat_id, message_id FROM held_out")
    return frozenset((row["chat_id"], row["message_id"]) for row in rows)


def _night(row: sqlite3.Row) -> Night:
    return Night(
        night_id=row["night_id"],
        due_at=_time(row["due_at"]),
        started_at=datetime.fromtimestamp(row["started_at"], UTC),
        step=row["step"],
        anew=None if row["anew"] is None else bool(row["anew"]),
        messages=row["messages"],
        pairs=row["pairs"],
        job_id=row["job_id"],
        outcome=row["outcome"],
        reason=row["reason"],
        number=row["number"],
        loss_before=row["loss_before"],
        loss_after=row["loss_after"],
        dollars=row["dollars"],
        ended_at=_time(row["ended_at"]),
        told_at=_time(row["told_at"]),
    )


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
