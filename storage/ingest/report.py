"""What an import did, counted while it runs and told when it is over."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from storage.records import Account


@dataclass(slots=True)
class ImportReport:
    """The counts of an import. Every entry `seen` in the file ends in `messages`, by kind, or in `left_out`,
    by reason. `damage` names the place where a broken file ended, or is ""."""

    owner: Account | None = None
    chats: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    seen: int = 0
    own: int = 0
    new: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    damage: str = ""
    seconds: float = 0.0

    def add(self, other: "ImportReport", name: str = "") -> None:
        """Add the counts of one file among several; `name` tells which."""
        self.owner = other.owner or self.owner
        for counts in ("chats", "messages", "left_out", "notes"):
            total = getattr(self, counts) + getattr(other, counts)  # without what came to nothing
            setattr(self, counts, total)
        for count in ("seen", "own", "new", "updated", "unchanged", "deleted"):
            setattr(self, count, getattr(self, count) + getattr(other, count))
        damage = f"{name}, {other.damage}" if name and other.damage else other.damage
        self.damage = "; ".join(filter(None, (self.damage, damage)))

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
            out.append(f"left out of {self.seen:,} entries: {_counts(self.left_out)}")
        if self.notes:
            out.append(f"to know: {_counts(self.notes)}")
        if total and not self.own:
            out.append("none of the messages are the owner's: is that the right account?")
        if self.damage:
            out.append(f"the file is damaged: {self.damage}. What stands before that came in.")
        return out


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in ordered)
