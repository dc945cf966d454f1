"""Drafts that were shown, and which of them the owner took."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from storage.database import Database


@dataclass(frozen=True, slots=True)
class Draft:
    """Several replies to one message. `chosen` is the index of the one taken."""

    draft_id: int
    created_at: datetime
    chat_id: int | None
    prompt: str
    model: str
    replies: tuple[str, ...]
    chosen: int | None


async def add(
    database: Database, *, chat_id: int | None, prompt: str, model: str, replies: Sequence[str], now: datetime
) -> int:
    """Note drafts that are about to be shown; inside a transaction. Returns their id."""
    return await database.insert(
        "INSERT INTO draft (created_at, chat_id, prompt, model, replies) VALUES (?, ?, ?, ?, ?)",
        (int(now.timestamp()), chat_id, prompt, model, json.dumps(list(replies))),
    )


async def find(database: Database, draft_id: int) -> Draft | None:
    """One set of drafts, or None."""
    row = await database.row("SELECT * FROM draft WHERE draft_id = ?", (draft_id,))
    if row is None:
        return None
    created = datetime.fromtimestamp(row["created_at"], UTC)
    replies = tuple(json.loads(row["replies"]))
    return Draft(row["draft_id"], created, row["chat_id"], row["prompt"], row["model"], replies, row["chosen"])


async def choose(database: Database, draft_id: int, index: int, now: datetime) -> bool:
    """Note the owner's choice; inside a transaction. False when one was taken before: a second tap."""
    changed = await database.execute(
        "UPDATE draft SET chosen = ?, chosen_at = ? WHERE draft_id = ? AND chosen IS NULL",
        (index, int(now.timestamp()), draft_id),
    )
    return changed > 0
