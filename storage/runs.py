"""Voice versions as the bot knows them, and which one speaks."""

import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from storage.database import Database

How = Literal["gate", "forced", "rollback"]


@dataclass(frozen=True, slots=True)
class Version:
    """A trained voice. `name` is what the model server calls it; `evaluation` what was measured of it, if it was.

    `started_from`: the version it went on from; None: the base model. `data_until`: the newest reply of the history
    that it was made of; what is younger it has not seen. A version whose files are gone or damaged never speaks.
    """

    number: int
    name: str
    job_id: str
    created_at: datetime
    base_model: str
    data_sha256: str
    metrics: dict[str, Any]
    evaluation: dict[str, Any] | None = None
    started_from: int | None = None
    data_until: datetime | None = None
    removed_at: datetime | None = None
    damaged_at: datetime | None = None

    @property
    def can_speak(self) -> bool:
        """Whether its files are there, as far as is known."""
        return self.removed_at is None and self.damaged_at is None


@dataclass(frozen=True, slots=True)
class Promotion:
    """Who was let speak, and why. `number` None: the stock model."""

    promoted_at: datetime
    number: int | None
    how: How
    reason: str


async def add_version(database: Database, version: Version) -> bool:
    """Note a version; inside a transaction. Noting it twice changes nothing and is False."""
    added = await database.execute(
        "INSERT INTO version (number, name, job_id, created_at, base_model, data_sha256, metrics, started_from, "
        "data_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            version.number,
            version.name,
            version.job_id,
            int(version.created_at.timestamp()),
            version.base_model,
            version.data_sha256,
            json.dumps(version.metrics),
            version.started_from,
            int(version.data_until.timestamp()) if version.data_until else None,
        ),
    )
    return added > 0


async def versions(database: Database) -> list[Version]:
    """Every version, oldest first."""
    return [_version(row) for row in await database.rows("SELECT * FROM version ORDER BY number")]


async def find_named(database: Database, name: str) -> Version | None:
    """The version of this name, or None."""
    return next((version for version in await versions(database) if version.name == name), None)


async def find_version(database: Database, number: int) -> Version | None:
    """One version, or None."""
    row = await database.row("SELECT * FROM version WHERE number = ?", (number,))
    return _version(row) if row else None


async def serving(database: Database) -> Version | None:
    """The version that speaks, or None for the stock model."""
    row = await database.row("SELECT version.* FROM serving JOIN version USING (number)")
    return _version(row) if row else None


async def set_evaluation(database: Database, number: int, evaluation: dict[str, Any]) -> None:
    """Keep what was measured of a version, the newest; inside a transaction."""
    await database.execute(
        "UPDATE version SET evaluation = ? WHERE number = ?", (json.dumps(evaluation, ensure_ascii=False), number)
    )


async def serve(database: Database, number: int | None, how: How, reason: str, now: datetime) -> None:
    """Let a version speak from now on (None: the stock model), and note why; inside a transaction."""
    if number is None:
        await database.execute("DELETE FROM serving")
    else:
        await database.execute("INSERT OR REPLACE INTO serving (only_one, number) VALUES (1, ?)", (number,))
    await database.execute(
        "INSERT INTO promotion (promoted_at, number, how, reason) VALUES (?, ?, ?, ?)",
        (int(now.timestamp()), number, how, reason),
    )


async def promotions(database: Database) -> list[Promotion]:
    """Everything that was let speak, oldest first."""
    rows = await database.rows("SELECT * FROM promotion ORDER BY promotion_id")
    return [
        Promotion(datetime.fromtimestamp(row["promoted_at"], UTC), row["number"], row["how"], row["reason"])
        for row in rows
    ]


async def previous(database: Database) -> int | None:
    """The number of the version before the serving one; None: there is none but the stock model."""
    row = await database.row(
        "SELECT max(number) AS number FROM version WHERE number < (SELECT number FROM serving) "
        "AND removed_at IS NULL AND damaged_at IS NULL"
    )
    return row["number"] if row else None


async def last_good(database: Database) -> int | None:
    """The newest version that was let speak before and whose files are there; None: the stock model."""
    row = await database.row(
        "SELECT number FROM promotion JOIN version USING (number) WHERE removed_at IS NULL AND damaged_at IS NULL "
        "ORDER BY promotion_id DESC LIMIT 1"
    )
    return row["number"] if row else None


async def note_removed(database: Database, number: int, now: datetime) -> None:
    """Its files were removed to make room; inside a transaction."""
    await database.execute("UPDATE version SET removed_at = ? WHERE number = ?", (int(now.timestamp()), number))


async def note_damaged(database: Database, number: int, now: datetime) -> None:
    """Its files were found damaged; inside a transaction."""
    await database.execute("UPDATE version SET damaged_at = ? WHERE number = ?", (int(now.timestamp()), number))


async def note_mended(database: Database, number: int) -> None:
    """Its files are well again; inside a transaction."""
    await database.execute("UPDATE version SET damaged_at = NULL WHERE number = ?", (number,))


def _version(row: sqlite3.Row) -> Version:
    return Version(
        row["number"],
        row["name"],
        row["job_id"],
        datetime.fromtimestamp(row["created_at"], UTC),
        row["base_model"],
        row["data_sha256"],
        json.loads(row["metrics"]),
        json.loads(row["evaluation"]) if row["evaluation"] else None,
        row["started_from"],
        _time(row["data_until"]),
        _time(row["removed_at"]),
        _time(row["damaged_at"]),
    )


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
