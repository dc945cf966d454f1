"""Blind quizzes: their questions, where each stands, and everybody's votes."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from storage.database import Database

Source = Literal["real", "tuned", "stock"]
State = Literal["candidate", "approved", "dropped", "asked"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One of a question's replies, and who wrote it."""

    source: Source
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A held-out prompt with its replies in the order in which they are shown."""

    question_id: int
    quiz_id: int
    source_chat_id: int
    source_message_id: int
    prompt: str
    replies: tuple[Reply, ...]
    state: State
    poll_id: str | None
    chat_id: int | None  # where the quiz is played
    model: str


@dataclass(frozen=True, slots=True)
class NewQuestion:
    """A question before it has a number."""

    source_chat_id: int
    source_message_id: int
    prompt: str
    replies: tuple[Reply, ...]


async def add_quiz(
    database: Database,
    *,
    chat_id: int | None,
    model: str,
    seed: int,
    questions: Sequence[NewQuestion],
    now: datetime,
) -> int:
    """Note a quiz with its candidate questions; inside a transaction. Returns its id."""
    quiz_id = await database.insert(
        "INSERT INTO quiz (created_at, chat_id, model, seed) VALUES (?, ?, ?, ?)",
        (int(now.timestamp()), chat_id, model, seed),
    )
    for question in questions:
        replies = [[reply.source, reply.text] for reply in question.replies]
        await database.execute(
            "INSERT INTO question (quiz_id, source_chat_id, source_message_id, prompt, replies, state) "
            "VALUES (?, ?, ?, ?, ?, 'candidate')",
            (quiz_id, question.source_chat_id, question.source_message_id, question.prompt, json.dumps(replies)),
        )
    return quiz_id


async def questions(database: Database, quiz_id: int) -> list[Question]:
    """A quiz's questions in order."""
    return [
        _question(row) for row in await database.rows(_SELECT + "WHERE quiz_id = ? ORDER BY question_id", (quiz_id,))
    ]


async def find(database: Database, question_id: int) -> Question | None:
    """One question, or None."""
    row = await database.row(_SELECT + "WHERE question_id = ?", (question_id,))
    return _question(row) if row else None


async def find_by_poll(database: Database, poll_id: str) -> Question | None:
    """The question behind a poll, or None."""
    row = await database.row(_SELECT + "WHERE poll_id = ?", (poll_id,))
    return _question(row) if row else None


async def asked_before(database: Database) -> set[tuple[int, int]]:
    """(chat, message) of every held-out reply that has been a question."""
    rows = await database.rows("SELECT source_chat_id, source_message_id FROM question WHERE state <> 'dropped'")
    return {(row["source_chat_id"], row["source_message_id"]) for row in rows}


async def move(database: Database, question_id: int, old: State, new: State) -> bool:
    """Take a question from one state to the next; inside a transaction. False: it is not in `old` any more."""
    changed = await database.execute(
        "UPDATE question SET state = ? WHERE question_id = ? AND state = ?", (new, question_id, old)
    )
    return changed > 0


async def set_poll(database: Database, question_id: int, poll_id: str) -> None:
    """Note the poll that asks a question; inside a transaction."""
    await database.execute("UPDATE question SET poll_id = ? WHERE question_id = ?", (poll_id, question_id))


async def vote(
    database: Database,
    question_id: int,
    *,
    voter_id: int,
    voter_name: str,
    is_owner: bool,
    source: Source,
    now: datetime,
) -> bool:
    """Note a vote; inside a transaction. The first one counts: False for a second."""
    changed = await database.execute(
        "INSERT INTO vote (question_id, voter_id, voter_name, is_owner, source, voted_at) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        (question_id, voter_id, voter_name, int(is_owner), source, int(now.timestamp())),
    )
    return changed > 0


async def picks(database: Database) -> dict[str, dict[Source, int]]:
    """For each voice version: how often each source was picked as the owner. His own votes don't count."""
    rows = await database.rows(
        "SELECT model, source, count(*) AS n FROM vote JOIN question USING (question_id) JOIN quiz USING (quiz_id) "
        "WHERE is_owner = 0 GROUP BY model, source"
    )
    found: dict[str, dict[Source, int]] = {}
    for row in rows:
        found.setdefault(row["model"], {"real": 0, "tuned": 0, "stock": 0})[row["source"]] = row["n"]
    return found


_SELECT = "SELECT question.*, quiz.chat_id AS chat_id, quiz.model AS model FROM question JOIN quiz USING (quiz_id) "


def _question(row: sqlite3.Row) -> Question:
    return Question(
        row["question_id"],
        row["quiz_id"],
        row["source_chat_id"],
        row["source_message_id"],
        row["prompt"],
        tuple(Reply(source, text) for source, text in json.loads(row["replies"])),
        row["state"],
        row["poll_id"],
        row["chat_id"],
        row["model"],
    )
