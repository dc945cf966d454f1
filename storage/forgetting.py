"""A chat that the owner takes back: its words go, and which voices learned from them stays known."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from storage.database import Database


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What went, and the numbers of the voices that were trained on it."""

    messages: int
    drafts: int
    questions: int
    voices: tuple[int, ...]


async def forgotten(database: Database) -> dict[int, datetime]:
    """The chats that nothing may bring back, and since when."""
    rows = await database.rows("SELECT chat_id, forgotten_at FROM forgotten")
    return {row["chat_id"]: datetime.fromtimestamp(row["forgotten_at"], UTC) for row in rows}


async def forget(database: Database, chat_id: int, now: datetime) -> Forgotten:
    """Remove a chat and all that came of it; inside a transaction. `scrub` belongs to it, afterwards."""
    await database.rows("PRAGMA secure_delete = ON")
    messages = await database.execute("DELETE FROM message WHERE chat_id = ?", (chat_id,))
    drafts = await database.execute("DELETE FROM draft WHERE chat_id = ?", (chat_id,))
    questions = await database.execute("DELETE FROM question WHERE source_chat_id = ?", (chat_id,))
    await database.execute("DELETE FROM sync_position WHERE chat_id = ?", (chat_id,))
    await database.execute("DELETE FROM chat WHERE chat_id = ?", (chat_id,))
    await database.execute(
        "INSERT INTO forgotten (chat_id, forgotten_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (chat_id, int(now.timestamp())),
    )
    # The index keeps the words of deleted rows until its parts are merged.
    await database.execute("INSERT INTO message_words (message_words) VALUES ('optimize')")
    return Forgotten(messages, drafts, questions, tuple(sorted(await _voices_of(database, chat_id))))


async def scrub(database: Database) -> None:
    """Take what was deleted out of the write-ahead log too; outside any transaction."""
    await database.rows("PRAGMA wal_checkpoint(TRUNCATE)")


async def allow_again(database: Database, chat_id: int) -> bool:
    """Let imports and syncs bring a forgotten chat back; inside a transaction. False: it was not forgotten."""
    return await database.execute("DELETE FROM forgotten WHERE chat_id = ?", (chat_id,)) > 0


async def note_training(database: Database, data_sha256: str, chat_ids: Iterable[int]) -> None:
    """Note whose words a training set holds; inside a transaction."""
    rows = [(data_sha256, chat_id) for chat_id in set(chat_ids)]
    await database.execute_many(
        "INSERT INTO trained_on (data_sha256, chat_id) VALUES (?, ?) ON CONFLICT DO NOTHING", rows
    )


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file on a model server. `server`: its address; "": the one that works in this home."""

    file_id: str
    server: str


async def note_files(database: Database, data_sha256: str, server: str, file_ids: Iterable[str]) -> None:
    """Note what a model server holds of a training set; inside a transaction."""
    rows = [(file_id, server, data_sha256) for file_id in file_ids]
    await database.execute_many(
        "INSERT INTO model_file (file_id, server, data_sha256) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows
    )


async def owed(database: Database) -> list[ModelFile]:
    """What is still to be deleted: files of training sets that hold a forgotten chat."""
    rows = await database.rows(
        "SELECT DISTINCT file_id, server FROM model_file JOIN trained_on USING (data_sha256) "
        "JOIN forgotten USING (chat_id) ORDER BY server, file_id"
    )
    return [ModelFile(row["file_id"], row["server"]) for row in rows]


async def settled(database: Database, file: ModelFile) -> None:
    """A file is gone, or nobody can reach it any more; inside a transaction."""
    await database.execute("DELETE FROM model_file WHERE file_id = ? AND server = ?", (file.file_id, file.server))


async def chats_of(database: Database, data_sha256: str) -> set[int]:
    """Whose words a training set holds, those of the voice it went on from included."""
    rows = await database.rows("SELECT chat_id FROM trained_on WHERE data_sha256 = ?", (data_sha256,))
    return {row["chat_id"] for row in rows}


async def marked(database: Database) -> dict[int, int]:
    """The voices that were trained on chats forgotten since, by number, with how many chats. No training may
    go on from one of them."""
    rows = await database.rows(
        "SELECT number, count(*) AS chats FROM version JOIN trained_on USING (data_sha256) "
        "JOIN forgotten USING (chat_id) GROUP BY number"
    )
    return {row["number"]: row["chats"] for row in rows}


async def _voices_of(database: Database, chat_id: int) -> list[int]:
    rows = await database.rows(
        "SELECT number FROM version JOIN trained_on USING (data_sha256) WHERE chat_id = ?", (chat_id,)
    )
    return [row["number"] for row in rows]
