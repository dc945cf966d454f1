"""What an import did, counted while it runs and told when it is over."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from storage.records import Account


@dataclass(slots=True)
class Tally:
    """The running counts; every entry of the file ends in `messages` or `left_out`."""

    owner: Account | None = None
    chats: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    new: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    own: int = 0
    damage: list[str] = field(default_factory=list)

    def add(self, other: "Tally", name: str) -> None:
        """Add the counts of one file among several; `name` tells which."""
        self.owner = other.owner or self.owner
        for counts, more in zip(self._counters(), other._counters(), strict=True):
            counts.update(more)
        self.new += other.new
        self.updated += other.updated
        self.unchanged += other.unchanged
        self.deleted += other.deleted
        self.own += other.own
        self.damage += [f"{name}, {damage}" if name else damage for damage in other.damage]

    def _counters(self) -> tuple[Counter[str], ...]:
        return self.chats, self.messages, self.left_out, self.notes

    def report(self, seconds: float) -> "ImportReport":
        """The counts as they stand."""
        notes = +self.notes
        total = sum(self.messages.values())
        if total and not self.own:
            notes["messages, none of them the owner's: is that the right account?"] = total
        return ImportReport(
            owner=self.owner,
            chats=+self.chats,
            messages=+self.messages,
            left_out=+self.left_out,
            notes=notes,
            new=self.new,
            updated=self.updated,
            unchanged=self.unchanged,
            deleted=self.deleted,
            damage="; ".join(self.damage),
            seconds=seconds,
        )


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did. `damage` names the place where a broken file ended, or is ""."""

    owner: Account | None = None
    chats: Mapping[str, int] = field(default_factory=Counter)
    messages: Mapping[str, int] = field(default_factory=Counter)
    left_out: Mapping[str, int] = field(default_factory=Counter)
    notes: Mapping[str, int] = field(default_factory=Counter)
    new: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    damage: str = ""
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """The report for people."""
        total = sum(self.messages.values())
        out = [
            f"{total:,} messages in {sum(self.chats.values()):,} chats ({_counts(self.chats) or 'none'})",
            f"by kind: {_counts(self.messages) or 'none'}",
            f"{self.new:,} new, {self.updated:,} updated, {self.unchanged:,} unchanged, "
            f"{self.deleted:,} marked as deleted by the account, in {self.seconds:.1f} s",
        ]
        if self.left_out:
            out.append(f"left out: {_counts(self.left_out)}")
        if self.notes:
            out.append(f"to know: {_counts(self.notes)}")
        if self.damage:
            out.append(f"the file is damaged: {self.damage}. What stands before that came in.")
        return out


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in ordered)
