"""How well a voice foresees the owner's held-out replies."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from training.dataset.render import Encoded
from training.engine.attention import reply_logits
from training.engine.model import Base
from training.engine.packing import Row, shared_beginning

Reply = tuple[float, int]  # summed negative log-likelihood of a reply's tokens (nats), and their number


@dataclass(frozen=True, slots=True)
class Loss:
    """Mean negative log-likelihood of a reply token (nats), over `tokens` of them."""

    loss: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return math.exp(self.loss)


def loss_of(base: Base, model: Any, examples: Sequence[Encoded], row_tokens: int) -> Loss:
    """The loss of `model`, the base or a voice of it; sums over all tokens, then divides."""
    return total(losses_of(base, model, examples, row_tokens))


@torch.inference_mode()
def losses_of(base: Base, model: Any, examples: Sequence[Encoded], row_tokens: int) -> list[Reply]:
    """Each example's loss, in rows of at most `row_tokens`."""
    found: list[Reply] = [(0.0, 0)] * len(examples)
    for row in base.rows(examples, row_tokens, shared_beginning(examples)):
        logits = reply_logits(model, row, base.device)
        targets = torch.tensor(row.targets, device=base.device)
        each = F.cross_entropy(logits.float(), targets, reduction="none").tolist()
        for index, reply in zip(row.which, _by_example(row, each), strict=True):
            found[index] = reply
    return found


def total(replies: Sequence[Reply]) -> Loss:
    """All replies together."""
    tokens = sum(number for _, number in replies)
    return Loss(sum(nats for nats, _ in replies) / max(1, tokens), tokens)


def _by_example(row: Row, losses: Sequence[float]) -> list[Reply]:
    sums, tokens = [0.0] * len(row.ends), [0] * len(row.ends)
    for place, nats in zip(row.keep, losses, strict=True):
        example = bisect_right(row.ends, place + 1)  # the token that is foreseen stands one further
        sums[example] += nats
        tokens[example] += 1
    return list(zip(sums, tokens, strict=True))
