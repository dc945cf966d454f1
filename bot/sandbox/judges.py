"""How scripted friends choose in the quiz.

They see what a friend in Telegram sees: the poll, and the message above it. They know how the owner
writes from his past messages, and never which reply is his.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median

from bot.sandbox.things import Poll

LETTERS = "ABC"

Choose = Callable[[Sequence[str]], int]  # of the replies


def ways(own_words: Sequence[str], seed: int) -> list[tuple[str, Choose]]:
    """Three ways of choosing, with what they are in words: «Mira picks …»."""
    triples = Counter(triple for text in own_words for triple in _triples(text))
    total = sum(triples.values()) or 1
    usual = median([len(text) for text in own_words] or [0])
    guess = random.Random(seed)

    def likeness(text: str) -> float:
        found = _triples(text)
        return sum(triples[triple] / total for triple in found) / max(1, len(found))

    return [
        (
            "picks the reply whose letter triples are most like the owner's past messages",
            lambda replies: max(range(len(replies)), key=lambda i: likeness(replies[i])),
        ),
        (
            "picks the one whose length is nearest to his usual one",
            lambda replies: min(range(len(replies)), key=lambda i: abs(len(replies[i]) - usual)),
        ),
        ("guesses", lambda replies: guess.randrange(len(replies))),
    ]


def replies_of(poll: Poll, above: str) -> list[str]:
    """What a poll asks about: its options, or the replies that the message above lists as A, B, C."""
    texts = [option.text for option in poll.options]
    return _listed(above, len(texts)) if texts == list(LETTERS[: len(texts)]) else texts


def _listed(body: str, count: int) -> list[str]:
    texts = []
    for letter, following in zip(LETTERS[:count], (*LETTERS[1:count], ""), strict=True):
        start = body.rindex(f"\n\n{letter}  ") + 5 if f"\n\n{letter}  " in body else 0
        end = body.rindex(f"\n\n{following}  ") if following and f"\n\n{following}  " in body else len(body)
        texts.append(body[start:end])
    return texts


def _triples(text: str) -> list[str]:
    padded = f" {text} "
    return [padded[i : i + 3] for i in range(len(padded) - 2)]
