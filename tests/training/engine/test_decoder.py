"""Our decoding against transformers' own: the same logits, token by token, for stock and for a voice."""

from typing import Any

import pytest
import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.model_fixtures import tiny_base
from training.engine import dora
from training.engine.decoder import Decoder, decoder
from training.generate import Sampling, complete

SMALL: dict[str, Any] = {
    "vocab_size": 211,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
KINDS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
    "qwen2, with biases": lambda: Qwen2ForCausalLM(Qwen2Config(**SMALL)),
    "qwen3, with norms of heads": lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL, head_dim=20)),
}
TARGETS = ["all-linear", ["q_proj", "v_proj"]]
MESSAGES = [{"role": "user", "content": "hi"}]


def model_of(kind: str) -> Any:
    torch.manual_seed(3)
    model = KINDS[kind]().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(0, 0.1)
    return model


def voice_of(model: Any, targets: Any, rank: int = 16) -> Any:
    voice = dora.voice(model, targets, rank, 2 * rank, 0.0)
    with torch.no_grad():
        for _, layer in dora.layers(voice):
            layer.lora_B.normal_(0, 0.05)
            layer.magnitude.mul_(1.1)
    dora.refresh(voice)
    return voice.eval().requires_grad_(False)


@torch.no_grad()
def expected(model: Any, prompt: list[int], replies: list[list[int]]) -> torch.Tensor:
    """transformers' logits at the prompt's end and after each reply token: (replies, tokens, vocabulary)."""
    given = torch.tensor([[*prompt, *reply] for reply in replies])
    logits: torch.Tensor = model(input_ids=given, use_cache=False).logits[:, len(prompt) - 1 :]
    return logits


def found(made: Decoder, voice: Any, prompt: list[int], replies: list[list[int]]) -> torch.Tensor:
    writing = made.begin(voice, prompt, len(replies), len(replies[0]) + 1)
    assert writing is not None
    steps = [writing.logits.clone()]
    steps += [writing.go_on(torch.tensor(ids)).clone() for ids in zip(*replies, strict=True)]
    return torch.stack(steps, 1)


PROMPT, REPLIES = list(range(5, 42)), [[7, 9, 11, 13], [8, 8, 90, 2], [100, 3, 5, 200]]


@pytest.mark.parametrize("kind", KINDS)
def test_three_replies_to_one_prompt_have_transformers_logits(kind: str) -> None:
    model = model_of(kind)
    wanted = expected(model, PROMPT, REPLIES)
    made = decoder(model)
    assert made is not None
    torch.testing.assert_close(found(made, None, PROMPT, REPLIES), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(expected(model, PROMPT, REPLIES), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("targets", TARGETS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_voice_that_rides_along_has_its_own_logits_and_leaves_the_stock_model_s(kind: str, targets: Any) -> None:
    model = model_of(kind)
    first, second = voice_of(model, targets), voice_of(model, TARGETS[0], rank=4)
    stock = expected(model, PROMPT, REPLIES)
    made = decoder(model)
    assert made is not None
    for voice in (first, second, first):
        wanted = expected(voice, PROMPT, REPLIES)
        assert (wanted - stock).abs().max() > 0.01
        torch.testing.assert_close(found(made, voice, PROMPT, REPLIES), wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found(made, None, PROMPT, REPLIES), stock, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_products_in_bf16_stay_within_its_noise_and_touch_no_weight_of_the_model(kind: str) -> None:
    model = model_of(kind)
    voice, made = voice_of(model, "all-linear"), decoder(model)
    assert made is not None
    made.multiply_in(torch.bfloat16)
    for speaks in (None, voice, None):
        wanted = expected(speaks or model, PROMPT, REPLIES)
        apart = (found(made, speaks, PROMPT, REPLIES) - wanted).norm() / wanted.norm()
        assert 1e-5 < apart < 0.02
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_gathered_weights_are_the_model_s_own_and_training_moves_nothing_apart() -> None:
    model = model_of("llama")
    made = decoder(model)
    assert made is not None
    layer = made._layers[()][0]
    attention = model.model.layers[0].self_attn
    assert attention.k_proj.weight.data_ptr() == layer.qkv.weight[attention.q_proj.out_features].data_ptr()
    with torch.no_grad():
        attention.v_proj.weight.add_(0.3)
    wanted = expected(model, PROMPT, REPLIES)
    torch.testing.assert_close(found(made, None, PROMPT, REPLIES), wanted, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_left_to_transformers() -> None:
    model = model_of("llama")
    made = decoder(model)
    assert made is not None
    assert made.begin(voice_of(model, ["q_proj"], rank=24), PROMPT, 1, 4) is None
    assert made.begin(None, [1] * 250, 1, 4) is None
    assert made.begin(None, PROMPT, 17, 4) is None
    config = GPTNeoXConfig(
        vocab_size=99, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    assert decoder(GPTNeoXForCausalLM(config).eval()) is None


def test_a_model_that_computes_otherwise_is_left_to_transformers() -> None:
    model = model_of("llama")
    model.model.layers[1].self_attn.scaling *= 1.5
    assert decoder(model) is None


@pytest.mark.parametrize(("apart", "rounding", "ours"), [(0.06, 0.05, True), (0.06, 0.001, False), (0.01, 0.0, True)])
def test_a_deep_model_s_own_rounding_is_no_other_build(
    apart: float, rounding: float, ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.engine.decoder._apart", lambda made, model: (apart, rounding))
    assert (decoder(model_of("llama").bfloat16()) is not None) is ours


def test_transformers_decodes_where_ours_does_not(smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer)
    base.voices["v"] = voice_of(base.model, "all-linear")
    greedy = Sampling(n=2, temperature=0, max_tokens=12)
    ours = [complete(base, name, MESSAGES, greedy) for name in (None, "v")]
    assert base.decoder is not None
    base.decoder = None
    assert [complete(base, name, MESSAGES, greedy) for name in (None, "v")] == ours
