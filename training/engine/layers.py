"""The layers of Llama and its kin (Qwen2, Qwen3, Mistral, SmolLM …), from their weights alone, to write and to learn.

transformers' own forward costs more time in Python, launches and small kernels than in the products of
matrices. Here q, k, v are one product, gate and up another. In decoding the DoRA of a voice rides along: its
A lies in spare rows behind W's own, so the product that gives Wx gives Ax too, and what is left of
g·(Wx + s·BAx) melts into the elementwise work that follows. In training (fused.py) A, B and g have gradients
and lie where the optimiser has them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.engine import attention, packed
from training.engine.dora import DoraLinear
from training.engine.packed import Packed

SPARE = 16  # rows behind each weight: the largest rank of a voice that rides along
FEW = 16  # tokens up to which B·(Ax) is summed elementwise on a GPU: that melts into its neighbours, a product does not
GROUPS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))


class Linear(NamedTuple):
    """Layers that read the same input, side by side."""

    weight: Tensor  # (rows + spare, columns): W's rows, then the voice's A; over 4 bits A alone
    rows: int
    bias: Tensor | None  # (rows,)
    up: Tensor | None  # (rows, spare): s·B of each layer in its own columns; None: no voice
    gain: Tensor | None  # (rows,) g, fp32
    packed: Packed | None = None  # W, where it is in 4 bits
    down: Tensor | None = None  # (spare, columns) A in training, where it is no part of `weight`


class Layer(NamedTuple):
    """One decoder layer."""

    attention_norm: Tensor
    qkv: Linear
    query_norm: Tensor | None
    key_norm: Tensor | None
    out: Linear
    feed_norm: Tensor
    gate_up: Linear
    down: Linear


class Shape(NamedTuple):
    """What all layers have in common."""

    heads: int
    key_heads: int
    size: int  # of a head
    epsilon: float


def shape_of(config: Any) -> Shape:
    """From a transformers configuration. AttributeError where it is of another kind."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(config.num_attention_heads, config.num_key_value_heads, size, config.rms_norm_eps)


@torch.no_grad()
def gather(layer: Any) -> Layer:
    """A transformers layer's tensors; its weights become views into the gathered ones, so none lies there twice.

    AttributeError or ValueError where the layer is of another kind.
    """
    attention = layer.self_attn
    qkv, out, gate_up, down = (_gathered(layers) for layers in modules(layer))
    norms = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))
    query_norm, key_norm = (None if norm is None else norm.weight.data for norm in norms)
    before, between = layer.input_layernorm.weight.data, layer.post_attention_layernorm.weight.data
    return Layer(before, qkv, query_norm, key_norm, out, between, gate_up, down)


def modules(layer: Any) -> list[list[Any]]:
    """A transformers layer's linear modules as GROUPS has them."""
    parts = [layer.self_attn, layer.self_attn, layer.mlp, layer.mlp]
    return [[getattr(part, name) for name in names] for part, names in zip(parts, GROUPS, strict=True)]


def _gathered(layers: Sequence[Any]) -> Linear:
    if all(map(packed.is_packed, layers)):
        together = packed.gather(layers)
        spare = together.scales.new_zeros(SPARE * len(layers), 2 * together.numbers.shape[1])
        return Linear(spare, len(together.numbers), _bias(layers, spare), None, None, packed=together)
    if any(type(layer) is not nn.Linear for layer in layers):
        raise ValueError("its weights are quantised or otherwise special")
    rows = sum(layer.out_features for layer in layers)
    first = layers[0].weight.data
    weight = first.new_zeros(rows + SPARE * len(layers), first.shape[1])
    begin = 0
    for layer in layers:
        part = weight[begin : begin + layer.out_features]
        part.copy_(layer.weight)
        layer.weight.data = part
        begin += layer.out_features
    return Linear(weight, rows, _bias(layers, first), None, None)


def _bias(layers: Sequence[Any], like: Tensor) -> Tensor | None:
    if all(layer.bias is None for layer in layers):
        return None
    return torch.cat([like.new_zeros(la.out_features) if la.bias is None else la.bias.data for la in layers])


def in_type(layer: Layer, products: torch.dtype) -> Layer:
    """A layer whose products with its weights are made in `products`."""
    qkv, out, gate_up, down = (
        linear._replace(weight=linear.weight.to(products))
        for linear in (layer.qkv, layer.out, layer.gate_up, layer.down)
    )
    return layer._replace(qkv=qkv, out=out, gate_up=gate_up, down=down)


