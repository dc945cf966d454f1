"""Examples -> packed rows: one behind the other, no padding, none sees another.

A row's position_ids restart with each example. With attention_mask=None *and* use_cache=False
transformers builds a block-diagonal causal mask from the restarts; with its default use_cache=True
the examples silently attend to each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from training.dataset.render import IGNORED, Encoded


@dataclass(frozen=True, slots=True)
class Row:
    """Several examples as one sequence of `tokens` ids.

    `keep` are the positions whose logits predict a reply token, `targets` those tokens: logits are
    computed for them alone.
    """

    ids: list[int]  # (tokens,)
    positions: list[int]  # (tokens,)
    keep: list[int]  # (reply tokens,)
    targets: list[int]  # (reply tokens,)


def rows(examples: Sequence[Encoded], row_tokens: int) -> list[Row]:
    """Pack examples, longest first, into rows of at most `row_tokens` (one longer example: its own row)."""
    bins: list[list[Encoded]] = []
    room: list[int] = []
    for example in sorted(examples, key=lambda example: -len(example.ids)):
        size = len(example.ids)
        place = next((i for i, free in enumerate(room) if free >= size), None)
        if place is None:
            bins.append([])
            room.append(row_tokens)
            place = len(bins) - 1
        bins[place].append(example)
        room[place] -= size
    return [_row(packed) for packed in bins]


def steps(order: Sequence[int], examples_per_step: int) -> Iterator[Sequence[int]]:
    """Cut an epoch's order into optimiser steps; the last may be smaller."""
    for start in range(0, len(order), examples_per_step):
        yield order[start : start + examples_per_step]


def _row(examples: Sequence[Encoded]) -> Row:
    row = Row([], [], [], [])
    for example in examples:
        offset = len(row.ids)
        row.ids.extend(example.ids)
        row.positions.extend(range(len(example.ids)))
        for index, label in enumerate(example.labels):
            # A row's first token of an example has nothing before it that could predict it.
            if label != IGNORED and index > 0:
                row.keep.append(offset + index - 1)
                row.targets.append(label)
    return row
