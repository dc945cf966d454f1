"""Does a voice recite? The longest run of words that a reply shares with one training reply.

An owner repeats himself too, and some runs are everybody's: the voice's rate stands beside that of his own
held-out replies and of the stock model.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from training.dataset.copies import normalised
from training.evaluation.intervals import Share, share

RUN = 8  # words; shorter ones are phrases
_SEED = 4  # words by which a run is looked up


@dataclass(frozen=True, slots=True)
class Recital:
    """Replies with a run of `RUN` words and more of one training reply, and the longest run in words."""

    reciting: Share
    longest: int


class Training:
    """The words of the training replies, ready to be searched for runs."""

    def __init__(self, replies: Sequence[str]) -> None:
        self._words = [normalised(reply).split() for reply in replies]
        self._places: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        for number, words in enumerate(self._words):
            for start in range(len(words) - _SEED + 1):
                self._places[tuple(words[start : start + _SEED])].append((number, start))

    def longest_run(self, reply: str) -> int:
        """In words; runs of less than four count as none."""
        words = normalised(reply).split()
        longest = 0
        for start in range(len(words) - _SEED + 1):
            for number, place in self._places.get(tuple(words[start : start + _SEED]), ()):
                longest = max(longest, _alike(words[start:], self._words[number][place:]))
        return longest

    def recital(self, replies: Sequence[str]) -> Recital:
        """How much of the training set stands in these replies."""
        runs = [self.longest_run(reply) for reply in replies]
        return Recital(share(sum(run >= RUN for run in runs), len(runs)), max(runs, default=0))


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
