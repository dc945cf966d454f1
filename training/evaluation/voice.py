"""How well a voice foresees the owner's held-out replies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from training.dataset.render import Encoded
from training.engine.attention import reply_logits
from training.engine.model import Base


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
    total, tokens = 0.0, 0
    with base.speaking(adapter) as model, torch.inference_mode():
        for row in base.rows(examples, row_tokens):
            logits = reply_logits(model, row, base.device)
            targets = torch.tensor(row.targets, device=base.device)
            total += F.cross_entropy(logits.float(), targets, reduction="sum").item()
            tokens += len(row.targets)
    return Loss(total / max(1, tokens), tokens)
