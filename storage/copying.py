"""A database copied while others write to it, and a copy looked at before anybody trusts it. Blocks: use a thread."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from storage.database import migrations
from storage.errors import StorageError

PAGES = 2000  # copied at a time: 8 MB between two words of progress


@dataclass(frozen=True, slots=True)
class Copied:
    """What a database says of itself."""

    schema: int
    account: int | None
    messages: int
    forgotten: frozenset[int]


def copy(source: Path, target: Path, on_progress: Callable[[float], None]) -> None:
    """One moment of `source`, whole, into a new file. `on_progress` hears the share that is done.

    The read transaction keeps the moment: without it every write of another process would begin the copy anew.
    """
    target.touch(mode=0o600)
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, isolation_level=None)) as reading,
            closing(sqlite3.connect(target)) as writing,
        ):
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            reading.backup(writing, pages=PAGES, progress=lambda _, left, all_: on_progress(1 - left / max(1, all_)))
            # A copy in one file: the log beside it would be another.
            writing.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        if "I/O" in str(error) or "full" in str(error):
            raise StorageError(f"{target.parent} needs more room: {source.name} could not be copied there.") from error
        raise StorageError(f"{source} can't be copied ({error}): see likeme doctor.") from error


def look(path: Path) -> Copied:
    """Check a copy from end to end. StorageError when it is damaged, or from a newer likeme."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            said = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
            if said != ["ok"]:
                raise StorageError(f"The database in it is damaged ({said[0]}).")
            schema = connection.execute("PRAGMA user_version").fetchone()[0]
            if schema > migrations()[-1][0]:
                raise StorageError(f"It was made by a newer likeme (schema {schema}): upgrade likeme.")
            return _described(connection, schema)
    except sqlite3.Error as error:
        raise StorageError(f"The database in it can't be read ({error}).") from error


def _described(connection: sqlite3.Connection, schema: int) -> Copied:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    account = connection.execute("SELECT user_id FROM account").fetchone()
    forgotten = connection.execute("SELECT chat_id FROM forgotten").fetchall() if "forgotten" in tables else []
    messages = connection.execute("SELECT count(*) FROM message").fetchone()[0]
    return Copied(schema, account[0] if account else None, messages, frozenset(row[0] for row in forgotten))
