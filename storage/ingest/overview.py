"""A look over a whole export before anything of it is stored.

It is taken where the export's order does not allow to read it in one go (messages before their chat's id, no
owner named), and where the database holds messages already: what is newer, and what the account has deleted,
can be said only of a chat whose reach is known.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from storage.ingest.entries import account_of, chat_of, has_old_ids, sender_of, whole_number
from storage.ingest.walk import OpenChat
from storage.records import Account, Chat

_MOST_SENDERS = 10_000


class NeedsOverview(Exception):
    """The export can't be read in one go."""


@dataclass(slots=True)
class Reach:
    """One chat of the file: what it is, and which of its messages the file tells of."""

    chat: Chat | None = None
    newest: int | None = None
    unclear: int = 0  # entries without an id: any stored message may be one of them
    sender: str | None = None  # the first one met
    others: bool = False  # whether somebody else writes as well
    whole: bool = False


@dataclass(slots=True)
class Overview:
    """What a look over the file found; a sink of a walk."""

    owner: Account | None = None
    reaches: list[Reach] = field(default_factory=list)
    senders: Counter[str] = field(default_factory=Counter)
    old_ids: bool = False
    _times: Counter[int] = field(default_factory=Counter)
    _newest: dict[int, int] = field(default_factory=dict)

    def entries(self, chat: OpenChat, entries: list[Any]) -> None:
        """Look at the next entries of a chat."""
        reach = self._reach(chat)
        self.old_ids = self.old_ids or has_old_ids(entries)
        for entry in entries:
            if not isinstance(entry, dict) or (found := whole_number(entry.get("id"))) is None:
                reach.unclear += 1
                continue
            if reach.newest is None or found > reach.newest:
                reach.newest = found
            self._note_sender(reach, sender_of(entry))

    def chat_over(self, chat: OpenChat, whole: bool) -> None:
        """Settle what the chat is, now that all its fields are there."""
        reach = self._reach(chat)
        reach.whole = whole
        reach.chat = found = chat_of(chat.fields, self.old_ids)
        if found is not None:
            self._times[found.chat_id] += 1
            if reach.newest is not None:
                self._newest[found.chat_id] = max(reach.newest, self._newest.get(found.chat_id, reach.newest))

    def end(self) -> None:
        """Nothing is held back."""

    def finish(self, root: dict[str, Any]) -> None:
        """Take the owner from the document's own fields."""
        self.owner = account_of(root.get("personal_information"))

    def newest(self, chat_id: int) -> int | None:
        """The highest message id that the file has of a chat."""
        return self._newest.get(chat_id)

    def covers(self, index: int) -> bool:
        """Whether a message that the file has not, between two that it has, was plainly deleted."""
        reach = self.reaches[index]
        return reach.whole and not reach.unclear and reach.chat is not None and self._times[reach.chat.chat_id] == 1

    def own_only(self, index: int, own: str) -> bool:
        """Whether the file holds nothing but the owner's messages of a chat, as Telegram Desktop can be told to."""
        reach = self.reaches[index]
        return not reach.others and reach.sender in (None, own)

    def _reach(self, chat: OpenChat) -> Reach:
        while len(self.reaches) <= chat.index:
            self.reaches.append(Reach())
        return self.reaches[chat.index]

    def _note_sender(self, reach: Reach, sender: str | None) -> None:
        if sender is None:
            return
        if reach.sender is None:
            reach.sender = sender
        reach.others |= sender != reach.sender
        if sender in self.senders or len(self.senders) < _MOST_SENDERS:
            self.senders[sender] += 1
