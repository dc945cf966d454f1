"""Canaries in a tiny model: what stood often is exposed, what never stood is not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storage.errors import BadInput
from tests.model_fixtures import tiny_base
from training import adapters
from training.adapters import Version
from training.dataset.render import Message
from training.engine import recipe
from training.evaluation import versions
from training.evaluation.audit import MOST_BITS, TIMES, Stage, audit, exposure, plant, planted
from training.files import Files


def test_canaries_are_the_seed_s_own_and_stand_once_five_and_twenty_times() -> None:
    canaries = plant(3)
    assert canaries == plant(3) != plant(4)
    assert sorted({canary.times for canary in canaries}) == list(TIMES)
    assert len({canary.place for canary in canaries}) == len(canaries)
    assert canaries[0].exchange()[-1]["content"].endswith(canaries[0].code)


def said(first: int, last: int) -> list[list[Message]]:
    return [
        [{"role": "user", "content": f"question {n}?"}, {"role": "assistant", "content": f"yep {n}"}]
        for n in range(first, last)
    ]


def test_a_canary_stands_in_each_stage_that_has_the_example_beside_it() -> None:
    chosen = recipe.load("embedded")
    first, night = Stage(chosen, 1, said(0, 40)), Stage(chosen, 2, said(30, 44))
    canaries = plant(night.seed)
    before, after = planted(canaries, [first, night])
    assert planted(canaries, [first, night]) == [before, after]
    taught = [canary.exchange() for canary in canaries]
    in_first, in_night = ([one for one in mixed if one in taught] for mixed in (before, after))
    assert len(before) == 40 + len(in_first) and len(after) == 14 + len(in_night)
    places = sum(canary.times for canary in canaries)
    assert len(in_first) < places, "some were said when the first was trained already"
    assert len(in_first) + len(in_night) > places, "and some are replayed"
    assert before != [*said(0, 40), *in_first], "among the examples, not behind them"
    (alone,) = planted(canaries, [first])
    assert len(alone) == 40 + places


def test_the_line_of_a_night_s_voice_is_followed_to_the_base_model(tmp_path: Path) -> None:
    files, voices = Files(tmp_path / "files"), tmp_path / "adapters"
    (tmp_path / "weights").mkdir()

    def published(rate: float, first: int, start: str | None) -> Version:
        content = "".join(json.dumps({"messages": one}) + "\n" for one in said(first, first + 3)).encode()
        manifest = {
            "recipe": recipe.load("embedded", learning_rate=rate).model_dump(),
            "seed": first,
            "training_file": files.add(content, "train.jsonl", "fine-tune").id,
            "validation_file": None,
            "started_from": start,
        }
        return adapters.publish(voices, tmp_path / "weights", manifest)

    published(1e-3, 0, None)
    published(5e-4, 3, "likeme-0001")
    last = published(5e-4, 6, "likeme-0002")
    stages = versions._stages(files, last)
    assert [stage.recipe.learning_rate for stage in stages] == [1e-3, 5e-4, 5e-4]
    assert [stage.examples for stage in stages] == [said(0, 3), said(3, 6), said(6, 9)]
    assert [stage.seed for stage in stages] == [0, 3, 6]
    adapters.remove(adapters.versions(voices)[0])
    with pytest.raises(BadInput, match="went on from likeme-0001, which was removed"):
        versions._stages(files, last)


@pytest.mark.long
def test_what_stands_twenty_times_is_memorised_and_what_never_stood_is_not(
    tmp_path: Path, smollm2_tokenizer: Any
) -> None:
    base = tiny_base(smollm2_tokenizer)
    chosen = recipe.load("embedded", learning_rate=2e-2, epochs=30, early_stopping=False)
    a_night = chosen.model_copy(update={"learning_rate": 1e-6, "epochs": 1})
    stages = [Stage(chosen, 0, said(0, 8)), Stage(a_night, 0, said(8, 10))]
    seen: list[float] = []
    found = audit(base, stages, tmp_path, tell=seen.append, between=lambda: None)
    bits = {one.times: one.tuned_bits for one in found}  # a night of hardly any learning has not made it harmless
    assert bits[20] > 4
    assert bits[20] > bits[1]
    assert all(0 <= one.stock_bits <= MOST_BITS for one in found)
    assert seen[-1] == 1.0
    assert base.voices == {}, "the audit's voice is gone"
    stranger = replace(plant(0)[0], code="11 12 13 14")
    assert exposure(base, None, stranger, 512) < MOST_BITS
