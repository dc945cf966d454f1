"""Drafts that were shown, what became of them, and what was sent in the owner's name."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from storage.database import Database
from storage.records import BUSINESS_BOT

Way = Literal["hand", "card", "cloud"]
State = Literal["shown", "sending", "sent", "edited", "skipped", "answered", "replaced"]
Said = tuple[str, str]  # ("user" | "assistant", text)
BOT = "likeme"  # `via_bot` of messages that are not the owner's own words


@dataclass(frozen=True, slots=True)
class Draft:
    """Several replies to one message. `chosen` is the index of the one taken, `edited` what was sent instead."""

    draft_id: int
    created_at: datetime
    chat_id: int | None
    prompt: str
    model: str
    replies: tuple[str, ...]
    chosen: int | None
    way: Way
    context: tuple[Said, ...]
    state: State
    edited: str | None

    @property
    def words(self) -> str:
        """What is, or was, sent: the owner's own words, or the draft that he chose."""
        if self.edited is not None or self.chosen is None:
            return self.edited or ""
        return self.replies[self.chosen]

    @property
    def lines(self) -> list[str]:
        """The messages it goes out as: a draft's lines one by one, the owner's own words as he wrote them."""
        if self.edited is not None:
            return [self.edited]
        return [line.strip() for line in self.words.splitlines() if line.strip()]


async def add(
    database: Database,
    *,
    chat_id: int | None,
    context: Sequence[Said],
    model: str,
    replies: Sequence[str],
    now: datetime,
    way: Way = "hand",
) -> int:
    """Note drafts that are about to be shown; inside a transaction. Returns their id."""
    seconds, words = int(now.timestamp()), json.dumps([list(said) for said in context])
    return await database.insert(
        "INSERT INTO draft (created_at, chat_id, prompt, model, replies, way, context, state_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (seconds, chat_id, context[-1][1], model, json.dumps(list(replies)), way, words, seconds),
    )


async def find(database: Database, draft_id: int) -> Draft | None:
    """One set of drafts, or None."""
    row = await database.row("SELECT * FROM draft WHERE draft_id = ?", (draft_id,))
    return _draft(row) if row else None


async def choose(database: Database, draft_id: int, index: int, now: datetime) -> bool:
    """Note which one the owner took to send by hand; inside a transaction. False for a second tap."""
    changed = await database.execute(
        "UPDATE draft SET chosen = ?, chosen_at = ? WHERE draft_id = ? AND chosen IS NULL",
        (index, int(now.timestamp()), draft_id),
    )
    return changed > 0


async def claim(database: Database, draft_id: int, index: int | None, edited: str | None, now: datetime) -> bool:
    """Take a draft (or the owner's own words) to be sent; inside a transaction. False: it was taken before."""
    seconds = int(now.timestamp())
    changed = await database.execute(
        "UPDATE draft SET state = 'sending', chosen = ?, edited = ?, chosen_at = ?, state_at = ? "
        "WHERE draft_id = ? AND state = 'shown'",
        (index, edited, seconds, seconds, draft_id),
    )
    return changed > 0


async def give_back(database: Database, draft_id: int) -> None:
    """Nothing of it could be sent: it stands as before; inside a transaction."""
    await database.execute(
        "UPDATE draft SET state = 'shown', chosen = NULL, edited = NULL, chosen_at = NULL "
        "WHERE draft_id = ? AND state = 'sending'",
        (draft_id,),
    )


async def settle(database: Database, draft_id: int, state: State, now: datetime, edited: str | None = None) -> bool:
    """Note what became of drafts that still stood, or were being sent; inside a transaction. False: they did not."""
    changed = await database.execute(
        "UPDATE draft SET state = ?, state_at = ?, edited = ifnull(?, edited) "
        "WHERE draft_id = ? AND state IN ('shown', 'sending')",
        (state, int(now.timestamp()), edited, draft_id),
    )
    return changed > 0


async def being_sent(database: Database) -> list[Draft]:
    """Claimed and not settled: the process that sent them was stopped, or Telegram gave no answer."""
    return [_draft(row) for row in await database.rows("SELECT * FROM draft WHERE state = 'sending' ORDER BY draft_id")]


async def note_sent(
    database: Database, draft_id: int, line: int, chat_id: int, message_id: int, *, own_words: bool
) -> None:
    """A line of a draft stands in its chat; inside a transaction. Noting it twice changes nothing."""
    await database.execute(
        "INSERT INTO sent (chat_id, message_id, draft_id, line, own_words) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        (chat_id, message_id, draft_id, line, int(own_words)),
    )
    if not own_words:
        await database.execute(
            "UPDATE message SET via_bot = ? WHERE chat_id = ? AND message_id = ?", (BOT, chat_id, message_id)
        )


async def note_line(database: Database, draft: Draft, line: int, message_id: int, now: datetime) -> bool:
    """A line of a claimed draft stands in its chat; with the last one the draft is settled, at the same moment.

    Inside a transaction. Whether that was the last.
    """
    assert draft.chat_id is not None
    own = draft.edited is not None
    await note_sent(database, draft.draft_id, line, draft.chat_id, message_id, own_words=own)
    if await sent_lines(database, draft.draft_id) != set(range(len(draft.lines))):
        return False
    return await settle(database, draft.draft_id, "edited" if own else "sent", now)


async def own_words_stay_own(database: Database) -> None:
    """Telegram marks all that the bot sent; what the owner had worded himself is his. Inside a transaction, after
    messages of the account were stored."""
    await database.execute(
        "UPDATE message SET via_bot = NULL WHERE via_bot LIKE ? AND (chat_id, message_id) IN "
        "(SELECT chat_id, message_id FROM sent WHERE own_words = 1)",
        (f"{BUSINESS_BOT}%",),
    )


async def sent_lines(database: Database, draft_id: int) -> set[int]:
    """The lines of a draft that are known to stand in its chat."""
    rows = await database.rows("SELECT line FROM sent WHERE draft_id = ?", (draft_id,))
    return {row["line"] for row in rows}


def _draft(row: sqlite3.Row) -> Draft:
    return Draft(
        row["draft_id"],
        datetime.fromtimestamp(row["created_at"], UTC),
        row["chat_id"],
        row["prompt"],
        row["model"],
        tuple(json.loads(row["replies"])),
        row["chosen"],
        row["way"],
        tuple((role, text) for role, text in json.loads(row["context"])),
        row["state"],
        row["edited"],
    )
