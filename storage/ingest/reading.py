"""The entries of an export -> batches of rows, with every entry counted."""

from array import array
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.errors import BadInput
from storage.ingest.entries import account_of, chat_of, has_old_ids, row_of, whole_number
from storage.ingest.overview import NeedsOverview, Overview
from storage.ingest.walk import OpenChat
from storage.records import Account, Chat
from storage.rows import Row

BATCH = 20_000
NO_CHAT_ID = "in a chat without an id"
TWICE = "ids that stand twice in the file (the later state counts)"
_BEFORE_ALL = -(2**63)


@dataclass(frozen=True, slots=True)
class Covered:
    """A chat that was read to its end: what stands in the database between these ids and is not here, is gone."""

    chat_id: int
    ids: "array[int]"
    own_only: bool


@dataclass(slots=True)
class Batch:
    """What one transaction takes, of `seen` entries. `zoneless`: rows whose dates name no zone."""

    owner: Account | None = None
    chats: list[Chat] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    zoneless: set[tuple[int, int]] = field(default_factory=set)
    covered: list[Covered] = field(default_factory=list)
    seen: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Owner:
    """Whose export it is: what the caller says, what the database knows; the file has the last word."""

    path: Path
    me: int | None
    known: Account | None

    def found(self, root: dict[str, Any], overview: Overview | None) -> Account:
        """Raises BadInput where the file is not this owner's or can't be told, NeedsOverview where not yet."""
        owner = overview.owner if overview else account_of(root.get("personal_information"))
        if owner is None and overview is None and (self.me is None or "messages" not in root):
            raise NeedsOverview
        if owner is None:
            owner = self._named(overview)
        elif self.me is not None and self.me != owner.user_id:
            raise BadInput(f"{self.path} is user {owner.user_id}'s export, not {self.me}'s: leave --me out.")
        if self.known is not None and self.known.user_id != owner.user_id:
            raise BadInput(
                f"This home holds the history of user {self.known.user_id}, {self.path} is user {owner.user_id}'s: "
                "name another folder with --home."
            )
        return owner

    def _named(self, overview: Overview | None) -> Account:
        if self.me is not None:
            return Account(self.me)
        if self.known is not None and overview and f"user{self.known.user_id}" in overview.senders:
            return Account(self.known.user_id)
        raise BadInput(
            f"{self.path} does not say whose export it is: add --me with your user id. "
            f"{_who_writes(overview) if overview else ''}"
        )


class Reading:
    """A sink of a walk: entries in, batches out."""

    def __init__(
        self,
        owner: Owner,
        stored: Collection[int],
        overview: Overview | None,
        put: Callable[[Batch], None],
        forgotten: Collection[int] = (),
    ) -> None:
        self._owner = owner
        self._stored = stored  # chats that the database has messages of
        self._forgotten = forgotten  # chats that the owner wants nothing of
        self._overview = overview
        self._put = put
        self._batch = Batch()
        self._own = ""
        self._old_ids = overview.old_ids if overview else False
        self._index = -1
        self._chat: Chat | None = None
        self._why_not = ""
        self._ids: array[int] | None = None
        self._last = _BEFORE_ALL
        self._met: set[int] = set()
        self._may_repeat = False

    def entries(self, chat: OpenChat, entries: list[Any]) -> None:
        """Take the next entries of a chat."""
        if chat.index != self._index:
            self._begin(chat, entries)
        self._batch.seen += len(entries)
        if self._chat is None:
            self._batch.left_out[self._why_not] += len(entries)
            return
        for start in range(0, len(entries), BATCH):
            self._convert(entries[start : start + BATCH], self._chat.chat_id)
            if len(self._batch.rows) >= BATCH:
                self._flush()

    @property
    def place(self) -> str:
        """Where the reading stands, for people."""
        if self._chat is None:
            return "before the first chat"
        behind = f" after message {self._last}" if self._last != _BEFORE_ALL else ""
        return f"in chat {self._chat.chat_id}{behind}"

    def chat_over(self, chat: OpenChat, whole: bool) -> None:
        """Note what the chat's list covers."""
        if chat.index != self._index:
            self._begin(chat, [])
        if self._chat is None or self._ids is None or not whole or self._overview is None:
            return
        if self._ids and self._overview.covers(chat.index):
            own_only = self._overview.own_only(chat.index, self._own)
            self._batch.covered.append(Covered(self._chat.chat_id, self._ids, own_only))

    def end(self) -> None:
        """Hand over what has gathered."""
        self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, Batch()
        if self._may_repeat:
            kept = _without_repeats(batch.rows)
            batch.left_out[TWICE] += len(batch.rows) - len(kept)
            batch.rows = kept
        self._may_repeat = False
        self._put(batch)

    def _begin(self, chat: OpenChat, entries: list[Any]) -> None:
        if not self._own:
            owner = self._owner.found(chat.root, self._overview)
            self._own = f"user{owner.user_id}"
            self._batch.owner = owner
        self._old_ids = self._old_ids or has_old_ids(entries)
        if self._overview is not None:
            found = self._overview.reaches[chat.index].chat
        elif chat.closed or ("id" in chat.fields and "type" in chat.fields and "name" in chat.fields):
            found = chat_of(chat.fields, self._old_ids)
        else:
            raise NeedsOverview
        self._why_not = "in a chat without an id"
        if found is not None and found.chat_id in self._forgotten:
            found, self._why_not = None, "in a chat that you have forgotten"
        self._index, self._chat, self._last, self._ids = chat.index, found, _BEFORE_ALL, None
        if found is not None:
            if len(self._batch.chats) >= BATCH:
                self._flush()
            self._batch.chats.append(found)
            self._ids = array("q") if found.chat_id in self._stored else None
            self._may_repeat |= found.chat_id in self._met
            self._met.add(found.chat_id)

    def _convert(self, entries: list[Any], chat_id: int) -> None:
        rows, own, last = self._batch.rows, self._own, self._last
        for entry in entries:
            row = row_of(entry, chat_id, own)
            if isinstance(row, str):
                self._batch.left_out[row] += 1
                continue
            if row[1] <= last:
                self._may_repeat = True
            last = row[1]
            rows.append(row)
            if "date_unixtime" not in entry:
                self._batch.zoneless.add(row[:2])
        self._last = last
        if self._ids is not None:
            numbers = (whole_number(entry.get("id")) for entry in entries if isinstance(entry, dict))
            self._ids.extend(number for number in numbers if number is not None)


def _without_repeats(rows: list[Row]) -> list[Row]:
    kept: dict[tuple[int, int], Row] = {}
    for row in rows:
        before = kept.get(row[:2])
        if before is None or (row[11] or 0) >= (before[11] or 0):
            kept[row[:2]] = row
    return list(kept.values())


def _who_writes(overview: Overview) -> str:
    others = {f"user{reach.chat.chat_id}" for reach in overview.reaches if reach.chat}
    listed = [
        f"{sender} ({n:,} messages{', whom the chat is with' if sender in others else ''})"
        for sender, n in overview.senders.most_common(5)
    ]
    return f"Those who write in it: {', '.join(listed)}." if listed else "Nobody in it has an id."
