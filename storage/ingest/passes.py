"""As many passes over a file as its state asks for: one where it is sound.

Where the parser stumbles, the file is read again with thorough mending, and the walk is taken up where it
broke. What stays broken then is the damage, known to the byte.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.ingest.mending import Thorough, light
from storage.ingest.unpacking import Cut, text_of
from storage.ingest.walk import Broken, Sink, Walk

_MOST_PASSES = 4
_BY_ITSELF = "the file ends in the middle of its text"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was read: the document's own fields, what was mended, and where it broke, if it did."""

    root: dict[str, Any]
    strays: int
    mended: Counter[str] = field(default_factory=Counter)
    damage: str = ""


class _Text:
    """The file's text once, from the start; `cut` tells why it ended early."""

    def __init__(self, path: Path, on_read: Callable[[int], None]) -> None:
        self.cut = ""
        self._path = path
        self._on_read = on_read

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in text_of(self._path, self._on_read):
                if chunk:
                    yield chunk
        except Cut as cut:
            self.cut = str(cut)
        except OSError as error:  # it was there a moment ago
            self.cut = f"it can't be opened again ({error.strerror})"


def read_through(path: Path, sink: Sink, on_pass: Callable[[], Callable[[int], None]]) -> Outcome:
    """Walk through the file, as far as it can be read. `on_pass` gives every pass its listener to the position."""
    text, walk = _Text(path, on_pass()), Walk(sink)
    try:
        walk.run(light(text))
        return Outcome(walk.root, walk.strays, damage=text.cut)
    except Broken as broken:
        return _again(path, sink, on_pass, walk, broken)


def _again(path: Path, sink: Sink, on_pass: Callable[[], Callable[[int], None]], walk: Walk, broken: Broken) -> Outcome:
    for _ in range(_MOST_PASSES):
        text, thorough, walk = _Text(path, on_pass()), Thorough(broken.place), Walk(sink, taken_up=walk)
        try:
            walk.run(thorough.pieces(text))
            return Outcome(walk.root, walk.strays, thorough.mended, text.cut)
        except Broken as again:
            exact = again.at_end or thorough.looks_at(again.place)
            broken = again
        if exact:
            break
    walk.give_up(thorough.open_at_end if broken.at_end else thorough.depth)
    place = thorough.length if broken.at_end else broken.place
    reason = (text.cut or _BY_ITSELF) if broken.at_end else broken.reason
    return Outcome(walk.root, walk.strays, thorough.mended, f"at byte {place:,} of its text: {reason}")
