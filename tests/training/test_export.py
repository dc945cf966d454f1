"""A version as files for other programs: it says there what it says here."""

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from storage.errors import BadInput, Damaged
from tests.model_fixtures import MODELS, tiny_base
from tests.training.engine.test_exactness import conversations, tiny_qwen3
from training import adapters, export
from training.adapters import Version
from training.dataset.render import encode_prompt
from training.engine import loop, merge, recipe
from training.engine.model import EMBEDDED, Base, embedded, load_base


def published(base: Base, base_name: str, home: Path, steps: int = 8, **changes: Any) -> Version:
    """A trained version of `base` in a home."""
    chosen = recipe.load("embedded", epochs=1, examples_per_step=4, learning_rate=1e-2, early_stopping=False, **changes)
    rows = conversations(4 * steps)
    taught = loop.train(base, chosen, rows, rows[:2], home / "run", lambda e: None, lambda: "go on")
    assert taught.adapter is not None
    manifest = {
        "base_model": base_name,
        "created_at": 0,
        "recipe": chosen.model_dump(),
        "training_file": "file-x",
        "examples": len(rows),
        "held_out": 2,
        "likeme": "0.1.0",
        "metrics": taught.metrics,
    }
    return adapters.publish(home / "adapters", taught.adapter, manifest)


def on_disk(base: Base, folder: Path) -> str:
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return str(folder)


def logits(model: Any, base: Base) -> torch.Tensor:
    prompts = [encode_prompt(base.tokenizer, one[:-1]) for one in conversations(3, seed=9)]
    with torch.inference_mode():
        return torch.cat([model(input_ids=torch.tensor([ids]), use_cache=False).logits[0] for ids in prompts])


def says_the_same(base: Base, version: Version, folder: Path) -> None:
    base.load(version.name, version.path)
    tuned, stock = logits(base.voices[version.name], base), logits(base.model, base)
    other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    there = logits(other, base)
    apart, moved = (there - tuned).abs().max().item(), (tuned - stock).abs().max().item()
    assert apart < 1e-4 * max(1.0, tuned.abs().max().item())
    assert moved > 100 * apart, "the voice is told from the stock model"
    assert AutoTokenizer.from_pretrained(folder).chat_template == base.tokenizer.chat_template


@pytest.fixture(params=["a tiny Llama", "a tiny Qwen3"])
def base(request: pytest.FixtureRequest, smollm2_tokenizer: Any) -> Base:
    return tiny_base(smollm2_tokenizer) if request.param == "a tiny Llama" else tiny_qwen3()


@pytest.mark.slow
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj")])
def test_the_merged_model_s_logits_are_the_voice_s_however_many_shards_there_are(
    base: Base, targets: Sequence[str] | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    version = published(base, on_disk(base, tmp_path / "base"), tmp_path, targets=targets)
    monkeypatch.setattr(merge, "SHARD_BYTES", 100_000)
    monkeypatch.setattr(merge, "_ROWS", 16)
    out = tmp_path / "merged"
    export.main(["1", "--home", str(tmp_path), "--merged", "--out", str(out)])
    shards = sorted(out.glob("model-*.safetensors"))
    assert len(shards) > 1
    placed = json.loads((out / merge.INDEX).read_text())["weight_map"]
    assert set(placed.values()) == {shard.name for shard in shards}
    says_the_same(base, version, out)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["done"] for event in told[:-1]] == sorted(event["done"] for event in told[:-1])
    assert told[-1] == {"folder": str(out)}
    assert list(tmp_path.glob(".exporting-*")) == []


@pytest.mark.long
def test_the_merged_smollm2_s_logits_are_the_voice_s(tmp_path: Path) -> None:
    base = load_base(EMBEDDED, MODELS)
    (tmp_path / "models").mkdir()
    shutil.copytree(embedded(MODELS), tmp_path / "models" / EMBEDDED)
    version = published(base, EMBEDDED, tmp_path, steps=2)
    export.main(["1", "--home", str(tmp_path), "--merged", "--out", str(tmp_path / "merged")])
    says_the_same(base, version, tmp_path / "merged")


def test_the_adapter_loads_in_stock_peft_and_its_card_says_what_it_is(smollm2_tokenizer: Any, tmp_path: Path) -> None:
    base = tiny_base(smollm2_tokenizer)
    version = published(base, "some/base", tmp_path)
    export.main(["1", "--home", str(tmp_path), "--out", str(tmp_path / "voice")])
    base.load(version.name, version.path)
    tuned = logits(base.voices[version.name], base)
    loaded = PeftModel.from_pretrained(tiny_base(smollm2_tokenizer).model, str(tmp_path / "voice")).eval()
    assert torch.allclose(logits(loaded, base), tuned, atol=1e-4)
    card = (tmp_path / "voice" / "README.md").read_text()
    for said in ("base_model: some/base", "embedded: rank 16", "32 to train on, 2 held out", "repeat what it was"):
        assert said in card


def test_exports_that_can_t_be_are_refused_in_one_line(smollm2_tokenizer: Any, tmp_path: Path) -> None:
    base = tiny_base(smollm2_tokenizer)
    version = published(base, on_disk(base, tmp_path / "base"), tmp_path, steps=1)

    def refused(*arguments: str) -> str:
        with pytest.raises((BadInput, Damaged)) as caught:
            export.main([*arguments, "--home", str(tmp_path)])
        return str(caught.value)

    assert "Version 7 has no files" in refused("7", "--out", str(tmp_path / "out"))
    assert "holds files already" in refused("1", "--out", str(tmp_path / "base"))
    for changes, said in (
        ({"quantization": "nf4"}, "in 4 bits"),
        ({"base_model": str(tmp_path / "nowhere")}, "not on this machine"),
    ):
        wrong = version.manifest | changes
        (version.path / "manifest.json").write_text(json.dumps(wrong))
        assert said in refused("1", "--merged", "--out", str(tmp_path / "out"))
    (version.path / "adapter_config.json").write_text("{}")
    assert "damaged" in refused("1", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


async def test_the_export_s_process_ends_with_one_line_where_it_can_t(tmp_path: Path) -> None:
    arguments = ("-m", "training", "export", "1", "--home", str(tmp_path), "--out", str(tmp_path / "out"))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 2
    assert said.decode().count("\n") == 1
