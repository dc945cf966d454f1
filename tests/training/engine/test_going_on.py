"""Training that goes on from a voice instead of the base."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from storage.errors import ModelError
from tests.model_fixtures import tiny_base
from tests.training.engine.test_exactness import conversations
from training.engine import loop, recipe
from training.engine.model import Base

CHOSEN = recipe.load("embedded", epochs=1, examples_per_step=4, early_stopping=False)
ANY = conversations(16, seed=1)


def train(base: Base, out: Path, **changes: Any) -> loop.Result:
    """One epoch of four steps; `changes` are loop.train's."""
    given: dict[str, Any] = {
        "recipe": CHOSEN,
        "examples": ANY,
        "validation": ANY[:3],
        "on_event": lambda e: None,
        "between_steps": lambda: "go on",
        **changes,
    }
    return loop.train(base, out=out, **given)


@pytest.fixture
def base(smollm2_tokenizer: Any) -> Base:
    return tiny_base(smollm2_tokenizer)


@pytest.fixture
def first(base: Base, tmp_path: Path) -> Path:
    """A voice to go on from."""
    adapter = train(base, tmp_path / "first").adapter
    assert adapter is not None
    return adapter


def weights(adapter: Path | None) -> dict[str, torch.Tensor]:
    assert adapter is not None
    found: dict[str, torch.Tensor] = load_file(adapter / "adapter_model.safetensors")
    return found


def stopped_after(steps: int) -> Callable[[], loop.Wish]:
    left = iter(["go on"] * steps)
    return lambda: next(left, "pause")  # type: ignore[return-value]


def test_a_run_that_goes_on_begins_with_the_voice_s_own_numbers_magnitude_included(
    base: Base, first: Path, tmp_path: Path
) -> None:
    still = CHOSEN.model_copy(update={"learning_rate": 1e-12})
    before, after = weights(first), weights(train(base, tmp_path / "on", recipe=still, start=first).adapter)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.allclose(tensor, after[name], rtol=0, atol=1e-9), name
    fresh = weights(train(base, tmp_path / "fresh", recipe=still).adapter)
    magnitude = next(name for name in fresh if name.endswith("magnitude_vector"))
    assert not torch.allclose(fresh[magnitude], before[magnitude], rtol=0, atol=1e-9)


def test_going_on_learns_further_than_the_voice_was(base: Base, first: Path, tmp_path: Path) -> None:
    once = train(base, tmp_path / "a", examples=ANY, validation=ANY)
    twice = train(base, tmp_path / "b", examples=ANY, validation=ANY, start=first)
    assert twice.metrics["valid_loss"] < once.metrics["valid_loss"] < once.metrics["stock_valid_loss"]
    assert twice.metrics["stock_valid_loss"] == once.metrics["stock_valid_loss"]


def test_a_run_that_goes_on_is_taken_up_bit_for_bit(base: Base, first: Path, tmp_path: Path) -> None:
    whole = train(base, tmp_path / "whole", start=first)
    paused = train(base, tmp_path / "cut", start=first, between_steps=stopped_after(2))
    assert (paused.adapter, paused.steps) == (None, 2)
    told: list[dict[str, Any]] = []
    again = train(base, tmp_path / "cut", start=first, on_event=told.append)
    assert told[0]["step"] == 3
    assert all(torch.equal(a, b) for a, b in zip(*(weights(r.adapter).values() for r in (whole, again)), strict=True))


def test_a_checkpoint_belongs_to_the_voice_that_its_run_goes_on_from(base: Base, first: Path, tmp_path: Path) -> None:
    train(base, tmp_path / "cut", start=first, between_steps=stopped_after(2))
    told: list[dict[str, Any]] = []
    train(base, tmp_path / "cut", on_event=told.append)
    assert [event["step"] for event in told if "train_loss" in event] == [1, 2, 3, 4]


def test_a_voice_of_another_shape_is_refused_in_one_line(base: Base, first: Path, tmp_path: Path) -> None:
    for other in ({"rank": 8}, {"alpha": 16}, {"targets": ("q_proj",)}):
        with pytest.raises(ModelError, match=r"can't be gone on from .* train from the base model"):
            train(base, tmp_path / "no", recipe=CHOSEN.model_copy(update=other), start=first)
