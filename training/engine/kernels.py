# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""Attention of one more token of each reply, as one kernel: norms, positions, the new key and value, the look back.

As separate operations these are a dozen launches a layer, each far longer than its work. Importing this needs
Triton, which comes with torch's CUDA builds; elsewhere `layers.attend` does the same operation by operation.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 16  # of queries: the least that a product on the tensor cores takes
KEYS = 64  # at once


def suits(heads: int, key_heads: int, size: int) -> bool:
    """Whether the kernel takes such heads."""
    half = size // 2
    return half >= ROWS and half & (half - 1) == 0 and heads // key_heads <= ROWS


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
    """(replies, heads · size) from what the projections gave, (replies, (heads + 2 · key heads) · size).

    turns: cos and sin of this position, (1, size); prompt 2 × (key heads, prompt, size), of which `length` count;
    own 2 × (replies, key heads, longest, size), of which `place` count; the new key and value are written behind.
    """
    replies, key_heads, longest, size = own[0].shape
    heads = made.shape[1] // size - 2 * key_heads
    out = torch.empty((replies, heads * size), dtype=made.dtype, device=made.device)
    query_norm, key_norm = norms or (made, made)
    _attend[(replies, key_heads)](
        made, query_norm, key_norm, *turns, *prompt, *own, length, place, out,
        prompt[0].shape[1], longest, epsilon, size**-0.5,
        HEADS=heads, KEY_HEADS=key_heads, HALF=size // 2, NORMED=norms is not None, ROWS=ROWS, KEYS=KEYS,
    )  # fmt: skip
    return out


@triton.jit
def _attend(
    made, query_norm, key_norm, cos, sin, prompt_keys, prompt_values, own_keys, own_values, length, place, out,
    prompt_room, own_room, epsilon, scale,
    HEADS: tl.constexpr, KEY_HEADS: tl.constexpr, HALF: tl.constexpr, NORMED: tl.constexpr,
    ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """One reply's queries to one key head; softmax as it goes, the new key first."""
    SIZE: tl.constexpr = 2 * HALF
    GROUP: tl.constexpr = HEADS // KEY_HEADS
    reply, head = tl.program_id(0), tl.program_id(1)
    read, at = tl.load(length), tl.load(place)
    half, full, rows = tl.arange(0, HALF), tl.arange(0, SIZE), tl.arange(0, ROWS)
    row = made + reply * (HEADS + 2 * KEY_HEADS) * SIZE
    own = (reply * KEY_HEADS + head) * own_room * SIZE

    there = row + (HEADS + head) * SIZE + half[None, :]
    first, second = tl.load(there), tl.load(there + HALF)
    first, second = _turned(first, second, key_norm, cos, sin, epsilon, HALF, NORMED)
    value = tl.load(row + (HEADS + KEY_HEADS + head) * SIZE + full)
    key_place = own_keys + own + at * SIZE + half[None, :]
    tl.store(key_place, first.to(made.dtype.element_ty))
    tl.store(key_place + HALF, second.to(made.dtype.element_ty))
    tl.store(own_values + own + at * SIZE + full, value)

    there = row + (head * GROUP + rows[:, None]) * SIZE + half[None, :]
    ours = rows[:, None] < GROUP
    one, two = tl.load(there, ours, 0.0), tl.load(there + HALF, ours, 0.0)
    one, two = _turned(one, two, query_norm, cos, sin, epsilon, HALF, NORMED)
    best = tl.sum(one * first + two * second, 1) * scale  # (ROWS,)
    total = tl.full((ROWS,), 1.0, tl.float32)
    found = tl.zeros((ROWS, SIZE), tl.float32) + value.to(tl.float32)[None, :]
    one, two = one.to(made.dtype.element_ty), two.to(made.dtype.element_ty)

    keys, values = prompt_keys + head * prompt_room * SIZE, prompt_values + head * prompt_room * SIZE
    for start in range(0, read, KEYS):
        best, total, found = _look(one, two, keys, values, start, read, scale, best, total, found, HALF, KEYS)
    for start in range(0, at, KEYS):
        best, total, found = _look(
            one, two, own_keys + own, own_values + own, start, at, scale, best, total, found, HALF, KEYS
        )
    places = out + reply * HEADS * SIZE + (head * GROUP + rows[:, None]) * SIZE + full[None, :]
    tl.store(places, (found / total[:, None]).to(made.dtype.element_ty), mask=ours)


@triton.jit
def _turned(one, two, weight, cos, sin, epsilon, HALF: tl.constexpr, NORMED: tl.constexpr):
    """The halves of each row (rows, HALF), normed and turned to their position, in fp32."""
    half = tl.arange(0, HALF)
    one, two = one.to(tl.float32), two.to(tl.float32)
    if NORMED:
        squares = tl.sum(one * one, 1) + tl.sum(two * two, 1)
        norm = tl.rsqrt(squares / (2 * HALF) + epsilon)[:, None]
        one = one * norm * tl.load(weight + half).to(tl.float32)[None, :]
        two = two * norm * tl.load(weight + HALF + half).to(tl.float32)[None, :]
    cos_one, cos_two = tl.load(cos + half).to(tl.float32), tl.load(cos + HALF + half).to(tl.float32)
    sin_one, sin_two = tl.load(sin + half).to(tl.float32), tl.load(sin + HALF + half).to(tl.float32)
    return one * cos_one - two * sin_one, two * cos_two + one * sin_two


@triton.jit
def _look(one, two, keys, values, start, end, scale, best, total, found, HALF: tl.constexpr, KEYS: tl.constexpr):
    """KEYS keys more into a softmax that is under way."""
    half, full, places = tl.arange(0, HALF), tl.arange(0, 2 * HALF), start + tl.arange(0, KEYS)
    known = places < end
    there = keys + places[:, None] * (2 * HALF) + half[None, :]
    first, second = tl.load(there, known[:, None], 0.0), tl.load(there + HALF, known[:, None], 0.0)
    scores = (tl.dot(one, tl.trans(first)) + tl.dot(two, tl.trans(second))) * scale  # (ROWS, KEYS)
    scores = tl.where(known[None, :], scores, -float("inf"))
    higher = tl.maximum(best, tl.max(scores, 1))
    weights, fade = tl.exp(scores - higher[:, None]), tl.exp(best - higher)
    value = tl.load(values + places[:, None] * (2 * HALF) + full[None, :], known[:, None], 0.0)
    found = found * fade[:, None] + tl.dot(weights.to(value.dtype), value)
    return higher, total * fade + tl.sum(weights, 1), found
