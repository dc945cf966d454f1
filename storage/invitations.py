"""Who was asked which question where, and the links by which friends come in."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from storage.database import Database


@dataclass(frozen=True, slots=True)
class Invitation:
    """One friend's way into a quiz. `taken_by` is who opened it first, `language` the one he reads."""

    invitation_id: int
    token: str
    quiz_id: int
    expires_at: datetime
    is_revoked: bool
    taken_by: int | None
    language: str = "en"

    def is_open(self, now: datetime) -> bool:
        """Whether it still leads anywhere."""
        return not self.is_revoked and now < self.expires_at


@dataclass(frozen=True, slots=True)
class Asking:
    """A question as it was put into a chat. `order` are indices into the question's replies."""

    asking_id: int
    question_id: int
    chat_id: int
    invitation_id: int | None
    order: tuple[int, ...]
    message_id: int | None


async def add(database: Database, *, token: str, quiz_id: int, now: datetime, expires_at: datetime) -> int:
    """Note a new link; inside a transaction. Returns its id."""
    return await database.insert(
        "INSERT INTO invitation (token, quiz_id, created_at, expires_at) VALUES (?, ?, ?, ?)",
        (token, quiz_id, int(now.timestamp()), int(expires_at.timestamp())),
    )


async def find(database: Database, invitation_id: int) -> Invitation | None:
    """One link, or None."""
    return _invitation(await database.row("SELECT * FROM invitation WHERE invitation_id = ?", (invitation_id,)))


async def find_by_token(database: Database, token: str) -> Invitation | None:
    """The link that carries this token, or None."""
    return _invitation(await database.row("SELECT * FROM invitation WHERE token = ?", (token,)))


async def take(database: Database, invitation_id: int, user_id: int, language: str) -> bool:
    """Bind a link to whoever opens it; inside a transaction. False: somebody else has it."""
    changed = await database.execute(
        "UPDATE invitation SET taken_by = ?, language = ? WHERE invitation_id = ? AND ifnull(taken_by, ?) = ?",
        (user_id, language, invitation_id, user_id, user_id),
    )
    return changed > 0


async def revoke(database: Database, invitation_id: int, now: datetime) -> bool:
    """Close a link; inside a transaction. False: it was closed already."""
    changed = await database.execute(
        "UPDATE invitation SET revoked_at = ? WHERE invitation_id = ? AND revoked_at IS NULL",
        (int(now.timestamp()), invitation_id),
    )
    return changed > 0


async def taken(database: Database) -> list[Invitation]:
    """Every link that somebody has opened."""
    rows = await database.rows("SELECT * FROM invitation WHERE taken_by IS NOT NULL ORDER BY invitation_id")
    return [found for row in rows if (found := _invitation(row))]


async def unanswered(database: Database, invitation: Invitation) -> list[int]:
    """Ids of the questions that are still to be put to him: approved, not from his own chat, without his vote."""
    rows = await database.rows(
        "SELECT question_id FROM question WHERE quiz_id = ? AND state IN ('approved', 'asked') "
        "AND source_chat_id <> ? AND NOT EXISTS "
        "(SELECT 1 FROM vote WHERE vote.question_id = question.question_id AND voter_id = ?) ORDER BY question_id",
        (invitation.quiz_id, invitation.taken_by, invitation.taken_by),
    )
    return [row["question_id"] for row in rows]


async def add_asking(
    database: Database,
    *,
    question_id: int,
    chat_id: int,
    invitation_id: int | None,
    order: Sequence[int],
    now: datetime,
) -> int:
    """Note a question that is about to be put; inside a transaction. Returns its id."""
    return await database.insert(
        "INSERT INTO asking (question_id, chat_id, invitation_id, order_shown, asked_at) VALUES (?, ?, ?, ?, ?)",
        (question_id, chat_id, invitation_id, json.dumps(list(order)), int(now.timestamp())),
    )


async def without_poll(database: Database, user_id: int) -> list[Asking]:
    """What was put to a friend and may stand before him though no poll is known, unanswered, the newest first."""
    rows = await database.rows(
        "SELECT asking.* FROM asking JOIN invitation USING (invitation_id) WHERE taken_by = ? AND poll_id IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM vote WHERE vote.question_id = asking.question_id AND voter_id = taken_by) "
        "ORDER BY asking_id DESC",
        (user_id,),
    )
    return [_asking(row) for row in rows]


async def set_poll(database: Database, asking_id: int, poll_id: str, message_id: int | None) -> None:
    """Note the poll that Telegram has taken; inside a transaction."""
    await database.execute(
        "UPDATE asking SET poll_id = ?, message_id = ? WHERE asking_id = ?", (poll_id, message_id, asking_id)
    )


async def find_by_poll(database: Database, poll_id: str) -> Asking | None:
    """What a poll asks, or None."""
    row = await database.row("SELECT * FROM asking WHERE poll_id = ?", (poll_id,))
    return _asking(row) if row else None


async def open_polls(database: Database, invitation_id: int) -> list[Asking]:
    """The polls of a link that its friend has not answered, the newest first."""
    rows = await database.rows(
        "SELECT asking.* FROM asking JOIN invitation USING (invitation_id) WHERE invitation_id = ? "
        "AND poll_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM vote "
        "WHERE vote.question_id = asking.question_id AND voter_id = taken_by) ORDER BY asking_id DESC",
        (invitation_id,),
    )
    return [_asking(row) for row in rows]


def _invitation(row: sqlite3.Row | None) -> Invitation | None:
    if row is None:
        return None
    expires = datetime.fromtimestamp(row["expires_at"], UTC)
    gone = row["revoked_at"] is not None
    return Invitation(
        row["invitation_id"], row["token"], row["quiz_id"], expires, gone, row["taken_by"], row["language"]
    )


def _asking(row: sqlite3.Row) -> Asking:
    return Asking(
        row["asking_id"],
        row["question_id"],
        row["chat_id"],
        row["invitation_id"],
        tuple(json.loads(row["order_shown"])),
        row["message_id"],
    )
