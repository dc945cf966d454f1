"""How well a voice foresees the owner's held-out replies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from training.dataset.render import Encoded
from training.engine.attention import reply_logits
from training.engine.model import Base
from training.engine.packing import shared_beginning


@dataclass(frozen=True, slots=True)
class Loss:
    """Mean negative log-likelihood of a reply token (nats), over `tokens` of them."""

    loss: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return math.exp(self.loss)


def held_out_loss(base: Base, adapter: str | None, examples: Sequence[Encoded], row_tokens: int) -> Loss:
    """The loss of `adapter` (None: the stock model) on `examples`; sums over all tokens, then divides."""
    with base.speaking(adapter) as model:
        return loss_of(base, model, examples, row_tokens)


@torch.inference_mode()
def loss_of(base: Base, model: Any, examples: Sequence[Encoded], row_tokens: int) -> Loss:
    """The loss of `model`, the base or a voice of it, in rows of at most `row_tokens`."""
    total, tokens = 0.0, 0
    for row in base.rows(examples, row_tokens, shared_beginning(examples)):
        logits = reply_logits(model, row, base.device)
        targets = torch.tensor(row.targets, device=base.device)
        total += F.cross_entropy(logits.float(), targets, reduction="sum").item()
        tokens += len(row.targets)
    return Loss(total / max(1, tokens), tokens)
