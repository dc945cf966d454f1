"""q, k and v of packed rows as one product: three make little of a card, and DoRA's thin ones nothing at all.

`layers.gather` has put their weights side by side; here a voice's attention reads them as the one they are.
Only calls with a row's plan come here: drafts and other models go transformers' own way.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from training.engine.attention import attend
from training.engine.dora import DoraLinear

NAMES = ("q_proj", "k_proj", "v_proj")


def fuse(voice: Any) -> None:
    """Let every attention of a voice that can, make q, k and v at once. Needs a base whose layers were gathered."""
    for layer in voice.base_model.layers:
        attention = getattr(layer, "self_attn", None)
        if attention is None or isinstance(attention, _Fused):
            continue
        weight = _side_by_side([getattr(attention, name) for name in NAMES])
        if weight is not None:
            attention.together = nn.Buffer(weight, persistent=False)
            attention.__class__ = _fused(attention.__class__)


class _Fused:
    """In front of transformers' attention class."""

    def forward(self: Any, hidden_states: torch.Tensor, *positional: Any, **options: Any) -> Any:
        if options.get("plan") is None:
            return super().forward(hidden_states, *positional, **options)  # type: ignore[misc]
        projections = [getattr(self, name) for name in NAMES]
        made = _project(hidden_states, self.together, projections)
        query, key, value = (
            part.unflatten(-1, (-1, self.head_dim))
            for part in made.split([projection.base_layer.out_features for projection in projections], -1)
        )  # (1, tokens, heads, size)
        if hasattr(self, "q_norm"):
            query, key = self.q_norm(query), self.k_norm(key)
        cos, sin = (turn[:, :, None] for turn in options["position_embeddings"])
        query, key = _turned(query, cos, sin), _turned(key, cos, sin)
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        attended, _ = attend(self, query, key, value, None, plan=options["plan"], scaling=self.scaling)
        return self.o_proj(attended.flatten(2)), None


@cache
def _fused(plain: Any) -> Any:
    return type(f"Fused{plain.__name__}", (_Fused, plain), {})


def _project(x: torch.Tensor, weight: torch.Tensor, projections: Sequence[DoraLinear]) -> torch.Tensor:
    """What the projections give, end to end: (1, tokens, rows of all)."""
    down = torch.cat([projection.lora_A for projection in projections]).to(x.dtype)
    low = F.linear(x, down).chunk(len(projections), -1)
    raised = [F.linear(part, one.lora_B.to(x.dtype)) for part, one in zip(low, projections, strict=True)]
    gain = torch.cat([one.magnitude * one.inverse_norm for one in projections])
    tuned = gain * (F.linear(x, weight).float() + projections[0].scaling * torch.cat(raised, -1).float())
    return tuned.to(x.dtype)


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


def _side_by_side(projections: Sequence[Any]) -> torch.Tensor | None:
    """The weight that theirs are parts of; None where there is none, or more than a product to it."""
    if not all(isinstance(one, DoraLinear) and not one.dropout and one.base_layer.bias is None for one in projections):
        return None
    weights: list[torch.Tensor] = [one.base_layer.weight for one in projections]
    end, storage = weights[0].data_ptr(), weights[0].untyped_storage().data_ptr()
    for weight in weights:
        if weight.data_ptr() != end or weight.untyped_storage().data_ptr() != storage or not weight.is_contiguous():
            return None
        end += weight.numel() * weight.element_size()
    rows = sum(weight.shape[0] for weight in weights)
    return weights[0].detach().as_strided((rows, weights[0].shape[1]), weights[0].stride())
