"""A voice's layers as few large products instead of many: three thin ones make little of a card.

`layers.gather` has put the weights of q, k, v side by side, and of gate and up; here a layer of a voice in
training reads them as the one they are. After the last layer's attention only the places that predict a reply
token go on. Only calls with a row's plan come here: drafts and other models go transformers' own way.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from training.engine import layers
from training.engine.dora import DoraLinear
from training.engine.model import Base


def fuse(base: Base, voice: Any) -> bool:
    """Let the voice's layers compute so, if they can: without dropout, over a base whose layers were gathered."""
    if base.decoder is None:
        return False
    stack = voice.base_model.layers
    if isinstance(stack[0], _Fused):
        return True
    weights = [[_side_by_side(group) for group in layers.modules(layer)] for layer in stack]
    if any(weight is None for of_layer in weights for weight in of_layer):
        return False
    for layer, of_layer in zip(stack, weights, strict=True):
        for number, weight in enumerate(of_layer):
            assert weight is not None
            layer.register_buffer(f"weight_{number}", weight.to(base.products), persistent=False)
        layer.shape, layer.is_last = layers.shape_of(voice.config), layer is stack[-1]
        layer.__class__ = _fused(layer.__class__)
    return True


class _Fused:
    """In front of transformers' layer class."""

    def forward(self: Any, hidden_states: torch.Tensor, *positional: Any, **options: Any) -> Any:
        plan = options.get("plan")
        if plan is None:
            return super().forward(hidden_states, *positional, **options)  # type: ignore[misc]
        x = hidden_states[0]
        cos, sin = (turn[0] for turn in options["position_embeddings"])
        keep = options.get("keep") if self.is_last else None
        return layers.learn(x, self._gathered(x.dtype), self.shape, cos, sin, plan, keep)[None]

    def _gathered(self: Any, dtype: torch.dtype) -> layers.Layer:
        norms = (getattr(self.self_attn, name, None) for name in ("q_norm", "k_norm"))
        query_norm, key_norm = (None if norm is None else norm.weight for norm in norms)
        qkv, out, gate_up, down = (
            _linear(group, getattr(self, f"weight_{number}"), dtype)
            for number, group in enumerate(layers.modules(self))
        )
        before, between = self.input_layernorm.weight, self.post_attention_layernorm.weight
        return layers.Layer(before, qkv, query_norm, key_norm, out, between, gate_up, down)


@cache
def _fused(plain: Any) -> Any:
    return type(f"Fused{plain.__name__}", (_Fused, plain), {})


def _linear(group: Sequence[Any], weight: torch.Tensor, dtype: torch.dtype) -> layers.Linear:
    """Layers side by side, with gradients to their A, B and magnitudes; the thin products are made in `dtype`."""
    if not layers.adapted(group):
        return layers.Linear(weight, len(weight), _bias(group), None, None)
    up = torch.block_diag(*[one.lora_B * one.scaling for one in group]).to(dtype)
    down = torch.cat([one.lora_A for one in group]).to(dtype)
    gain = torch.cat([one.magnitude * one.inverse_norm for one in group])
    return layers.Linear(weight, len(weight), _bias(group), up, gain, down=down)


def _bias(group: Sequence[Any]) -> torch.Tensor | None:
    plain = [_plain(one) for one in group]
    if all(one.bias is None for one in plain):
        return None
    return torch.cat([one.weight.new_zeros(one.out_features) if one.bias is None else one.bias for one in plain])


def _plain(module: Any) -> Any:
    return module.base_layer if isinstance(module, DoraLinear) else module


def _side_by_side(group: Sequence[Any]) -> torch.Tensor | None:
    """The weight that theirs are parts of; None where there is none, or more than a product to it."""
    if layers.adapted(group) and not all(isinstance(one, DoraLinear) and not one.dropout for one in group):
        return None
    plain = [_plain(one) for one in group]
    if not all(type(one) is nn.Linear for one in plain):
        return None
    weights: list[torch.Tensor] = [one.weight for one in plain]
    end, storage = weights[0].data_ptr(), weights[0].untyped_storage().data_ptr()
    for weight in weights:
        if weight.data_ptr() != end or weight.untyped_storage().data_ptr() != storage or not weight.is_contiguous():
            return None
        end += weight.numel() * weight.element_size()
    rows = sum(weight.shape[0] for weight in weights)
    return weights[0].detach().as_strided((rows, weights[0].shape[1]), weights[0].stride())
