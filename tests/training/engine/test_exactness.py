"""Packed training is stock PEFT's training: losses and gradients, over steps with a real fused AdamW."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from tests.model_fixtures import MODELS, SHARED, tiny_base
from training.dataset.render import IGNORED, Encoded, encode_example
from training.engine import attention, dora, loop, recipe
from training.engine.attention import reply_logits
from training.engine.model import Base, load_base, prepared
from training.engine.packing import rows, shared_beginning
from training.engine.step import Eager
from training.evaluation.voice import loss_of

RECIPE = recipe.load("embedded", epochs=3, learning_rate=1e-2, warmup_steps=0, row_tokens=128, early_stopping=False)
WORDS = "yep hm right oof well ok bread monday soup lamp wind box crow kettle".split()
SYSTEM = {"role": "system", "content": "Write your next message."}


def conversations(n: int, seed: int = 0) -> list[list[dict[str, str]]]:
    draw = random.Random(seed)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randrange(1, 9)))

    def turn() -> list[dict[str, str]]:
        return [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]

    return [[SYSTEM, *(turn() if draw.random() < 0.3 else []), *turn()] for _ in range(n)]


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


def tiny_qwen3() -> Base:
    """A random Qwen3 of two small layers with the real tokenizer."""
    folder = SHARED / "qwen3"
    if not folder.is_dir():
        pytest.skip("Qwen3's tokenizer is not beside the project (../shared/qwen3)")
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=151_936,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    )
    return prepared("tiny-qwen3", Qwen3ForCausalLM(config), tokenizer)


@pytest.fixture(params=["a tiny Llama", "a tiny Qwen3", "SmolLM2"])
def base(request: pytest.FixtureRequest, smollm2_tokenizer: Any) -> Iterator[Base]:
    if request.param == "a tiny Llama":
        yield tiny_base(smollm2_tokenizer)
    elif request.param == "a tiny Qwen3":
        yield tiny_qwen3()
    else:
        smollm2 = load_base("smollm2", MODELS, "cpu")
        smollm2.products = torch.float32
        yield smollm2


def stock_peft(base: Base, dropout: float = 0.0) -> Any:
    """PEFT's own DoRA around the same base, its weights those of `dora.voice` under the same seed."""
    config = LoraConfig(
        r=RECIPE.rank, lora_alpha=RECIPE.alpha, lora_dropout=dropout, use_dora=True, target_modules="all-linear"
    )
    return get_peft_model(copy.deepcopy(base.model), config)


def by_peft_name(voice: Any) -> dict[str, torch.nn.Parameter]:
    """The voice's parameters by the names PEFT gives them in a model."""
    named = {}
    for name, layer in dora.layers(voice):
        named[f"base_model.model.{name}.lora_A.default.weight"] = layer.lora_A
        named[f"base_model.model.{name}.lora_B.default.weight"] = layer.lora_B
        named[f"base_model.model.{name}.lora_magnitude_vector.default.weight"] = layer.magnitude
    return named


