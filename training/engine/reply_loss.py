"""The loss of reply tokens, its gradient made on the way there: full logits exist for a few tokens at a time.

The output layer is frozen, so the gradient that the states need is known as soon as the logits are; keeping
it (reply tokens x hidden) instead of the logits saves gigabytes with a vocabulary of 150,000.
"""

from functools import cache
from typing import Any

import torch

from training.dataset.render import IGNORED
from training.engine.plan import LOGIT_CHUNK


class _SumOfLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        gradient = torch.empty_like(states)
        total = torch.zeros((), device=states.device, dtype=torch.float32)
        for start in range(0, len(targets), LOGIT_CHUNK):
            chunk = slice(start, start + LOGIT_CHUNK)
            logits = states[chunk].to(weight.dtype) @ weight.T
            loss, slope = (_fused if logits.is_cuda else _in_place)(logits, targets[chunk])
            total = total + loss
            gradient[chunk] = slope @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream).to(gradient.dtype), None, None


def _loss_and_slope(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed loss of a chunk, and d loss / d logits in the logits' type, to be compiled."""
    counted = targets != IGNORED
    place = targets.clamp_min(0)[:, None]
    wide = logits.float()
    normaliser = torch.logsumexp(wide, -1, keepdim=True)
    loss = ((normaliser - wide.gather(1, place))[:, 0] * counted).sum()
    columns = torch.arange(wide.shape[1], device=wide.device)
    slope = torch.exp(wide - normaliser) - (columns == place).float()
    return loss, (slope * counted[:, None]).to(logits.dtype)


def _in_place(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for a CPU: few passes over memory."""
    counted = targets != IGNORED
    place = targets.clamp_min(0)[:, None]
    wide = logits.float()
    loss = ((torch.logsumexp(wide, -1) - wide.gather(1, place)[:, 0]) * counted).sum()
    slope = torch.softmax(wide, -1)
    slope.scatter_add_(1, place, slope.new_full(place.shape, -1.0))
    slope[~counted] = 0
    return loss, slope.to(logits.dtype)


def _fused(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One pass over the logits instead of ten; for any number of tokens, as a capture can't wait for a compiler."""
    torch._dynamo.mark_dynamic(logits, 0)
    torch._dynamo.mark_dynamic(targets, 0)
    found: tuple[torch.Tensor, torch.Tensor] = _compiled()(logits, targets)
    return found


@cache
def _compiled() -> Any:
    return torch.compile(_loss_and_slope)


def sum_of_losses(states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Summed cross-entropy of `states` (reply tokens, hidden) through a frozen output layer (vocabulary, hidden)."""
    total: torch.Tensor = _SumOfLosses.apply(states, weight, targets)  # type: ignore[no-untyped-call]
    return total
