"""Several cards of one host (or processes of one CPU) under torchrun: each takes a share of every step's rows."""

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 speaks for all."""
    return dist.get_rank() if dist.is_initialized() else 0


def share(rows: Sequence[T]) -> Sequence[T]:
    """This process's part of a step's rows; maybe none."""
    return rows[rank() :: size()]


def sum_up(
    parameters: Sequence[torch.nn.Parameter], losses: Sequence[torch.Tensor], device: torch.device
) -> torch.Tensor:
    """Sum the gradients over all processes, in place; returns the summed loss."""
    loss = torch.stack(list(losses)).sum() if losses else torch.zeros((), device=device)
    if size() > 1:
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([loss.view(1).float(), *(p.grad.flatten() for p in parameters if p.grad is not None)])
        dist.all_reduce(flat)
        loss = flat[0]
        offset = 1
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad.copy_(flat[offset : offset + parameter.numel()].view_as(parameter))
            offset += parameter.numel()
    return loss
