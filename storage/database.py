"""The one SQLite file of an owner: open it, bring it up to date, write to it in transactions.

    async with Database.open(home / "history.db") as database:
        async with database.transaction():
            await database.execute("INSERT …", (…,))

WAL and synchronous=FULL: a committed write survives kill -9 and a power cut. Migrations are the
numbered files of migrations/, applied in order, each in one transaction with its user_version.
What befalls the file from outside (a full disk, another program's lock, damage) is a StorageError wherever it shows.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import aiosqlite

from storage.errors import StorageError

BUSY_TIMEOUT_SECONDS = 10.0
FULL_BYTES = 1 << 20  # free at most, where SQLite only says that writing failed
_FROM_OUTSIDE = (  # errors that are the disk's or another program's, not ours
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB,
)  # fmt: skip


class Database:
    """A connection with one writer at a time. Use `Database.open`."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[Any] | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator["Database"]:
        """Open (or create, 0600) the database at `path` and migrate it.

        Raises StorageError when it is locked, damaged, or written by a newer likeme.
        """
        try:
            _make_private(path)
        except OSError as error:
            raise StorageError(_sentence(path, error)) from error
        with _plainly(path):
            opening = asyncio.ensure_future(aiosqlite.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS))
            try:
                connection = await asyncio.shield(opening)
            except asyncio.CancelledError:
                await (await opening).close()  # or its thread would answer to a loop that is closed
                raise
        try:
            connection.row_factory = sqlite3.Row
            with _plainly(path):
                await _refuse_newer(connection, path)
                await connection.execute("PRAGMA journal_mode = WAL")
                await connection.execute("PRAGMA synchronous = FULL")
                await connection.execute("PRAGMA foreign_keys = ON")
                await _migrate(connection)
            with _plainly(path):
                yield cls(connection, path)
        finally:
            await connection.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """All writes inside commit together or not at all. Not to be nested; no network call inside."""
        assert self._writer is not asyncio.current_task(), "transactions do not nest"
        async with self._writing:
            self._writer = asyncio.current_task()
            try:
                with _plainly(self._path):
                    await self._connection.execute("BEGIN IMMEDIATE")
                    yield
                    await self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have ended it already
                    await self._connection.execute("ROLLBACK")
                raise
            finally:
                self._writer = None

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one write inside `transaction()`; returns the number of rows changed."""
        assert self._writer is asyncio.current_task(), "writes happen inside transaction()"
        cursor = await self._connection.execute(sql, parameters)
        return cursor.rowcount

    async def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run one write for each row inside `transaction()`; returns the number of rows changed."""
        assert self._writer is asyncio.current_task(), "writes happen inside transaction()"
        cursor = await self._connection.executemany(sql, rows)
        return cursor.rowcount

    async def insert(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one INSERT inside `transaction()`; returns the new row's id."""
        assert self._writer is asyncio.current_task(), "writes happen inside transaction()"
        cursor = await self._connection.execute(sql, parameters)
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    async def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Every row of a query."""
        with _plainly(self._path):
            return list(await self._connection.execute_fetchall(sql, parameters))

    async def row(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        with _plainly(self._path):
            cursor = await self._connection.execute(sql, parameters)
            row: sqlite3.Row | None = await cursor.fetchone()
            await cursor.close()
            return row


def migrations() -> list[tuple[int, str]]:
    """(version, script) in order; files are named NNNN_what.sql."""
    scripts = sorted(
        (entry for entry in files("storage").joinpath("migrations").iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    return [(int(script.name[:4]), script.read_text(encoding="utf-8")) for script in scripts]


def _make_private(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)


async def _refuse_newer(connection: aiosqlite.Connection, path: Path) -> None:
    """Before anything is changed in it."""
    found, known = await _user_version(connection), migrations()[-1][0]
    if found > known:
        raise StorageError(
            f"{path} was written by a newer likeme (schema {found}, this one knows {known}): "
            "upgrade likeme, or restore an older backup."
        )


async def _migrate(connection: aiosqlite.Connection) -> None:
    for version, script in migrations():
        await connection.execute("BEGIN IMMEDIATE")
        try:
            if await _user_version(connection) < version:
                for statement in _statements(script):
                    await connection.execute(statement)
                await connection.execute(f"PRAGMA user_version = {version}")
        except BaseException:
            if connection.in_transaction:
                await connection.execute("ROLLBACK")
            raise
        await connection.execute("COMMIT")


def _statements(script: str) -> list[str]:
    """Split at statement ends as SQLite itself sees them (a trigger's body holds semicolons)."""
    statements, buffer = [], ""
    for line in script.splitlines(keepends=True):
        buffer += line
        if sqlite3.complete_statement(buffer):
            statements.append(buffer)
            buffer = ""
    assert not buffer.strip(), f"unfinished statement: {buffer!r}"
    return statements


async def _user_version(connection: aiosqlite.Connection) -> int:
    cursor = await connection.execute("PRAGMA user_version")
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def _plainly(path: Path) -> Iterator[None]:
    """SQLite's errors that come from outside as ours; a mistake of ours stays what it is."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _FROM_OUTSIDE:
            raise
        raise StorageError(_sentence(path, error)) from error


def _sentence(path: Path, error: Exception) -> str:
    reason = str(error)
    if "locked" in reason:
        return f"{path} is locked by another program: stop the other likeme, then try again."
    if "not a database" in reason or "malformed" in reason:
        return f"{path} is damaged or no likeme database ({reason}): restore a backup, or choose --home."
    if "full" in reason or "No space" in reason or ("I/O" in reason and _is_full(path)):
        return f"The disk is full, {path} can't grow: make room, then do it again. What was written stays."
    if "unable to open" in reason:
        return f"{path} can't be opened: check that the folder exists and is yours to write."
    return f"{path}: {reason}."


def _is_full(path: Path) -> bool:
    return shutil.disk_usage(path.parent).free < FULL_BYTES