def adapted(layers: Sequence[Any]) -> bool:
    """Whether a voice changes any of these modules."""
    return any(isinstance(layer, DoraLinear) for layer in layers)


def fits(layers: Sequence[Any]) -> bool:
    """Whether a voice's ranks have room behind the weights."""
    return all(layer.lora_A.shape[0] <= SPARE for layer in layers if isinstance(layer, DoraLinear))


def room(linear: Linear) -> Linear:
    """`linear` with room for a voice."""
    up = linear.weight.new_zeros(linear.rows, len(_spare(linear)))
    return linear._replace(up=up, gain=torch.ones(linear.rows, device=up.device))


def write(linear: Linear, layers: Sequence[Any]) -> None:
    """Put a voice's A, B and g into the room that `room` made, in place."""
    assert linear.up is not None and linear.gain is not None
    spare = _spare(linear)
    spare.zero_()
    linear.up.zero_()
    linear.gain.fill_(1)
    row = 0
    for number, layer in enumerate(layers):
        module: Any = layer.base_layer if isinstance(layer, DoraLinear) else layer
        end = row + int(module.out_features)
        if isinstance(layer, DoraLinear):
            rank, column = layer.lora_A.shape[0], number * SPARE
            spare[column : column + rank].copy_(layer.lora_A)
            linear.up[row:end, column : column + rank].copy_(layer.lora_B * layer.scaling)
            linear.gain[row:end].copy_(layer.magnitude * layer.inverse_norm)
        row = end


def _spare(linear: Linear) -> Tensor:
    """The rows for a voice's A."""
    return linear.weight if linear.packed is not None else linear.weight[linear.rows :]


def read(x: Tensor, layer: Layer, shape: Shape, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """A prompt's tokens through a layer; what later tokens look back at goes to `keys` and `values`.

    x (tokens, hidden); cos, sin (tokens, size); keys, values (key heads, tokens, size).
    """
    query, key, value = _query_key_value(x, layer, shape, cos[:, None], sin[:, None])
    keys.copy_(key.transpose(0, 1))
    values.copy_(value.transpose(0, 1))
    attended = F.scaled_dot_product_attention(
        query.transpose(0, 1)[None],
        key.transpose(0, 1)[None],
        value.transpose(0, 1)[None],
        is_causal=True,
        enable_gqa=shape.heads != shape.key_heads,
    )
    return _rest(x, attended[0].transpose(0, 1).flatten(1), layer, shape)


def norms_of(layer: Layer) -> tuple[Tensor, Tensor] | None:
    """Of the heads' queries and keys, where the model has them."""
    return None if layer.query_norm is None or layer.key_norm is None else (layer.query_norm, layer.key_norm)


def enter(x: Tensor, layer: Layer, shape: Shape) -> Tensor:
    """What attention reads of x: (replies, (heads + 2 · key heads) · size)."""
    return _project(normed(x, layer.attention_norm, shape.epsilon), layer.qkv)


def leave(
    x: Tensor, attended: Tensor, layer: Layer, following: Layer | None, shape: Shape
) -> tuple[Tensor, Tensor | None]:
    """A layer from its attention on, and the next one up to its own: what lies between two attentions."""
    x = _rest(x, attended, layer, shape)
    return x, None if following is None else enter(x, following, shape)


def attend(
    made: Tensor,
    norms: tuple[Tensor, Tensor] | None,
    turns: tuple[Tensor, Tensor],
    prompt: tuple[Tensor, Tensor],
    own: tuple[Tensor, Tensor],
    length: Tensor,
    place: Tensor,
    epsilon: float,
) -> Tensor:
    """kernels.attend, operation by operation. The replies share the prompt's keys and values."""
    replies, key_heads, longest, size = own[0].shape
    query, key, value = _parted(made, norms, key_heads, (turns[0][:, None], turns[1][:, None]), epsilon)
    own[0].index_copy_(2, place, key[:, :, None])
    own[1].index_copy_(2, place, value[:, :, None])
    heads, room = query.shape[1], prompt[0].shape[1]
    group = heads // key_heads
    query = query.reshape(replies, key_heads, group, size)
    together = query.transpose(0, 1).reshape(key_heads, replies * group, size)
    to_prompt = (together @ prompt[0].transpose(1, 2)).view(key_heads, replies, group, room)
    to_own = query @ own[0].transpose(2, 3)  # (replies, key heads, group, longest)
    scores = torch.cat((to_prompt.transpose(0, 1), to_own), -1).float() * size**-0.5
    places = torch.arange(max(room, longest), device=made.device)
    seen = torch.cat((places[:room] < length, places[:longest] <= place))
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1).to(query.dtype)
    of_prompt = weights[..., :room].transpose(0, 1).reshape(key_heads, replies * group, room) @ prompt[1]
    of_prompt = of_prompt.view(key_heads, replies, group, size).transpose(0, 1)
    attended: Tensor = of_prompt + weights[..., room:] @ own[1]
    return attended.reshape(replies, heads * size)


