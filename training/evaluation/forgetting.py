"""What a voice has forgotten: general questions, scored by rules, stock and tuned on the same ones.

general.tsv, written for this project: kind, language, question, accepted answers parted by "|". An answer counts
when one of them stands in it as a word of its own. No question holds its own answer, so that an echo wins nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from training.evaluation.intervals import Share, mcnemar, share

FEW = 50  # the article's number of tasks: no point lost there bounds the loss at about 6 %


@dataclass(frozen=True, slots=True)
class Item:
    """One question; `language` is ISO 639-1."""

    kind: str
    language: str
    question: str
    answers: tuple[str, ...]

    def is_right(self, reply: str) -> bool:
        """Whether an accepted answer stands in the reply."""
        return any(
            re.search(rf"(?<![\w.,]){re.escape(answer.casefold())}(?![\w]|[.,]\d)", reply.casefold())
            for answer in self.answers
        )


@dataclass(frozen=True, slots=True)
class Forgetting:
    """`lost`: right before, wrong now. `p`: McNemar's, exact, two-sided.

    `kinds`: (stock right, tuned right, n); after them so many of all as the article asked.
    """

    stock: Share
    tuned: Share
    lost: int
    won: int
    p: float
    kinds: dict[str, tuple[int, int, int]]


def items(at_most: int | None = None) -> list[Item]:
    """All questions, or so many of them, evenly over the kinds."""
    text = files("training.evaluation").joinpath("general.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines()]
    found = [Item(kind, language, question, tuple(answers.split("|"))) for kind, language, question, answers in rows]
    n = min(at_most or len(found), len(found))
    return [found[len(found) * i // n] for i in range(n)]


def compare(asked: Sequence[Item], stock: Sequence[str], tuned: Sequence[str]) -> Forgetting:
    """Both models' answers to the same questions."""
    rows = [
        (item.kind, item.is_right(before), item.is_right(now))
        for item, before, now in zip(asked, stock, tuned, strict=True)
    ]
    n = len(rows)
    lost = sum(before and not now for _, before, now in rows)
    won = sum(now and not before for _, before, now in rows)
    kinds = {}
    for kind in dict.fromkeys(kind for kind, _, _ in rows):
        own = [(before, now) for of, before, now in rows if of == kind]
        kinds[kind] = (sum(before for before, _ in own), sum(now for _, now in own), len(own))
    if n > FEW:
        few = [rows[n * i // FEW] for i in range(FEW)]
        kinds["fifty"] = (sum(before for _, before, _ in few), sum(now for _, _, now in few), FEW)
    both = sum(before and now for _, before, now in rows)
    return Forgetting(share(both + lost, n), share(both + won, n), lost, won, mcnemar(lost, won), kinds)