@pytest.mark.parametrize("row_tokens", [60, 4096])
def test_every_gradient_of_packed_steps_equals_stock_peft_s(base: Base, row_tokens: int) -> None:
    per_step, number = (3, 2) if base.name == "smollm2" else (16, 3)
    if base.name != "tiny" and row_tokens > 60:
        pytest.skip("of a large model one way of packing is enough")
    examples = [encode_example(base.tokenizer, e, 512) for e in conversations(number * per_step)]
    shared = shared_beginning(examples)
    assert shared > 5
    torch.manual_seed(1)
    voice = dora.voice(base.model, "all-linear", RECIPE.rank, RECIPE.alpha, 0.0).train()
    reference = stock_peft(base).train()
    if base.name == "smollm2":
        reference.double()  # in fp32 stock PEFT's own rounding through 30 layers is 1.3e-5
    theirs = {name: p for name, p in reference.named_parameters() if p.requires_grad}
    ours = by_peft_name(voice)
    assert theirs.keys() == ours.keys()
    with torch.no_grad():
        for name, parameter in theirs.items():
            parameter.copy_(ours[name])
    step = Eager(base, voice, RECIPE)
    assert type(voice.base_model.layers[0]).__name__.startswith("Fused")
    optimizer = torch.optim.AdamW(list(theirs.values()), lr=1e-2, weight_decay=0.0, fused=True)
    for start in range(0, len(examples), per_step):
        batch = examples[start : start + per_step]
        packed = rows(batch, row_tokens, shared)
        assert (len(packed) > 1) == (row_tokens == 60)
        replies = sum(len(row.targets) for row in packed)
        loss = sum(float(step.add((row, replies))) for row in packed)
        expected = padded_loss(reference, batch)
        expected.backward()
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        assert relative(flat(ours), flat(theirs)) <= 1e-5
        torch.nn.utils.clip_grad_norm_(list(theirs.values()), RECIPE.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad()
        step.update(1e-2)
        # Adam's first steps are the gradient's signs: what rounding makes of a zero is as large as the rest. So
        # the steps are compared in the mean, and the next ones begin alike.
        apart = torch.cat([(ours[name] - p).flatten() for name, p in theirs.items()])
        assert apart.abs().mean() < 1e-4
        with torch.no_grad():
            for name, parameter in theirs.items():
                parameter.copy_(ours[name])


def test_products_in_bf16_stay_within_its_noise(smollm2_tokenizer: Any) -> None:
    examples = [encode_example(smollm2_tokenizer, e, 512) for e in conversations(16)]
    packed = rows(examples, 4096, shared_beginning(examples))
    made = []
    for products in (torch.float32, torch.bfloat16):
        base = tiny_base(smollm2_tokenizer)
        base.products = products
        torch.manual_seed(1)
        voice = dora.voice(base.model, "all-linear", RECIPE.rank, RECIPE.alpha, 0.0).train()
        step = Eager(base, voice, RECIPE)
        loss = sum(float(step.add((row, len(row.targets)))) for row in packed)
        made.append((loss, flat(by_peft_name(voice))))
    (exact, wanted), (coarse, found) = made
    assert coarse == pytest.approx(exact, rel=1e-3)
    assert 0 < relative(found, wanted) < 0.03


def flat(parameters: dict[str, torch.nn.Parameter]) -> torch.Tensor:
    """All gradients end to end, by name."""
    return torch.cat([parameters[name].grad.flatten() for name in sorted(parameters)])  # type: ignore[union-attr]


def relative(ours: torch.Tensor | None, theirs: torch.Tensor | None) -> float:
    """The norm of the difference over the norm."""
    assert ours is not None
    assert theirs is not None
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))


def test_a_trained_voice_loads_in_stock_peft_with_the_same_logits(base: Base, tmp_path: Path) -> None:
    examples = conversations(4 if base.name == "smollm2" else 32)
    events: list[dict[str, Any]] = []
    gentle = RECIPE.model_copy(update={"learning_rate": 1e-3})
    result = loop.train(base, gentle, examples, [], tmp_path, events.append, lambda: "go on")
    assert result.adapter is not None
    assert events[-1]["train_loss"] < events[0]["train_loss"]
    row = rows([encode_example(base.tokenizer, e, 512) for e in examples[:4]], 512)[0]
    base.load("likeme-0001", result.adapter)
    with torch.inference_mode(), base.speaking("likeme-0001") as voice:
        ours = reply_logits(voice, row, base.device)
        stock = reply_logits(base.model, row, base.device)
    theirs_model: Any = PeftModel.from_pretrained(copy.deepcopy(base.model), str(result.adapter)).eval()
    with torch.inference_mode():
        theirs = reply_logits(theirs_model, row, base.device)
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()
    assert (ours - stock).norm() > 1e-2 * theirs.norm()


