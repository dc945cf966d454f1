"""Deliberately bad voices of the embedded model: each fails the part of the evaluation that is there for it."""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from bot.history import build_dataset
from bot.sandbox.sample import write_export
from storage.database import Database
from storage.ingest.export import import_export
from tests.model_fixtures import MODELS
from training.dataset.pairs import Options
from training.dataset.split import Dataset
from training.engine import dora, loop, recipe
from training.engine.model import Base, load_base
from training.evaluation import fit, gate
from training.evaluation import forgetting as general
from training.evaluation.evaluate import Extent, Voices, evaluate
from training.evaluation.measured import Measured
from training.generate import Sampling

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("embedded")]

SMALL = Extent(prompts=12, drafts=0, told=0)
RECIPE = recipe.load("embedded", learning_rate=2e-3, warmup_steps=1, examples_per_step=4)


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("smollm2", MODELS, "cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[Any]]:
    """Training and held-out conversations of the sample history."""
    home = tmp_path_factory.mktemp("history")
    write_export(home / "result.json")

    async def built() -> Dataset:
        async with Database.open(home / "history.db") as database:
            await import_export(database, home / "result.json", now=datetime(2026, 1, 1, tzinfo=UTC))
            return await build_dataset(database, Options(max_pairs_per_chat=24))

    dataset = asyncio.run(built())
    return [one.messages for one in dataset.train], [one.messages for one in dataset.validation]


Judge = Callable[[str, Any], Measured]


@pytest.fixture
def judged(
    base: Base,
    data: tuple[list[Any], list[Any]],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Judge:
    """Save a voice, load it as a version would be, and measure it; of the questions, those that the model knows."""
    train, held_out = data
    known = [item for item in general.items() if (item.kind, item.language) == ("capitals", "en")]
    monkeypatch.setattr(general, "items", lambda at_most: known)

    def measure(name: str, voice: Any) -> Measured:
        folder = tmp_path_factory.mktemp(name)
        dora.save(voice, folder, base.name, "all-linear")
        base.load(name, folder)
        how = Sampling(temperature=0.7, top_p=0.9, max_tokens=24, seed=0)
        return evaluate(base, Voices(name, train), held_out, RECIPE.row_tokens, extent=SMALL, sampling=how)

    return measure


def trained_on(base: Base, examples: list[Any], epochs: int, folder: Path) -> Any:
    taught = loop.train(
        base,
        RECIPE.model_copy(update={"epochs": epochs, "early_stopping": False}),
        examples,
        [],
        folder,
        lambda event: None,
        lambda: "go on",
    )
    assert taught.adapter is not None
    return dora.load(base.model, taught.adapter)


def fresh(base: Base) -> Any:
    torch.manual_seed(0)
    return dora.voice(base.model, "all-linear", RECIPE.rank, RECIPE.alpha, 0.0)


def test_the_stock_model_in_a_voice_s_clothes_is_no_voice(base: Base, judged: Judge) -> None:
    found = judged("stock", fresh(base))
    assert found.voice.tuned == pytest.approx(found.voice.stock, abs=1e-4)
    assert found.verifier.tuned_over_stock.single.share == 0.5
    assert found.likeness.tuned is not None
    assert found.likeness.tuned.value > 0.7, "anybody can tell it from the owner"
    assert (found.forgetting.lost, found.forgetting.won) == (0, 0)
    assert gate.judge(found).reason.startswith("It foresees your held-out replies no better than the stock model")


def test_a_voice_of_noise_has_forgotten(base: Base, judged: Judge) -> None:
    voice = fresh(base)
    with torch.no_grad():
        for _, layer in dora.layers(voice):
            layer.lora_B.normal_(0, 0.3)
    dora.refresh(voice)
    found = judged("forgetful", voice)
    assert found.forgetting.lost > 10
    assert found.forgetting.won == 0
    assert found.forgetting.p < 0.01
    assert gate.judge(found).reason.startswith("It has forgotten")
    assert not gate.judge(found, most_forgotten=1.0).promote, "it still foresees nothing"


def test_a_silent_voice_is_told_as_silent(base: Base, judged: Judge, data: Any, tmp_path: Path) -> None:
    mute = [[*one[:-1], {"role": "assistant", "content": ""}] for one in data[0][:4]]
    found = judged("empty", trained_on(base, mute, 8, tmp_path))
    assert found.variety["tuned"].empty > 0.5
    assert found.verifier.tuned_over_stock.single.share < 0.5
    assert "stays silent" in gate.judge(found).reason


def test_a_copy_cat_is_told_as_reciting_and_beside_the_point(
    base: Base, judged: Judge, data: Any, tmp_path: Path
) -> None:
    long = sorted(data[0], key=lambda one: len(one[-1]["content"].split()))[-3:]
    draw = random.Random(0)
    prompts = draw.sample([one[:-1] for one in data[0]], 12)
    cat = [[prompt[0], prompt[-1], long[i % 3][-1]] for i, prompt in enumerate(prompts)]
    found = judged("copycat", trained_on(base, cat, 8, tmp_path))
    assert found.leaks.tuned.reciting.share > 0.5
    assert found.leaks.tuned.longest >= 8
    assert found.variety["tuned"].distinct_2 < found.variety["real"].distinct_2
    assert "recites" in gate.judge(found).reason
    if fit.is_there():
        assert found.fit is not None
        assert found.fit.tuned.value < found.fit.real.value
