"""Examples -> rows of tokens without padding, and an optimiser step's examples -> its rows.

Every row begins once with the tokens that all examples begin with (the system line); the examples' own
tokens stand behind it one after another, each seeing the beginning and itself (attention.py). The loss of
a step is the sum over its reply tokens divided by their number, whatever rows they lie in, and the
gradient of the shared beginning is the sum over the examples. What comes out is what each example alone gives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile

from training.dataset.render import IGNORED, Encoded

LEAST_SHARED = 8


@dataclass(frozen=True, slots=True)
class Row:
    """Several examples as one sequence of `tokens` ids; positions go on from the shared beginning.

    `keep` are the places whose logits predict a reply token, `targets` those tokens: logits are
    computed for them alone. The first `shared` tokens are every example's; example i's own tokens
    end before `ends[i]`, and `which[i]` is its place among those that were packed.
    """

    ids: list[int]  # (tokens,)
    positions: list[int]  # (tokens,)
    keep: list[int]  # (reply tokens,)
    targets: list[int]  # (reply tokens,)
    shared: int
    ends: list[int]  # (examples,)
    which: list[int] = field(default_factory=list)  # (examples,)

    def spans(self) -> Iterator[range]:
        """The places of each example's own tokens."""
        return (range(start, end) for start, end in pairwise([self.shared, *self.ends]))


def shared_beginning(examples: Sequence[Encoded]) -> int:
    """How many tokens all examples begin with; short of the one that predicts a first reply token.

    Less than `LEAST_SHARED` is 0: gathering them for every example would cost more than computing them.
    """
    columns = zip(*(example.ids for example in examples), strict=False)
    alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    own = min((len(example.ids) - example.reply_tokens - 1 for example in examples), default=0)
    shared = min(alike, own)
    return shared if shared >= LEAST_SHARED else 0


def rows(examples: Sequence[Encoded], row_tokens: int, shared: int = 0) -> list[Row]:
    """Pack examples, longest first, into rows of at most `row_tokens` (one longer example: its own row).

    What does not fit one row is spread evenly over as few as hold it: a short last row would cost a card nearly as
    much as a full one.
    """
    sizes = [len(example.ids) - shared for example in examples]
    needed = -(-sum(sizes) // max(1, row_tokens - shared))
    even = max(max(sizes, default=0), -(-sum(sizes) // max(1, needed)) * 17 // 16)
    row_tokens = min(row_tokens, shared + even)
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(examples)), key=lambda index: -sizes[index]):
        size = sizes[index]
        place = next((i for i, free in enumerate(room) if free >= size), None)
        if place is None:
            bins.append([])
            room.append(row_tokens - shared)
            place = len(bins) - 1
        bins[place].append(index)
        room[place] -= size
    return [_row(examples, packed, shared) for packed in bins]


def single_rows(examples: Sequence[Encoded]) -> list[Row]:
    """Every example in a row of its own, for models that can't keep packed examples apart."""
    return [_row(examples, [index], 0) for index in range(len(examples))]


def steps(order: Sequence[int], examples_per_step: int) -> Iterator[Sequence[int]]:
    """Cut an epoch's order into optimiser steps; the last one may be smaller."""
    for start in range(0, len(order), examples_per_step):
        yield order[start : start + examples_per_step]


def _row(examples: Sequence[Encoded], which: list[int], shared: int) -> Row:
    row = Row(list(examples[which[0]].ids[:shared]), list(range(shared)), [], [], shared, [], which)
    for example in (examples[index] for index in which):
        offset = len(row.ids) - shared
        row.ids.extend(example.ids[shared:])
        row.positions.extend(range(shared, len(example.ids)))
        row.ends.append(len(row.ids))
        for index, label in enumerate(example.labels):
            # An example's first token has nothing before it that could predict it.
            if label != IGNORED and index > 0:
                row.keep.append(offset + index - 1)
                row.targets.append(label)
    return row
