"""Wilson's interval against scipy's."""

import pytest
from scipy.stats import binomtest

from bot.statistics import wilson


@pytest.mark.parametrize(("picks", "n"), [(0, 1), (1, 2), (15, 21), (50, 50), (0, 40), (291, 322)])
def test_the_interval_is_scipy_s(picks: int, n: int) -> None:
    expected = binomtest(picks, n).proportion_ci(0.95, method="wilson")
    found = wilson(picks, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_answers_say_nothing() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
