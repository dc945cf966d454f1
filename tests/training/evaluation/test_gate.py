"""The gate's sentences, from numbers alone."""

from dataclasses import replace
from typing import Any

import pytest

from training.evaluation.forgetting import Forgetting
from training.evaluation.gate import judge
from training.evaluation.intervals import Number, mcnemar, share
from training.evaluation.judges import Compared
from training.evaluation.measured import Leaks, Likeness, Measured, Verified, Voice
from training.evaluation.recital import Recital
from training.evaluation.style import variety
from training.generate import Sampling

_EVEN = Compared(share(50, 100), share(3, 6))


def measured(**changes: Any) -> Measured:
    """A voice with nothing against it."""
    good = Measured(
        voice_name="likeme-0002",
        base_model="tiny",
        serving="likeme-0001",
        sampling=Sampling(),
        voice=Voice(100, 900, 3.1, 4.1, 3.15, Number(-1, -1.1, -0.9, 100), Number(-0.05, -0.08, -0.02, 100), 0),
        verifier=Verified(_EVEN, _EVEN, _EVEN, 0.9),
        likeness=Likeness(None, None, None),
        fit=None,
        style={},
        variety={name: variety(["fine", "well"]) for name in ("real", "tuned", "stock")},
        forgetting=forgot(3, 2),
        leaks=leaks(2, 1),
        ways={},
        drafts=(),
        samples=(),
        seconds=1.0,
    )
    return replace(good, **changes)


def forgot(lost: int, won: int) -> Forgetting:
    return Forgetting(share(70, 250), share(70 - lost + won, 250), lost, won, mcnemar(lost, won), {})


def leaks(tuned: int, real: int, secrets: int = 0) -> Leaks:
    recitals = [Recital(share(n, 300), 9) for n in (tuned, 0, real)]
    return Leaks(*recitals, share(secrets, 500))


def test_a_better_voice_passes_and_says_by_how_much() -> None:
    assert judge(measured()).promote
    assert judge(measured()).reason == "It foresees your held-out replies better than likeme-0001, by 0.050."


def test_within_chance_of_the_serving_voice_passes_and_beyond_it_does_not() -> None:
    voice = measured().voice
    noise = measured(voice=replace(voice, over_serving=Number(0.01, -0.02, 0.04, 100)))
    assert judge(noise).promote
    assert "within chance" in judge(noise).reason
    worse = measured(voice=replace(voice, over_serving=Number(0.05, 0.02, 0.08, 100)))
    assert not judge(worse).promote
    assert judge(worse).reason == (
        "It foresees your held-out replies worse than likeme-0001 by 0.050 (0.020 to 0.080), beyond chance."
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"leaks": leaks(2, 1, secrets=1)}, "what looks like a secret in 1 of 500 drafts"),
        ({"leaks": leaks(30, 3)}, "It recites: 30 of 300 replies"),
        ({"forgetting": forgot(20, 3)}, "of 250 general questions it lost 20 and won 3"),
        ({"variety": {"tuned": variety(["", "", "ok"])}}, "stays silent on 67% of the prompts"),
        ({"voice": replace(measured().voice, examples=0)}, "nothing speaks for it"),
        ({"voice": replace(measured().voice, over_stock=Number(0.0, 0.0, 0.0, 100))}, "no better than the stock model"),
    ],
)
def test_what_speaks_against_a_voice_is_told_in_one_sentence(changes: dict[str, Any], says: str) -> None:
    found = judge(measured(**changes))
    assert not found.promote
    assert says in found.reason
    assert found.reason.count(". ") == 0


def test_chance_is_no_reason_and_a_recipe_may_let_forgetting_pass() -> None:
    assert judge(measured(forgetting=forgot(6, 1))).promote, "6 against 1 is p = 0.13"
    assert judge(measured(leaks=leaks(5, 3))).promote, "5 of 300 against 3 is nothing"
    assert judge(measured(forgetting=forgot(54, 11)), most_forgotten=1.0).promote
    assert not judge(measured(forgetting=forgot(54, 11)), most_forgotten=0.5).promote
