"""Packed training is stock PEFT's training: losses and gradients, over steps with a real fused AdamW."""

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model

from tests.model_fixtures import tiny_base
from training import adapters
from training.dataset.render import IGNORED, Encoded, encode_example
from training.engine import loop, recipe
from training.engine.attention import reply_logits
from training.engine.model import Base
from training.engine.packing import rows
from training.evaluation.voice import held_out_loss

RECIPE = recipe.load("embedded", epochs=3, learning_rate=1e-2, warmup_steps=0, row_tokens=128)
WORDS = "yep hm right oof well ok bread monday soup lamp wind box crow kettle".split()


def conversations(n: int, seed: int = 0) -> list[list[dict[str, str]]]:
    draw = random.Random(seed)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randrange(1, 9)))

    return [[{"role": "user", "content": text()}, {"role": "assistant", "content": text()}] for _ in range(n)]


def padded_loss(model: Any, examples: list[Encoded]) -> torch.Tensor:
    """The loss as everybody computes it: one padded batch, mask, all logits, shifted labels."""
    length = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), length, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for i, example in enumerate(examples):
        ids[i, : len(example.ids)] = torch.tensor(example.ids)
        mask[i, : len(example.ids)] = 1
        labels[i, : len(example.ids)] = torch.tensor(example.labels)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)


def test_packed_steps_equal_stock_peft_on_padded_batches(smollm2_tokenizer: Any, tmp_path: Path) -> None:
    base = tiny_base(smollm2_tokenizer)
    reference: Any = get_peft_model(
        copy.deepcopy(base.model),
        LoraConfig(r=16, lora_alpha=32, use_dora=True, target_modules="all-linear", task_type="CAUSAL_LM"),
        adapter_name=loop.ADAPTER,
    )
    examples = conversations(48)
    encoded = [encode_example(base.tokenizer, e, RECIPE.max_tokens) for e in examples]
    start = {n: p.detach().clone() for n, p in reference.named_parameters() if p.requires_grad}
    torch.manual_seed(0)
    events: list[dict[str, Any]] = []
    result = loop.train(base, RECIPE, examples, [], tmp_path, events.append, lambda: False, seed=0)
    assert result.adapter is not None
    # The same run by the book: same start, same order, same schedule.
    torch.manual_seed(0)
    reference_start = _fresh_weights(base, reference)
    assert set(reference_start) == set(start)
    parameters = [p for p in reference.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RECIPE.learning_rate, weight_decay=0.0, fused=True)
    order, losses = random.Random(0), []
    total = RECIPE.epochs * 3
    for step in range(total):
        if step % 3 == 0:
            indices = list(range(len(encoded)))
            order.shuffle(indices)
        chosen = indices[16 * (step % 3) : 16 * (step % 3) + 16]
        loss = padded_loss(reference, [encoded[i] for i in chosen])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, RECIPE.max_gradient_norm)
        for group in optimizer.param_groups:
            group["lr"] = events[step]["learning_rate"]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert [event["train_loss"] for event in events] == pytest.approx(losses, rel=2e-5)
    trained: Any = PeftModel.from_pretrained(copy.deepcopy(base.model), str(result.adapter))
    row = rows(encoded[:4], 512)[0]
    with torch.inference_mode():
        ours = reply_logits(trained.eval(), row, base.device)
        theirs = reply_logits(reference.eval(), row, base.device)
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def _fresh_weights(base: Base, reference: Any) -> dict[str, torch.Tensor]:
    """Give the reference the weights that loop.train begins with: PEFT's own initialisation, same seed."""
    base.add("fresh", loop._lora(RECIPE))
    fresh = {n.replace(".fresh", f".{loop.ADAPTER}"): p for n, p in base.active.named_parameters() if ".fresh" in n}
    own = {n: p for n, p in reference.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(fresh[name])
    base.drop("fresh")
    return own


def test_packed_examples_do_not_see_each_other(smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer)
    encoded = [encode_example(base.tokenizer, e, 512) for e in conversations(5)]
    with torch.inference_mode():
        together = reply_logits(base.model, rows(encoded, 4096)[0], base.device)
        ordered = sorted(encoded, key=lambda e: -len(e.ids))
        alone = torch.cat([reply_logits(base.model, rows([e], 4096)[0], base.device) for e in ordered])
        row = rows(encoded, 4096)[0]
        leaking = base.model(
            input_ids=torch.tensor([row.ids]),
            position_ids=torch.tensor([row.positions]),
            logits_to_keep=torch.tensor(row.keep),
        ).logits[0]
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(leaking, alone, atol=1e-3), "the trap is gone: use_cache need not be off any more"


def test_a_cancelled_run_leaves_the_base_bit_for_bit(smollm2_tokenizer: Any, tmp_path: Path) -> None:
    base = tiny_base(smollm2_tokenizer)
    row = rows([encode_example(base.tokenizer, conversations(1)[0], 512)], 512)[0]
    with torch.inference_mode():
        before = reply_logits(base.model, row, base.device)
    calls = iter([False, False, True])
    result = loop.train(base, RECIPE, conversations(64), [], tmp_path, lambda e: None, lambda: next(calls))
    assert result.adapter is None
    assert result.steps == 2
    with torch.inference_mode():
        assert torch.equal(reply_logits(base.active, row, base.device), before)


def test_held_out_loss_is_the_mean_over_all_reply_tokens(smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer)
    encoded = [encode_example(base.tokenizer, e, 512) for e in conversations(7)]
    with torch.inference_mode():
        expected = padded_loss(base.model, encoded).item()
    found = held_out_loss(base, None, encoded, 100)
    assert found.loss == pytest.approx(expected, rel=1e-5)
    assert found.tokens == sum(e.reply_tokens for e in encoded)


def test_versions_are_numbered_checked_and_whole(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "adapter_model.safetensors").write_bytes(b"weights")
    home = tmp_path / "adapters"
    for expected in (1, 2, 3):
        assert adapters.publish(home, files, {"created_at": 0}).number == expected
    (home / "0004").mkdir()  # what a killed process could leave has no manifest
    assert [v.name for v in adapters.versions(home)] == ["likeme-0001", "likeme-0002", "likeme-0003"]
    assert adapters.publish(home, files, {"created_at": 0}).number in (4, 5)
    assert not list(home.glob(".publishing-*"))


def test_recipes_are_read_whole_and_a_wrong_number_is_named(tmp_path: Path) -> None:
    from storage.errors import BadInput

    article = recipe.load("article")
    assert (article.rank, article.alpha, article.dropout, article.learning_rate) == (16, 32, 0.05, 2e-4)
    assert (article.epochs, article.examples_per_step, article.max_tokens) == (3, 16, 1024)
    assert article.targets == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert set(recipe.names()) == {"article", "fast", "embedded"}
    wrong = tmp_path / "mine.toml"
    wrong.write_text((recipe.RECIPES / "fast.toml").read_text().replace("rank = 16", "rank = -1"))
    with pytest.raises(BadInput, match=r"mine\.toml, rank"):
        recipe.load(str(wrong))
    with pytest.raises(BadInput, match="no recipe 'x'"):
        recipe.load("x")
