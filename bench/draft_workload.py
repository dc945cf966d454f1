"""What bench/draft.py draws with: real shapes with random weights, and a tokenizer for ids that mean nothing."""

import os
import random
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CAP_GIB = 22
PROMPT, REPLIES, TOKENS = 200, 3, 32
ASKED = [{"role": "system", "content": "16"}, {"role": "user", "content": str(PROMPT)}]  # as Ids reads it
SHAPES = {
    "gpu": dict(vocab_size=151936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36,
                num_attention_heads=32, num_key_value_heads=8, head_dim=128, max_position_embeddings=40960,
                tie_word_embeddings=False),
    "cpu": dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                num_attention_heads=9, num_key_value_heads=3, head_dim=64, max_position_embeddings=8192,
                tie_word_embeddings=True),
}  # fmt: skip
ATTENTION, ALL = ("q_proj", "k_proj", "v_proj", "o_proj"), "all-linear"


def random_base(device: str, quantised: bool) -> Any:
    """As `load_base` makes one of it; FP32=1 keeps a CPU's products in fp32."""
    from training.engine.model import hasten, prepared

    model = _model(device)
    if quantised:
        model = _in_4_bits(model)
    base = prepared("random", model, Ids())
    if device == "cpu" and not os.environ.get("FP32"):
        hasten(base)
    return base


def random_voice(base: Any, targets: Any) -> Any:
    """A DoRA of the article's rank that changes what is said."""
    import torch

    from training.engine import dora

    voice = dora.voice(base.model, targets, 16, 32, 0.0)
    with torch.no_grad():
        for _, layer in dora.layers(voice):
            layer.lora_B.normal_(0, 0.01)
    dora.refresh(voice)
    return voice.eval().requires_grad_(False)


def random_ids(length: int) -> list[int]:
    """The same for the same length."""
    draw = random.Random(length)
    return [draw.randrange(1000, 40_000) for _ in range(length)]


def _model(device: str) -> Any:
    """Random weights, written straight into the memory of the device."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    where, dtype = ("cuda", torch.bfloat16) if device == "gpu" else ("cpu", torch.float32)
    if device == "gpu":
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(CAP_GIB * 2**30 / total)
    shape = Qwen3Config(**SHAPES[device])
    with torch.device("meta"):
        model = Qwen3ForCausalLM(shape).to(dtype)
    torch.manual_seed(0)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            weight = torch.empty(parameter.shape, dtype=dtype, device=where)
            weight.normal_(0, 0.02) if weight.dim() > 1 else weight.fill_(1)
            setattr(module, name, torch.nn.Parameter(weight, requires_grad=False))
    if shape.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    with torch.device(where):
        model.model.rotary_emb = type(model.model.rotary_emb)(shape)
    return model.eval()


def _in_4_bits(model: Any) -> Any:
    """As transformers loads a base with QUANTIZATION=nf4: every linear layer but the head."""
    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, layer in [*model.named_modules()]:
        if type(layer) is torch.nn.Linear and layer is not model.get_output_embeddings():
            small = Linear4bit(
                layer.in_features, layer.out_features, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4",
                device="meta",
            )  # fmt: skip
            small.weight = Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4").to("cuda")
            model.set_submodule(name, small)
            layer.weight = None
    return model


class Ids:
    """A tokenizer for ids that mean nothing: a text is the number of tokens it has; without one they are 200."""

    unk_token_id, pad_token_id, chat_template, eos_token = None, 151_643, "given", "<|im_end|>"

    def convert_tokens_to_ids(self, _: str) -> int:
        return 151_645

    def apply_chat_template(self, conversation: list[dict[str, str]], **_: Any) -> str:
        return conversation[-1]["content"] if conversation else ""

    def encode(self, text: str, **_: Any) -> list[int]:
        return random_ids(int(text or PROMPT))

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(map(str, ids))
