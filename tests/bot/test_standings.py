"""Standings from answers alone, Bradley-Terry against known cases, and the CSV."""

import csv
import io
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.optimize import minimize

from bot.standings import as_csv, of_answers, text
from bot.statistics import Choice, strengths, strengths_with_intervals
from storage.quizzes import Answer, Kind, Source

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def answer(
    voter: int, source: Source, kind: Kind = "three", model: str = "likeme-0001", friend: bool = True, question: int = 1
) -> Answer:
    return Answer(question, model, kind, voter, f"Judge {voter}", friend, source, NOON)


def choices(counts: dict[tuple[str, str], int]) -> list[Choice]:
    """(winner, loser) -> times."""
    return [(winner, frozenset((winner, loser))) for (winner, loser), n in counts.items() for _ in range(n)]


def test_two_players_are_as_strong_as_their_wins() -> None:
    found = strengths(choices({("a", "b"): 30, ("b", "a"): 10}), prior=0)
    assert found["a"] == pytest.approx(0.75, abs=1e-6)


def test_choices_among_three_give_the_shares_of_their_picks() -> None:
    among = frozenset("abc")
    found = strengths([("a", among)] * 15 + [("b", among)] * 6 + [("c", among)] * 3, prior=0)
    assert [round(found[p], 4) for p in "abc"] == [0.625, 0.25, 0.125]


def test_many_players_have_the_strengths_of_the_greatest_likelihood() -> None:
    played = choices({("a", "b"): 9, ("b", "a"): 4, ("b", "c"): 7, ("c", "b"): 5, ("a", "c"): 3, ("c", "a"): 2})
    played += [("c", frozenset("abc"))] * 3 + [("a", frozenset("abc"))] * 5

    def unlikely(logs: np.ndarray) -> float:
        value = dict(zip("abc", np.exp([0.0, *logs]), strict=True))
        return -sum(math.log(value[p] / sum(value[q] for q in among)) for p, among in played)

    best = np.exp([0.0, *minimize(unlikely, np.zeros(2)).x])
    found = strengths(played, prior=0)
    assert [found[p] for p in "abc"] == pytest.approx(list(best / best.sum()), abs=1e-4)


def test_who_never_lost_is_strong_but_not_beyond_measure() -> None:
    found = strengths(choices({("a", "b"): 5}))
    assert 0.8 < found["a"] < 0.99
    assert strengths([]) == {}


def test_intervals_come_from_the_judges_not_from_the_answers() -> None:
    ten_wins = choices({("a", "b"): 10})
    split = strengths_with_intervals([ten_wins, choices({("b", "a"): 10})] * 2)
    assert split["a"][1] < 0.3 < 0.7 < split["a"][2], "four judges of two minds say little, whatever they say ten times"


def test_standings_part_friends_versions_judges_and_duels() -> None:
    found = of_answers(
        [
            answer(1, "real"),
            answer(2, "tuned"),
            answer(3, "tuned", friend=False),
            answer(1, "tuned", model="likeme-0002"),
        ]
        + [answer(n, "tuned", "stock", question=2) for n in range(1, 5)]
        + [answer(9, "real", "real", question=3)]
    )
    assert [(name, share.picks, share.n) for name, share in found.everybody.rows] == [
        ("the real reply", 1, 4),
        ("the tuned voice", 3, 4),
        ("the stock model", 0, 4),
    ]
    assert {group.name: group.n for group in found.groups} == {
        "friends": 3, "strangers": 1, "likeme-0001": 3, "likeme-0002": 1, "Judge 1": 2, "Judge 2": 1, "Judge 3": 1
    }  # fmt: skip
    assert [(what, share.picks, share.n) for what, share in found.duels] == [
        ("tuned voice over stock model", 4, 4),
        ("tuned voice over the real reply", 0, 1),
    ]
    assert {name for name, *_ in found.scale} == {"likeme-0001", "likeme-0002", "the real reply", "the stock model"}
    said = text(found)
    assert "9 answers of 5 judges" in said
    assert "too few to say anything" in said


def test_enough_answers_need_no_warning() -> None:
    assert "too few" not in text(of_answers([answer(n, "real", question=n) for n in range(40)]))


def test_the_csv_numbers_its_judges_and_names_nobody() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv([answer(777, "real"), answer(5, "tuned", friend=False)]))))
    assert [(row["judge"], row["friend"], row["picked"]) for row in rows] == [("1", "1", "real"), ("2", "0", "tuned")]
    assert "777" not in as_csv([answer(777, "real")])
    assert "Judge" not in as_csv([answer(777, "real")])
