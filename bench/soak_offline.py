"""Imports and migrations, killed and done again."""

import json
import random
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.soak_books import Books, rows
from bench.soak_process import Process, until
from storage.database import migrations

OWNER, CHATS, MESSAGES = 1001, 60, 1000  # of each chat
START = datetime(2025, 1, 1, tzinfo=UTC)


class Importing:
    """`likeme import` of a whole-account export."""

    def __init__(self, folder: Path, books: Books, chance: random.Random) -> None:
        self._folder, self._books, self._chance = folder, books, chance
        folder.mkdir(parents=True)
        self._export = folder / "result.json"
        self._export.write_text(json.dumps(_export()), encoding="utf-8")

    async def round(self) -> None:
        """Killed once, then done to the end: every message is there once."""
        home = self._folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        command = ("-m", "bot", "import", str(self._export), "--home", str(home))
        process = await Process(self._folder / "import.log", *command).start()
        if await until(lambda: not process.is_up() or (home / "history.db-wal").exists(), 30):
            await until(lambda: not process.is_up(), self._chance.uniform(0, 0.9))
        await process.kill()
        here = _count(home)
        again = await Process(self._folder / "import.log", *command).start()
        code = await again.ended()
        self._books.notes["imports killed with some of the messages in"] += 0 < here < CHATS * MESSAGES
        self._books.balance("imported", (0, CHATS * MESSAGES), (code, _count(home)))
        self._books.integrity("an import", home / "history.db")


class Migrating:
    """An old database that a newer likeme opens."""

    def __init__(self, folder: Path, books: Books, chance: random.Random) -> None:
        self._folder, self._books, self._chance = folder, books, chance
        folder.mkdir(parents=True)
        self._old = folder / "old.db"
        _old_database(self._old)

    async def round(self) -> None:
        """Killed once, then opened again: the newest schema, all messages."""
        home = self._folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        shutil.copyfile(self._old, home / "history.db")
        command = ("-m", "bot", "versions", "--home", str(home))
        process = await Process(self._folder / "migration.log", *command).start()
        if await until(lambda: not process.is_up() or (home / "history.db-wal").exists(), 30):
            wanted = self._chance.randrange(2, migrations()[-1][0] + 1)
            await until(lambda: not process.is_up() or _schema(home) >= wanted, 30, look=0.0005)
        await process.kill()
        newest, reached = migrations()[-1][0], _schema(home)
        self._books.notes["migrations killed halfway"] += 1 < reached < newest
        again = await Process(self._folder / "migration.log", *command).start()
        code = await again.ended()
        self._books.balance("migrated", (0, newest, CHATS * MESSAGES), (code, _schema(home), _count(home)))
        self._books.integrity("a migration", home / "history.db")


def _schema(home: Path) -> int:
    return int(rows(home / "history.db", "PRAGMA user_version")[0][0])


def _count(home: Path) -> int:
    try:
        return int(rows(home / "history.db", "SELECT count(*) FROM message")[0][0])
    except sqlite3.Error:  # killed before there was one
        return 0


def _export() -> dict[str, object]:
    def message(chat: int, number: int) -> dict[str, object]:
        own = number % 2
        when = START + timedelta(minutes=number)
        return {
            "id": chat * MESSAGES + number + 1,
            "type": "message",
            "date": f"{when:%Y-%m-%dT%H:%M:%S}",
            "date_unixtime": str(int(when.timestamp())),
            "from": "Owner" if own else f"Friend {chat}",
            "from_id": f"user{OWNER if own else 5000 + chat}",
            "text": f"chat {chat} says {number}",
            "text_entities": [],
        }

    chats = [
        {"name": f"Friend {chat}", "type": "personal_chat", "id": 5000 + chat,
         "messages": [message(chat, number) for number in range(MESSAGES)]}
        for chat in range(CHATS)
    ]  # fmt: skip
    person = {"user_id": OWNER, "first_name": "Owner", "last_name": "", "phone_number": "", "username": ""}
    return {"personal_information": person, "chats": {"list": chats}}


def _old_database(path: Path) -> None:
    """As the first migration left it, with messages."""
    connection = sqlite3.connect(path)
    connection.executescript(migrations()[0][1])
    for chat in range(CHATS):
        connection.execute("INSERT INTO chat (chat_id, kind, name) VALUES (?, 'personal', ?)", (chat, f"Friend {chat}"))
        connection.executemany(
            "INSERT INTO message (chat_id, message_id, date, sender, is_own, kind, text) "
            "VALUES (?, ?, ?, 'user1', 0, 'text', ?)",
            ((chat, number, number, f"chat {chat} says {number}") for number in range(MESSAGES)),
        )
    connection.execute("INSERT INTO message_words (message_words) VALUES ('rebuild')")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
