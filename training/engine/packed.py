"""Linear layers in 4 bits (nf4, arXiv 2305.14314) side by side, unpacked where they are read.

bitsandbytes' own product is for one row at a time; here the plain weight is made in the step that multiplies with it,
by a few operations that a compiler melts into one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

BLOCK = 64  # weights that share a scale


class Packed(NamedTuple):
    """Weights of (rows, columns)."""

    numbers: Tensor  # (rows, columns / 2) uint8: two places in the code each, the first in the upper half
    scales: Tensor  # (rows, columns / BLOCK)
    code: Tensor  # (16,)


def is_packed(layer: Any) -> bool:
    """Whether a layer is one that `gather` takes."""
    state = getattr(getattr(layer, "weight", None), "quant_state", None)
    return state is not None and state.quant_type == "nf4" and state.blocksize == BLOCK and not state.shape[1] % BLOCK


def gather(layers: Sequence[Any]) -> Packed:
    """Layers side by side; theirs become views into these, so that nothing but the scales lies there twice."""
    columns, dtype = layers[0].weight.quant_state.shape[1], layers[0].weight.quant_state.dtype
    numbers = torch.cat([layer.weight.data.view(-1, columns // 2) for layer in layers])
    begin = 0
    for layer in layers:
        rows = layer.weight.quant_state.shape[0]
        layer.weight.data = numbers[begin : begin + rows].view(layer.weight.data.shape)
        begin += rows
    scales = torch.cat([_scales(layer.weight.quant_state).view(-1, columns // BLOCK) for layer in layers])
    return Packed(numbers, scales.to(dtype), layers[0].weight.quant_state.code.to(dtype))


def unpack(packed: Packed) -> Tensor:
    """(rows, columns) in the type of the scales."""
    places = torch.stack((packed.numbers >> 4, packed.numbers & 15), -1).flatten(1)  # (rows, columns)
    values = packed.code[places.int()].unflatten(1, (-1, BLOCK))
    plain: Tensor = (values * packed.scales[:, :, None]).flatten(1)
    return plain


def _scales(state: Any) -> Tensor:
    """Of each block; bitsandbytes may have them in 8 bits."""
    scales: Tensor = state.absmax
    if state.nested:
        import bitsandbytes.functional as bnb  # only where a 4-bit base was loaded

        scales = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
    return scales  # fp32
