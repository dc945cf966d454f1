"""Shares with their intervals, and one scale for everything that was ever picked or passed over."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, quantiles

SMALL = 30  # answers; below that a share says next to nothing


@dataclass(frozen=True, slots=True)
class Share:
    """`picks` of `n`, with the Wilson score interval of the share (0..1)."""

    picks: int
    n: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """picks / n, 0 of nothing."""
        return self.picks / self.n if self.n else 0.0


def wilson(picks: int, n: int, confidence: float = 0.95) -> Share:
    """The Wilson interval (Wilson 1927, JASA 22). Without answers it is 0 to 1."""
    if n == 0:
        return Share(0, 0, 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = picks / n
    scale = 1 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    reach = z / scale * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return Share(picks, n, max(0.0, middle - reach), min(1.0, middle + reach))


Choice = tuple[str, frozenset[str]]  # what was picked, and all that there was, the pick included
ROUNDS = 500
RESAMPLES = 200


def strengths(choices: Iterable[Choice], prior: float = 0.5) -> dict[str, float]:
    """Bradley-Terry strengths, for choices among two or more (Hunter 2004, Ann. Statist. 32: his MM steps).

    They add up to 1; a is picked from {a, b} with probability a / (a + b). `prior`: picks that each wins from and
    loses to an opponent of strength 1 / players, so that who never lost is not infinitely strong.
    """
    counts = Counter(choices)
    players = sorted({player for _, among in counts for player in among})
    wins: dict[str, float] = dict.fromkeys(players, prior)
    for (picked, _), n in counts.items():
        wins[picked] += n
    scale = 1 / max(1, len(players))
    strength = dict.fromkeys(players, scale)
    for _ in range(ROUNDS):
        chances: dict[str, float] = {p: 2 * prior / (strength[p] + scale) for p in players}
        for (_, among), n in counts.items():
            share = n / sum(strength[p] for p in among)
            for p in among:
                chances[p] += share
        new = {p: wins[p] / chances[p] for p in players}
        total = sum(new.values())
        moved = max((abs(new[p] / total - strength[p]) for p in players), default=0.0)
        strength = {p: value / total for p, value in new.items()}
        if moved < 1e-10:
            break
    return strength


def strengths_with_intervals(
    by_judge: Sequence[Sequence[Choice]], seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """(strength, low, high), 95 %: judges are drawn again, not answers, for one judge's answers go together."""
    found = strengths(choice for judge in by_judge for choice in judge)
    draw = random.Random(seed)
    again: dict[str, list[float]] = defaultdict(list)
    for _ in range(RESAMPLES):
        drawn = [choice for _ in by_judge for choice in draw.choice(by_judge)]
        for player, value in strengths(drawn).items():
            again[player].append(value)
    reach = {player: quantiles(values, n=40) if len(values) > 1 else [0.0, 1.0] for player, values in again.items()}
    return {player: (value, reach[player][0], reach[player][-1]) for player, value in found.items()}
