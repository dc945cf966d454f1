"""What a night trains on: the pairs that came since, and as many old ones again, so that nothing old is lost.

New is what is younger than all that the voice to go on from has seen. The old ones are drawn by age (one of each
stretch of the past) and chat (the one that was drawn least so far), otherwise by the seed.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from training.dataset.choose import draw, time_order
from training.dataset.pairs import Pair

SHARE = 0.5  # of a night's examples


def with_replay(train: Sequence[Pair], until: datetime, share: float, seed: int) -> list[Pair]:
    """The pairs younger than `until`, and old ones to make up `share` of the whole; in time's order."""
    new = [pair for pair in train if pair.date > until]
    old = [pair for pair in train if pair.date <= until]
    wanted = min(len(old), round(len(new) * share / (1 - share)))
    # The same old ones every night would be learned by heart.
    return sorted([*replayed(old, wanted, seed + int(until.timestamp())), *new], key=time_order)


def replayed(old: Sequence[Pair], wanted: int, seed: int) -> list[Pair]:
    """`wanted` of the old pairs, spread over their time and their chats."""
    by_age = sorted(old, key=time_order)
    taken: Counter[int] = Counter()
    chosen = []
    for step in range(wanted):
        stretch = by_age[len(by_age) * step // wanted : len(by_age) * (step + 1) // wanted]
        pick = min(stretch, key=lambda pair: (taken[pair.chat_id], draw(pair, seed)))
        taken[pick.chat_id] += 1
        chosen.append(pick)
    return chosen
