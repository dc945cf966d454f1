"""Messages by the million: rows in and out of the database, for imports.

A row is a message as the database has it, in the order of Message's fields: dates as Unix seconds, is_own as
0 or 1. Everyone who has few messages uses `storage.history`, which speaks of Message.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from itertools import chain, groupby
from typing import cast

from storage.database import Database
from storage.records import Message

Row = tuple[
    int, int, int, str | None, int, str, str, str, int | None, str | None, str | None, int | None, str, int | None
]
NAMES = [field.name for field in fields(Message)]
COLUMNS = ", ".join(NAMES)
_PLAIN = NAMES[:7]  # the rest is empty in most messages, and binding a NULL costs more than binding a word
_REST_EMPTY = ("", None, None, None, None, "", None)

_SIZES = (2000, 100, 1)  # rows in one statement: by the hundred they take a third less time than one by one

_CACHE_KIB = 16_384
_INDEX_BYTES = 8 << 20  # of words, before FTS5 writes them out as a segment of its own
_REPLACE = f"UPDATE message SET {', '.join(f'{name} = ?' for name in NAMES[2:])} WHERE chat_id = ? AND message_id = ?"
_ASKED = 2000  # ids in one question


@dataclass(frozen=True, slots=True)
class Added:
    """What `add_rows` did: rows above `after` are new; `standing` are those whose ids stood already."""

    after: int
    count: int
    standing: Sequence[Row]


async def prepare_for_many(database: Database) -> None:
    """Room in memory for imports: pages that need not be written twice, words that need not be merged so often."""
    await database.rows(f"PRAGMA cache_size = -{_CACHE_KIB}")
    async with database.transaction():
        await database.execute(
            "INSERT INTO message_words (message_words, rank) VALUES ('hashsize', ?)", (_INDEX_BYTES,)
        )


async def add_rows(database: Database, rows: Sequence[Row]) -> Added:
    """Add rows whose ids are new; inside a transaction, and `index_rows` belongs to it. No id twice among them."""
    last = await last_rowid(database)
    plain: list[tuple[object, ...]] = []
    full: list[tuple[object, ...]] = []
    for row in rows:
        if row[7:] == _REST_EMPTY:
            plain.append(row[:7])
        else:
            full.append(row)
    count = await _add(database, _PLAIN, plain) + await _add(database, NAMES, full)
    if count == len(rows):
        return Added(last, count, ())
    found = await database.rows("SELECT chat_id, message_id FROM message WHERE rowid > ?", (last,))
    new = {tuple(row) for row in found}
    return Added(last, count, [row for row in rows if row[:2] not in new])


async def _add(database: Database, names: list[str], rows: Sequence[tuple[object, ...]]) -> int:
    """As many rows in a statement as there are; how many were new."""
    count = done = 0
    for size in _SIZES:
        end = len(rows) - (len(rows) - done) % size
        many = (tuple(chain.from_iterable(rows[start : start + size])) for start in range(done, end, size))
        count += await database.execute_many(_adding(tuple(names), size), many) if end > done else 0
        done = end
    return count


@cache
def _adding(names: tuple[str, ...], rows: int) -> str:
    row = f"({', '.join('?' * len(names))})"
    return (
        f"INSERT INTO message ({', '.join(names)}) VALUES {', '.join([row] * rows)} "
        "ON CONFLICT (chat_id, message_id) DO NOTHING"
    )


async def index_rows(database: Database, added: Added) -> None:
    """Make what `add_rows` added searchable; inside the same transaction."""
    if added.count:
        await database.execute(
            "INSERT INTO message_words (rowid, text) SELECT id, text FROM message_text WHERE id > ?", (added.after,)
        )


async def replace_rows(database: Database, rows: Sequence[Row], judge: Callable[[int, Row, Row], Row | None]) -> int:
    """For each of `rows`, whose ids stand already, `judge(rowid, stored, row)` tells what is to stand there,
    or None for no change; inside a transaction. Returns how many changed."""
    changed = 0
    for start in range(0, len(rows), _ASKED):
        asked = rows[start : start + _ASKED]
        stored = await _standing(database, asked)
        verdicts = (judge(*stored[row[:2]], row) for row in asked)
        changes = [row[2:] + row[:2] for row in verdicts if row is not None]
        changed += await database.execute_many(_REPLACE, changes) if changes else 0
    return changed


async def mark_deleted(
    database: Database, chat_id: int, seen: Sequence[int], now: datetime, *, own_only: bool = False
) -> int:
    """Mark what stands between the ends of `seen` but is not in it; inside a transaction. Returns how many.

    Ids below zero, from before a group's migration, are a range of their own. `own_only`: `seen` tells of the
    owner's messages alone.
    """
    marked = 0
    for ids in (sorted({found for found in seen if found < 0}), sorted({found for found in seen if found >= 0})):
        for start in range(0, len(ids), _ASKED):
            part = ids[start : start + _ASKED]
            end = ids[start + _ASKED] if start + _ASKED < len(ids) else part[-1] + 1
            marked += await database.execute(
                "UPDATE message SET deleted_at = ? WHERE chat_id = ? AND message_id >= ? AND message_id < ? "
                "AND message_id NOT IN (SELECT value FROM json_each(?)) AND deleted_at IS NULL AND is_own >= ?",
                (int(now.timestamp()), chat_id, part[0], end, json.dumps(part), int(own_only)),
            )
    return marked


async def newest_ids(database: Database) -> dict[int, int]:
    """The highest message id of every chat that has messages."""
    rows = await database.rows("SELECT chat_id, max(message_id) AS newest FROM message GROUP BY chat_id")
    return {row["chat_id"]: row["newest"] for row in rows}


async def last_rowid(database: Database) -> int:
    """Rows that are added from now on stand above it."""
    row = await database.row("SELECT ifnull(max(rowid), 0) AS last FROM message")
    assert row is not None
    return int(row["last"])


async def _standing(database: Database, rows: Sequence[Row]) -> dict[tuple[int, int], tuple[int, Row]]:
    found = {}
    for chat_id, group in groupby(rows, key=lambda row: row[0]):
        for rowid, *columns in await database.rows(
            f"SELECT rowid, {COLUMNS} FROM message "
            "WHERE chat_id = ? AND message_id IN (SELECT value FROM json_each(?))",
            (chat_id, json.dumps([row[1] for row in group])),
        ):
            row = cast(Row, tuple(columns))
            found[row[:2]] = (rowid, row)
    return found
