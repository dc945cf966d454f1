"""Canaries in a tiny model: what stood often is exposed, what never stood is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.model_fixtures import tiny_base
from training.engine import recipe
from training.evaluation.audit import MOST_BITS, TIMES, audit, exposure, plant


def test_canaries_are_the_seed_s_own_and_stand_once_five_and_twenty_times() -> None:
    canaries = plant(3)
    assert canaries == plant(3) != plant(4)
    assert sorted({canary.times for canary in canaries}) == list(TIMES)
    assert len({canary.place for canary in canaries}) == len(canaries)
    assert canaries[0].exchange()[-1]["content"].endswith(canaries[0].code)


@pytest.mark.long
def test_what_stands_twenty_times_is_memorised_and_what_never_stood_is_not(
    tmp_path: Path, smollm2_tokenizer: Any
) -> None:
    base = tiny_base(smollm2_tokenizer)
    chosen = recipe.load("embedded", learning_rate=2e-2, epochs=30, early_stopping=False)
    seen: list[float] = []
    found = audit(base, chosen, [], tmp_path, seed=0, tell=seen.append, between=lambda: None)
    bits = {one.times: one.tuned_bits for one in found}
    assert bits[20] > 4
    assert bits[20] > bits[1]
    assert all(0 <= one.stock_bits <= MOST_BITS for one in found)
    assert seen[-1] == 1.0
    assert base.voices == {}, "the audit's voice is gone"
    stranger = replace(plant(0)[0], code="11 12 13 14")
    assert exposure(base, None, stranger, 512) < MOST_BITS
