"""Intervals, tests and judges on cases whose answer is known."""

import math
import random

import pytest
from scipy.stats import binom

from training.evaluation import forgetting, style
from training.evaluation.intervals import mcnemar, mean, ratio, share
from training.evaluation.judges import Verifier, distinguishable
from training.evaluation.recital import Training


def test_wilson_s_interval_of_fifty_of_fifty_is_the_known_one() -> None:
    found = share(50, 50)
    assert (round(found.low, 3), found.high) == (0.929, 1.0)
    assert (share(0, 0).low, share(0, 0).high) == (0.0, 1.0)


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (5, 5), (9, 1), (0, 6), (54, 11)])
def test_mcnemar_is_the_exact_two_sided_binomial(lost: int, won: int) -> None:
    n, few = lost + won, min(lost, won)
    expected = min(1.0, 2 * binom.cdf(few, n, 0.5)) if lost != won else 1.0
    assert mcnemar(lost, won) == pytest.approx(expected)


def test_a_ratio_weighs_long_replies_by_their_tokens_and_its_interval_holds_it() -> None:
    found = ratio([10.0, 1.0, 3.0], [10, 1, 1], seed=0)
    assert found.value == pytest.approx(14 / 12)
    assert found.low <= found.value <= found.high
    assert mean([0.5], seed=0).low == 0.5
    assert ratio([], [], seed=0).n == 0


def test_no_question_holds_its_own_answer_and_there_are_over_two_hundred_in_six_languages() -> None:
    items = forgetting.items()
    assert len(items) >= 200
    assert len({item.question for item in items}) == len(items)
    assert {item.language for item in items} == {"en", "de", "fr", "es", "it", "ru"}
    assert {item.kind for item in items} == {"capitals", "arithmetic", "code", "translation", "knowledge"}
    assert [item.question for item in items if item.is_right(item.question)] == []
    assert all(item.is_right(f"I think it is {answer}.") for item in items for answer in item.answers)
    assert {item.kind for item in forgetting.items(20)} == {item.kind for item in items}


def test_an_answer_counts_as_a_word_of_its_own_only() -> None:
    item = forgetting.Item("arithmetic", "en", "What is 2 + 3?", ("5", "five"))
    assert item.is_right("2 + 3 = 5.")
    assert item.is_right("FIVE!")
    assert not item.is_right("15")
    assert not item.is_right("5.5")
    assert not item.is_right("")


def test_lost_and_won_questions_are_counted_in_pairs() -> None:
    asked = forgetting.items(4)
    right, wrong = [item.answers[0] for item in asked], ["no idea"] * 4
    found = forgetting.compare(asked, [*right[:3], *wrong[:1]], [*right[:1], *wrong[:2], right[3]])
    assert (found.stock.picks, found.tuned.picks, found.lost, found.won) == (3, 2, 2, 1)
    every = forgetting.items()
    found = forgetting.compare(every, [item.answers[0] for item in every], ["no idea"] * len(every))
    assert list(found.kinds.items())[-1] == ("fifty", (50, 0, 50)), "the article's kind of result"
    assert sum(n for _, _, n in found.kinds.values()) == len(every) + 50


def test_a_run_of_eight_words_is_found_whatever_its_case_and_signs() -> None:
    known = Training(["I will be there at seven, bring the big red tent please", "ok"])
    assert known.longest_run("well — i will be THERE at seven bring the big one") == 9
    assert known.longest_run("ok") == 0
    found = known.recital(["I will be there at seven, bring the tent", "nope"])
    assert (found.reciting.picks, found.reciting.n, found.longest) == (0, 2, 8) or found.reciting.picks == 1


def test_the_verifier_knows_the_owner_s_letters_and_silence_is_nobody_s() -> None:
    own = [f"yep yep {word} tmrw lol" for word in "one two three four five six seven".split()] * 3
    others = [f"Dear sir, regarding the {word}, I remain." for word in "tax rent lease bill house deed".split()] * 3
    judge = Verifier(own, others)
    found = judge.compare(["yep tmrw"] * 32, ["Dear sir"] * 32)
    assert (found.single.picks, found.bundles.picks, found.bundles.n) == (32, 2, 2)
    assert judge.compare([""] * 4, ["Dear sir"] * 4).single.picks == 0
    assert judge.compare(["same"] * 4, ["same"] * 4).single.picks == 2


def test_a_fresh_classifier_tells_strangers_apart_and_not_a_man_from_himself() -> None:
    words = "bread rain bus tea moon shoe lamp fork tree road desk hill".split()
    casual = [f"{a} {b} lol" for a in words for b in words[:6]]
    formal = [f"The {a} and the {b}." for a in words for b in words[:6]]
    apart = distinguishable(casual, formal)
    assert apart is not None
    assert apart.value > 0.99
    said = random.Random(0).sample([f"{a} {b} lol" for a in words for b in words], 144)
    alike = distinguishable(said[:72], said[72:])
    assert alike is not None
    assert alike.value < 0.65
    assert distinguishable(casual[:5], formal[:5]) is None


def test_style_sees_length_language_and_circles() -> None:
    real, tuned, stock = ["ok lol"] * 20, ["ok lol"] * 20, ["Das ist eine sehr lange und höfliche Antwort."] * 20
    found = style.distances(real, tuned, stock)
    assert found["characters"].tuned_distance == 0
    assert found["characters"].stock_distance == 1
    assert style.language("das weiß ich nicht") == "German"
    assert style.language("я не знаю") == "Cyrillic"
    assert style.variety(["no no no", "fine", "fine", ""]).looping == 0.25
    assert style.variety(["no no no", "fine", "fine", ""]).empty == 0.25
    assert style.variety(["no no no", "fine", "fine", ""]).repeated == 0.5
    assert math.isfinite(style.table([""]).sum())
