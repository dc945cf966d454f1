"""The soak's books: what was killed, what should be there, what is."""

import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Books:
    """Counts by kind. `wrong` are the lines that do not balance, by round and at the end."""

    kills: Counter[str]
    counted: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def balance(self, what: str, expected: Any, found: Any) -> None:
        """Note a pair of numbers or sets; what differs is wrong."""
        if isinstance(expected, set):
            lost, more = len(expected - found), len(found - expected)
            self.counted[what] = f"{len(expected):,} expected, {len(found):,} there, {lost} lost, {more} too many"
            right = lost == more == 0
        else:
            self.counted[what] = f"{expected} expected, {found} there"
            right = expected == found
        if not right:
            self.wrong.append(f"{what}: {self.counted[what]}")

    def integrity(self, what: str, path: Path) -> None:
        """SQLite's own judgement of a database, its full-text index included."""
        connection = sqlite3.connect(path)
        try:
            said = ", ".join(row[0] for row in connection.execute("PRAGMA integrity_check"))
            connection.execute("INSERT INTO message_words (message_words) VALUES ('integrity-check')")
            broken = len(connection.execute("PRAGMA foreign_key_check").fetchall())
        except sqlite3.Error as error:
            said, broken = str(error), 0
        finally:
            connection.close()
        self.balance(f"integrity_check of {what}", "ok, 0 broken references", f"{said}, {broken} broken references")

    def table(self, command: str) -> str:
        """Everything, as text."""
        lines = [command, "", f"{sum(self.kills.values())} kills with SIGKILL in {self.seconds:,.0f} s"]
        lines += [f"  {count:4}  {name}" for name, count in sorted(self.kills.items())]
        lines += ["", "what is left"]
        lines += [f"  {name}: {said}" for name, said in self.counted.items()]
        lines += [f"  {name}: {count}" for name, count in sorted(self.notes.items())]
        verdict = [f"WRONG  {line}" for line in self.wrong] or ["nothing lost, nothing doubled"]
        lines += ["", *verdict]
        return "\n".join(lines)


def rows(path: Path, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """A query on a database that others write to."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()
