"""What is planned for a card, and what happens when it does not fit after all."""

import copy
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from storage.errors import OutOfMemory
from tests.model_fixtures import SHARED, tiny_base
from tests.training.engine.test_exactness import RECIPE, conversations
from training.engine import loop, recipe
from training.engine.model import Base
from training.engine.plan import GIB, Plan, choose, ladder, needed
from training.engine.step import Eager


@pytest.fixture(scope="module")
def qwen3_8b() -> Any:
    """The 8B model's shape, without its weights."""
    if not (SHARED / "qwen3").is_dir():
        pytest.skip("Qwen3's configuration is not beside the project (../shared/qwen3)")
    with torch.device("meta"):
        return Qwen3ForCausalLM(Qwen3Config.from_pretrained(str(SHARED / "qwen3"))).to(torch.bfloat16)


@pytest.mark.parametrize("name", recipe.names())
def test_every_rung_of_the_ladder_takes_less_than_the_one_above(qwen3_8b: Any, name: str) -> None:
    chosen = recipe.load(name)
    sizes = [needed(qwen3_8b, chosen, plan).total for plan in ladder(qwen3_8b, chosen)]
    assert len(sizes) > 2
    assert sizes == sorted(sizes, reverse=True)


def test_a_24_gb_card_trains_the_8b_model_without_checkpointing_and_a_20_gb_one_with_it(qwen3_8b: Any) -> None:
    fast = recipe.load("fast")
    on_24, on_20 = (next(choose(qwen3_8b, fast, gib * GIB)) for gib in (22, 18.5))
    assert on_24.checkpointed == 0
    assert on_20.checkpointed > 0
    for plan, gib in ((on_24, 22), (on_20, 18.5)):
        assert needed(qwen3_8b, fast, plan).total <= gib * GIB


def test_the_room_for_drafts_is_what_they_took_and_grows_with_keys_and_values(qwen3_8b: Any) -> None:
    fast = recipe.load("fast")
    (plan, *_) = ladder(qwen3_8b, fast)
    found = needed(qwen3_8b, fast, plan)
    assert 0.7 * GIB <= found.drafts < 0.75 * GIB, "0.7 GiB were measured"
    assert found.total == found.weights + found.activations + found.optimizer + found.logits + found.drafts
    config = copy.deepcopy(qwen3_8b.config)
    config.num_key_value_heads *= 4
    with torch.device("meta"):
        wider = Qwen3ForCausalLM(config).to(torch.bfloat16)
    assert needed(wider, fast, plan).drafts > found.drafts + 0.25 * GIB


def failing(monkeypatch: pytest.MonkeyPatch, calls: set[int]) -> None:
    """Let the CPU run out of a card's memory at these rows."""
    real, count = Eager.add, iter(range(10_000))

    def add(self: Eager, prepared: Any) -> torch.Tensor:
        loss = real(self, prepared)  # its gradient is there already: the step must not count it twice
        if next(count) in calls:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return loss

    monkeypatch.setattr(Eager, "add", add)


def test_out_of_memory_goes_on_from_the_same_step_with_the_same_numbers(
    smollm2_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base(smollm2_tokenizer)
    gentle = RECIPE.model_copy(update={"learning_rate": 1e-3, "row_tokens": 4096, "epochs": 1})
    told: list[dict[str, Any]] = []

    def adapter(name: str) -> dict[str, torch.Tensor]:
        result = loop.train(base, gentle, conversations(64), [], tmp_path / name, told.append, lambda: "go on")
        assert result.adapter is not None
        return load_file(result.adapter / "adapter_model.safetensors")

    undisturbed = adapter("undisturbed")
    told.clear()
    failing(monkeypatch, {2, 4})
    disturbed = adapter("disturbed")
    assert [event["step"] for event in told if "train_loss" in event] == [1, 2, 3, 4]
    messages = [event["message"] for event in told if "message" in event]
    assert [message[:40] for message in messages] == [f"Out of GPU memory: going on from step {n} " for n in (2, 3)]
    for name, tensor in undisturbed.items():
        assert torch.allclose(tensor, disturbed[name], atol=1e-4), name


@pytest.mark.parametrize("ending", ["done", "cancel", "pause", "an error"])
def test_a_training_leaves_the_embeddings_where_they_were_and_nothing_of_its_own(
    ending: str, smollm2_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base(smollm2_tokenizer)
    asked: list[bool] = []
    made: list[weakref.ref[Any]] = []
    ready = loop.stepper

    def noted(*given: Any) -> Any:
        step = ready(*given)
        made.append(weakref.ref(step))
        return step

    def between() -> Any:
        if ending == "an error" and len(told) == 1:
            raise OutOfMemory("a game was started")
        return ending if ending in ("cancel", "pause") and told else "go on"

    monkeypatch.setattr(Base, "host_embeddings", lambda self, wanted: asked.append(wanted))
    monkeypatch.setattr(loop, "choose", lambda *_: iter([Plan(128, 0, host_embeddings=True)]))
    monkeypatch.setattr(loop, "stepper", noted)
    told: list[Any] = []
    error = None
    try:
        loop.train(base, RECIPE, conversations(32), [], tmp_path, told.append, between)
    except OutOfMemory as raised:
        error = raised  # with its traceback, as a server's log has it
    assert (error is not None) == (ending == "an error")
    assert asked == [True, False]
    assert [step() for step in made] == [None], "its gradients, moments and graphs are free"


def test_where_nothing_fits_the_run_ends_with_what_to_do(
    smollm2_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base(smollm2_tokenizer)
    failing(monkeypatch, set(range(10_000)))
    with pytest.raises(OutOfMemory, match="close what else uses it"):
        loop.train(base, RECIPE, conversations(16), [], tmp_path, lambda _: None, lambda: "go on")
