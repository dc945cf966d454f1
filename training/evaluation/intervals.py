"""Shares and differences with their 95 % intervals: a number without its n and its reach is not shown anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, bootstrap

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Share:
    """`picks` of `n`, with the Wilson score interval of the share (0..1)."""

    picks: int
    n: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Number:
    """A measured number over `n` cases, with its bootstrap interval."""

    value: float
    low: float
    high: float
    n: int


def share(picks: int, n: int) -> Share:
    """Without cases the interval is 0 to 1."""
    if n == 0:
        return Share(0, 0, 0.0, 0.0, 1.0)
    found = binomtest(picks, n).proportion_ci(CONFIDENCE, method="wilson")
    return Share(picks, n, picks / n, float(found.low), float(found.high))


def mcnemar(lost: int, won: int) -> float:
    """The exact two-sided p of McNemar's test: `lost` and `won` are the pairs in which only one side was right."""
    return float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0


def mean(values: Sequence[float], seed: int) -> Number:
    """The mean with its interval."""
    return ratio(values, [1.0] * len(values), seed)


def ratio(sums: Sequence[float], weights: Sequence[float], seed: int) -> Number:
    """Sum over sum (a loss of tokens: nats over tokens), resampled by case: tokens of one reply are no two cases."""
    above, below = np.asarray(sums, float), np.asarray(weights, float)
    value = float(above.sum() / below.sum()) if len(above) else 0.0
    if len(above) < 2 or np.ptp(above / below) == 0:
        return Number(value, value, value, len(above))
    found = bootstrap(
        (above, below),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Number(value, float(found.low), float(found.high), len(above))
