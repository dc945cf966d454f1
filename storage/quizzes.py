"""Blind quizzes: their questions, where each stands, and everybody's votes. invitations.py: who was asked what."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from storage.database import Database

Source = Literal["real", "tuned", "stock"]
Kind = Literal["three", "stock", "real"]  # all three; tuned against stock; tuned against real
State = Literal["candidate", "approved", "dropped", "asked"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One of a question's replies, and who wrote it."""

    source: Source
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A held-out prompt with its replies; asking.py's rows say in which order somebody saw them."""

    question_id: int
    quiz_id: int
    source_chat_id: int
    source_message_id: int
    prompt: str
    replies: tuple[Reply, ...]
    kind: Kind
    state: State
    chat_id: int | None  # the group where the quiz is played, if it is one
    model: str
    seed: int


@dataclass(frozen=True, slots=True)
class NewQuestion:
    """A question before it has a number."""

    source_chat_id: int
    source_message_id: int
    prompt: str
    replies: tuple[Reply, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Answer:
    """Somebody's pick. `is_friend`: he has a chat in the owner's history."""

    question_id: int
    model: str
    kind: Kind
    voter_id: int
    voter_name: str
    is_friend: bool
    source: Source
    voted_at: datetime


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
            "INSERT INTO question (quiz_id, source_chat_id, source_message_id, prompt, replies, kind, state) "
            "VALUES (?, ?, ?, ?, ?, ?, 'candidate')",
            (
                quiz_id,
                question.source_chat_id,
                question.source_message_id,
                question.prompt,
                json.dumps(replies),
                question.kind,
            ),
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


async def answers(database: Database) -> list[Answer]:
    """Every vote in the order of voting. The owner's own don't count, nor those of a question's own friend."""
    rows = await database.rows(
        "SELECT vote.*, question.kind, quiz.model, chat.chat_id IS NOT NULL AS is_friend "
        "FROM vote JOIN question USING (question_id) JOIN quiz USING (quiz_id) "
        "LEFT JOIN chat ON chat.chat_id = vote.voter_id AND chat.kind = 'personal' "
        "WHERE is_owner = 0 AND vote.voter_id <> question.source_chat_id ORDER BY voted_at, vote.rowid"
    )
    return [
        Answer(
            row["question_id"],
            row["model"],
            row["kind"],
            row["voter_id"],
            row["voter_name"],
            bool(row["is_friend"]),
            row["source"],
            datetime.fromtimestamp(row["voted_at"], UTC),
        )
        for row in rows
    ]


_SELECT = (
    "SELECT question.*, quiz.chat_id AS chat_id, quiz.model AS model, quiz.seed AS seed FROM question "
    "JOIN quiz USING (quiz_id) "
)


def _question(row: sqlite3.Row) -> Question:
    return Question(
        row["question_id"],
        row["quiz_id"],
        row["source_chat_id"],
        row["source_message_id"],
        row["prompt"],
        tuple(Reply(source, text) for source, text in json.loads(row["replies"])),
        row["kind"],
        row["state"],
        row["chat_id"],
        row["model"],
        row["seed"],
    )
