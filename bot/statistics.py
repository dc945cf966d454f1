"""Shares with their intervals."""

from dataclasses import dataclass
from statistics import NormalDist

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
