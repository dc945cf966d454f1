"""When two texts are the same: word for word, nearly so, or one inside the other.

Words are compared, not characters: case, punctuation and emoji are no difference, a number is always one
("at 7" and "at 8" say two things). Texts of seven words and more are near copies when at most one word in
seven differs. Candidates come from an index of each text's rarest words, so that no copy is missed and
few pairs of texts are compared (prefix filtering: Chaudhuri et al., ICDE 2006).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from rapidfuzz.distance import Indel

_WORD = re.compile(r"[^\W_]+")
NEAR_WORDS = 7  # from here on a near copy is a copy
NEAR = 6 / 7
INSIDE_WORDS = 4  # from here on a text inside another is a copy


def normalised(text: str) -> str:
    """The words alone, casefolded; the text itself where there are none (an emoji, a "?")."""
    plain = text.casefold().replace("'", "").replace("’", "")
    return " ".join(_WORD.findall(plain)) or text.strip()


def parts(text: str) -> set[str]:
    """A text as it can be repeated: whole, and each of its lines."""
    lines = text.splitlines() if "\n" in text else ()
    return {normalised(part) for part in (text, *lines) if part.strip()}


class NearCopies:
    """Normalised texts that can be asked for near copies of another. Runs are ranked once, by `texts`."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._frequency = Counter(run for text in texts for run in _runs(text.split()))
        self._blocks: dict[tuple[object, ...], list[tuple[int, list[str]]]] = defaultdict(list)

    def add(self, number: int, text: str) -> None:
        """Remember `text` under a number."""
        words = text.split()
        for block in self._keys(words):
            self._blocks[block].append((number, words))

    def of(self, text: str) -> set[int]:
        """The numbers of the texts that nearly are `text`."""
        words = text.split()
        found: set[int] = set()
        for block in self._keys(words):
            for number, other in self._blocks.get(block, ()):
                if number not in found and Indel.normalized_similarity(words, other, score_cutoff=NEAR) > 0:
                    found.add(number)
        return found

    def _keys(self, words: Sequence[str]) -> Iterator[tuple[object, ...]]:
        """A changed word spoils three runs: of 3k + 1 rarest ones, one is shared after k changes."""
        if len(words) < NEAR_WORDS:
            return
        numbers = tuple(sorted(word for word in words if any(map(str.isdigit, word))))
        rarest = sorted(set(_runs(words)), key=lambda run: (self._frequency[run], run))
        for run in rarest[: 3 * (len(words) // 6) + 1]:
            yield run, numbers


class Inside:
    """Which of the given texts stand, word for word, inside another text."""

    def __init__(self, texts: Iterable[tuple[int, str]]) -> None:
        self._starts: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for number, text in texts:
            words = text.split()
            if len(words) >= INSIDE_WORDS:
                self._starts[" ".join(words[:INSIDE_WORDS])].append((number, f" {text} "))

    def of(self, text: str) -> set[int]:
        """The numbers of the texts inside `text`."""
        words, found = text.split(), set()
        for start in range(len(words) - INSIDE_WORDS + 1):
            for number, inner in self._starts.get(" ".join(words[start : start + INSIDE_WORDS]), ()):
                if inner in f" {text} ":
                    found.add(number)
        return found


def _runs(words: Sequence[str]) -> Iterator[str]:
    return (" ".join(words[start : start + 3]) for start in range(len(words) - 2))
