"""DoRA over a base in 4 bits: what the dequantised weights would give."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.training.engine.test_exactness import conversations, flat, relative
from training.dataset.render import encode_example
from training.engine import dora, loop, recipe
from training.engine.attention import reply_logits
from training.engine.decoder import decoder
from training.engine.model import Base, load_base, prepared
from training.engine.packing import rows, shared_beginning
from training.engine.step import Eager
from training.fine_tuning import default_recipe

QDORA = recipe.load("qdora", warmup_steps=0, epochs=1)


@pytest.fixture(scope="module")
def base(tiny_folder: Path) -> Base:
    return load_base(str(tiny_folder), tiny_folder.parent, "cpu", quantization="nf4")


def dequantised(base: Base) -> Base:
    """The same base with plain weights."""
    model: Any = copy.deepcopy(base.model)
    for name, layer in list(model.named_modules()):
        if hasattr(getattr(layer, "weight", None), "quant_state"):
            weight = dora.plain_weight(layer)
            plain = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None, device="meta")
            plain.weight = nn.Parameter(weight.clone(), requires_grad=False)
            model.set_submodule(name, plain)
    return prepared(base.name, model, base.tokenizer)


def test_gradients_over_4_bits_are_those_over_the_dequantised_weights(base: Base) -> None:
    assert base.in_4_bits
    assert default_recipe(base) == "qdora"
    plain = dequantised(base)
    examples = [encode_example(base.tokenizer, e, 512) for e in conversations(32)]
    packed = rows(examples, 1024, shared_beginning(examples))
    replies = sum(len(row.targets) for row in packed)
    gradients = []
    for one in (base, plain):
        torch.manual_seed(1)
        voice = dora.voice(one.model, QDORA.targets, QDORA.rank, QDORA.alpha, 0.0).train()
        with torch.no_grad():
            for _, layer in dora.layers(voice):
                layer.lora_B.normal_(0, 0.02)
        dora.refresh(voice)
        step = Eager(one, voice, QDORA)
        for row in packed:
            step.add((row, replies))
        gradients.append(
            flat({f"{n}.{key}": p for n, m in dora.layers(voice) for key, p in m.named_parameters(recurse=False)})
        )
    assert relative(gradients[0], gradients[1]) <= 1e-5


def test_a_voice_over_4_bits_trains_is_saved_and_loaded_again(base: Base, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    few = QDORA.model_copy(update={"examples_per_step": 2, "learning_rate": 1e-3})
    result = loop.train(base, few, conversations(32), [], tmp_path, events.append, lambda: "go on")
    assert result.adapter is not None
    assert events[-1]["train_loss"] < events[0]["train_loss"]
    row = rows([encode_example(base.tokenizer, e, 512) for e in conversations(2)], 512)[0]
    base.load("likeme-0001", result.adapter)
    with torch.inference_mode(), base.speaking("likeme-0001") as voice:
        tuned = reply_logits(voice, row, base.device)
        stock = reply_logits(base.model, row, base.device)
    assert (tuned - stock).norm() > 1e-3 * stock.norm()


def in_4_bits(model: Any) -> Any:
    """As transformers loads it, the head left as it is."""
    for name, layer in list(model.named_modules()):
        if type(layer) is nn.Linear and layer is not model.get_output_embeddings():
            small = Linear4bit(
                layer.in_features, layer.out_features, layer.bias is not None, torch.float32, quant_type="nf4"
            )
            small.support_avx512bf16_for_cpu = False  # as load_base has it
            small.weight = Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4").to("cpu")
            if layer.bias is not None:
                small.bias = layer.bias
            model.set_submodule(name, small)
    return model


@pytest.mark.parametrize("targets", [None, "all-linear", ["q_proj", "o_proj"]], ids=str)
def test_drafts_over_4_bits_have_the_logits_that_transformers_gives(targets: Any) -> None:
    torch.manual_seed(3)
    shape = Qwen2Config(
        vocab_size=211, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    model = in_4_bits(Qwen2ForCausalLM(shape).eval().requires_grad_(False))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(0, 0.1)
    voice = None
    if targets is not None:
        voice = dora.voice(model, targets, 16, 32, 0.0)
        with torch.no_grad():
            for _, layer in dora.layers(voice):
                layer.lora_B.normal_(0, 0.05)
        dora.refresh(voice)
        voice.eval()
    prompt, replies = list(range(5, 42)), torch.tensor([[7, 9, 11], [8, 80, 90]])
    given = torch.cat((torch.tensor([prompt, prompt]), replies), 1)
    with torch.no_grad():
        wanted = (voice or model)(input_ids=given, use_cache=False).logits[:, len(prompt) - 1 :]
    made = decoder(model)
    assert made is not None
    writing = made.begin(voice, prompt, 2, 4)
    assert writing is not None
    found = [writing.logits.clone(), *(writing.go_on(ids).clone() for ids in replies.unbind(1))]
    torch.testing.assert_close(torch.stack(found, 1), wanted, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        again = (voice or model)(input_ids=given, use_cache=False).logits[:, len(prompt) - 1 :]
    assert torch.equal(again, wanted), "the weights are where transformers finds them"
