"""What a captured step computes, without a card: rows padded and cut into segments, the largest one made up first.

Capture alone is played here: a graph's replay does the work again. On a card: test_gpu.py.
"""

from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.model_fixtures import tiny_base
from tests.training.engine.test_exactness import conversations, flat, relative, tiny_qwen3
from training.dataset.render import encode_example
from training.engine import attention, dora, recipe
from training.engine.model import Base
from training.engine.packing import shared_beginning
from training.engine.step import Captured, Eager

RECIPE = recipe.load("fast", targets="all-linear", examples_per_step=16)
ROW = 256


class Stream:
    """A card's stream."""

    def wait_stream(self, _: object) -> None:
        """Nothing runs beside."""


class Graph:
    """A captured pass."""

    def __init__(self, work: Callable[[], torch.Tensor], loss: torch.Tensor) -> None:
        self._work, self._loss = work, loss

    def replay(self) -> None:
        self._loss.copy_(self._work())


def captured(self: Captured, prepared: Any) -> tuple[Graph, Any, torch.Tensor]:
    inputs, loss = prepared.moved(torch.clone), torch.zeros(())
    return Graph(lambda: self._pass(inputs), loss), inputs, loss


def by_segments(
    query: torch.Tensor,  # (tokens, heads, size)
    key: torch.Tensor,
    value: torch.Tensor,
    query_ends: torch.Tensor,
    key_ends: torch.Tensor,
    longest: int,
    _: int,
    scale: float | None = None,
    **options: Any,
) -> torch.Tensor:
    """torch's varlen attention, segment by segment: a segment's queries are the last of its keys."""
    parts = []
    for (a, b), (c, d) in zip(pairwise(query_ends.tolist()), pairwise(key_ends.tolist()), strict=True):
        assert b - a <= d - c <= longest
        seen = torch.ones(b - a, d - c, dtype=torch.bool).tril((d - c) - (b - a))
        one = (query[a:b], key[c:d], value[c:d])
        q, k, v = (states.transpose(0, 1)[None] for states in one)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=True)
        parts.append(attended[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(attention, "varlen_attn", by_segments)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: None)
    monkeypatch.setattr(Captured, "_capture", captured)


@pytest.fixture(params=["a tiny Llama", "a tiny Qwen3"])
def base(request: pytest.FixtureRequest, smollm2_tokenizer: Any) -> Base:
    return tiny_base(smollm2_tokenizer) if request.param == "a tiny Llama" else tiny_qwen3()


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "k_proj", "v_proj", "o_proj")])
@pytest.mark.usefixtures("no_card")
def test_padded_rows_in_segments_give_the_gradients_of_rows_as_they_are(base: Base, targets: Any) -> None:
    examples = [encode_example(base.tokenizer, e, 512) for e in conversations(40)]
    shared = shared_beginning(examples)
    assert shared > 5
    torch.manual_seed(1)
    voice, twin = (dora.voice(base.model, targets, 16, 32, 0.0).train() for _ in range(2))
    with torch.no_grad():
        for one, other in zip(dora.parameters(voice), dora.parameters(twin), strict=True):
            one.add_(torch.randn_like(one), alpha=0.02)
            other.copy_(one)
    for each in (voice, twin):
        dora.refresh(each)
    padded, plain = Captured(base, voice, RECIPE, ROW), Eager(base, twin, RECIPE)
    rows = [row for start in (0, 16, 32) for row in base.rows(examples[start : start + 16], ROW, shared)]
    assert len(rows) > 3
    replies = sum(len(row.targets) for row in rows)
    for row in rows:
        loss = float(padded.add(padded.prepare(row, replies)))
        assert loss == pytest.approx(float(plain.add((row, replies))), rel=1e-5)
    ours, theirs = ({str(i): p for i, p in enumerate(step.parameters)} for step in (padded, plain))
    assert relative(flat(ours), flat(theirs)) <= 1e-5
    largest, *others = padded._rows
    assert all(largest[0] >= tokens for tokens, _, _ in others)