def test_with_dropout_the_expected_output_is_peft_s(smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer)
    torch.manual_seed(2)
    layer = dora.DoraLinear(base.model.model.layers[0].mlp.gate_proj, 16, 32, 0.3)
    with torch.no_grad():
        layer.lora_B.normal_(0, 0.3)
        layer.magnitude.mul_(1.5)
        layer.inverse_norm.copy_(_dense_norm(layer).reciprocal())
    x = torch.randn(1, 48).expand(40_000, 48)
    with torch.no_grad():
        drawn, exact = layer.train()(x), layer.eval()(x[:1])[0]
    assert (drawn.mean(0) - exact).abs().max() < 5 * (drawn.std(0) / 200).max()
    assert drawn.std(0).min() > 0


def _dense_norm(layer: dora.DoraLinear) -> torch.Tensor:
    weight = dora.plain_weight(layer.base_layer)
    return (weight + layer.scaling * layer.lora_B @ layer.lora_A).norm(dim=1)


def test_the_factored_norm_is_the_dense_one(smollm2_tokenizer: Any) -> None:
    voice = dora.voice(tiny_base(smollm2_tokenizer).model, "all-linear", 16, 32, 0.0)
    with torch.no_grad():
        for _, layer in dora.layers(voice):
            layer.lora_B.normal_(0, 0.5)
    dora.refresh(voice)
    for _, layer in dora.layers(voice):
        assert torch.allclose(layer.inverse_norm, 1 / _dense_norm(layer), rtol=1e-5)


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


def deep_bf16(seed: int) -> LlamaForCausalLM:
    """Random weights that make much of every rounding."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 256, "intermediate_size": 768, "num_attention_heads": 8, "num_key_value_heads": 4}
    config = LlamaConfig(vocab_size=2000, num_hidden_layers=24, initializer_range=0.2, **shape)
    return LlamaForCausalLM(config).eval().bfloat16()


def test_rows_are_packed_though_another_kernel_rounds_a_deep_model_otherwise_and_not_where_it_leaks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    by_plan = attention.by_plan

    def on_a_card(*given: Any) -> torch.Tensor:
        """Other sums than those the example alone goes through, as there."""
        with sdpa_kernel(SDPBackend.MATH):
            return by_plan(*given)

    monkeypatch.setattr(attention, "by_plan", on_a_card)
    for seed in range(3):
        assert attention.install(deep_bf16(seed))
    assert caplog.text == ""
    monkeypatch.setattr(attention, "plan", lambda row, device: None)
    for seed in range(3):
        assert not attention.install(deep_bf16(seed))
    assert "LlamaForCausalLM does not take packed rows (logits 1." in caplog.text


def test_a_cancelled_run_leaves_the_base_bit_for_bit(smollm2_tokenizer: Any, tmp_path: Path) -> None:
    base = tiny_base(smollm2_tokenizer)
    row = rows([encode_example(base.tokenizer, conversations(1)[0], 512)], 512)[0]
    with torch.inference_mode():
        before = reply_logits(base.model, row, base.device)
    calls: Iterator[loop.Wish] = iter(["go on", "go on", "cancel"])
    result = loop.train(base, RECIPE, conversations(64), [], tmp_path, lambda e: None, lambda: next(calls))
    assert result.adapter is None
    assert result.steps == 2
    with torch.inference_mode():
        assert torch.equal(reply_logits(base.model, row, base.device), before)


def test_held_out_loss_is_the_mean_over_all_reply_tokens(smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer)
    encoded = [encode_example(base.tokenizer, e, 512) for e in conversations(7)]
    with torch.inference_mode():
        expected = padded_loss(base.model, encoded).item()
    found = loss_of(base, base.model, encoded, 100)
    assert found.loss == pytest.approx(expected, rel=1e-5)
    assert found.tokens == sum(e.reply_tokens for e in encoded)