def learn(x: Tensor, layer: Layer, shape: Shape, cos: Tensor, sin: Tensor, plan: Any, keep: Tensor | None) -> Tensor:
    """A packed row's tokens through a layer of a voice in training: x (tokens, hidden); cos, sin (tokens, size).

    `keep` (kept,): the places that matter from here on; after the last layer's attention the others predict nothing.
    """
    made = _query_key_value(x, layer, shape, cos[:, None], sin[:, None])
    query, key, value = (states.transpose(0, 1)[None] for states in made)
    attended = attention.by_plan(query, key, value, plan)[0].flatten(1)
    if keep is not None:
        x, attended = x.index_select(0, keep), attended.index_select(0, keep)
    return _rest(x, attended, layer, shape)


def normed(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root-mean-square norm over the last dimension, as transformers rounds it."""
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return weight * (wide * scale).to(x.dtype)


def _query_key_value(x: Tensor, layer: Layer, shape: Shape, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each (tokens, heads, size), query and key turned to their positions."""
    return _parted(enter(x, layer, shape), norms_of(layer), shape.key_heads, (cos, sin), shape.epsilon)


def _parted(
    made: Tensor, norms: tuple[Tensor, Tensor] | None, key_heads: int, turns: tuple[Tensor, Tensor], epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What the projections gave as query, key and value, the first two normed and turned to their positions."""
    heads = made.shape[1] // turns[0].shape[-1] - 2 * key_heads
    query, key, value = made.unflatten(1, (heads + 2 * key_heads, -1)).split([heads, key_heads, key_heads], 1)
    if norms is not None:
        query, key = normed(query, norms[0], epsilon), normed(key, norms[1], epsilon)
    return _turned(query, *turns), _turned(key, *turns), value


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


def _rest(x: Tensor, attended: Tensor, layer: Layer, shape: Shape) -> Tensor:
    x = x + _project(attended, layer.out)
    gate, up = _project(normed(x, layer.feed_norm, shape.epsilon), layer.gate_up).chunk(2, -1)
    return x + _project(F.silu(gate) * up, layer.down)


def _project(x: Tensor, linear: Linear) -> Tensor:
    """(tokens, columns) -> (tokens, rows)."""
    if linear.down is not None:
        return _learned(x, linear)
    if linear.up is None or linear.gain is None:
        made = times(x, _whole(linear)[: linear.rows])
        return made if linear.bias is None else made + linear.bias
    made = times(x, _whole(linear))
    plain, low = made[:, : linear.rows].float(), made[:, linear.rows :]
    if x.is_cuda and len(x) <= FEW:
        raised = (low[:, None].float() * linear.up.float()).sum(-1)
    else:
        raised = times(low, linear.up).float()
    tuned: Tensor = linear.gain * (plain + raised)
    return (tuned if linear.bias is None else tuned + linear.bias).to(x.dtype)


def _whole(linear: Linear) -> Tensor:
    """W's rows, then the voice's A: (rows + spare, columns)."""
    if linear.packed is None:
        return linear.weight
    plain = packed.unpack(linear.packed)
    return plain if linear.up is None else torch.cat((plain, linear.weight))


def _learned(x: Tensor, linear: Linear) -> Tensor:
    """`_project` in training: all that the backward pass keeps of it is Wx + s·BAx, in x's type."""
    assert linear.up is not None and linear.gain is not None and linear.down is not None
    base = times(x, linear.weight[: linear.rows])
    made = torch.addmm(base, F.linear(x, linear.down), linear.up.T)
    tuned: Tensor = linear.gain * made.float()
    return (tuned if linear.bias is None else tuned + linear.bias).to(x.dtype)


def times(x: Tensor, weight: Tensor) -> Tensor:
    """x · weightᵀ in the weight's type, given in x's."""
    return F.linear(x.to(weight.dtype), weight).to(x.dtype)
