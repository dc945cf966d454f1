"""Several cards of one host (or processes of one CPU) under torchrun: each takes a share of every step's examples.

Process 0 is the server: it has the job, speaks for the run and decides. The others follow it (`follow`):
what process 0 knows, `agree` tells them.
"""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from training.dataset.render import Encoded

T = TypeVar("T")
PATIENCE = timedelta(days=365)  # from one job to the next: a group that gives up waiting would end the server


def started() -> bool:
    """Whether torchrun has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join() -> None:
    """Join the processes that torchrun has started with this one."""
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)


def device() -> str:
    """This process's own card, or the CPU."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 speaks for all."""
    return dist.get_rank() if dist.is_initialized() else 0


def agree(value: T) -> T:
    """Process 0's value, in every process. It waits for all of them."""
    if size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def follow(train: Callable[..., Any]) -> None:
    """Call `train` with the arguments of every run that process 0 begins, until it leaves (`dismiss`)."""
    while (arguments := agree(None)) is not None:
        train(*arguments)


def dismiss() -> None:
    """Let the followers go."""
    agree(None)
    if dist.is_initialized():
        dist.destroy_process_group()


def share(examples: Sequence[Encoded]) -> Sequence[Encoded]:
    """This process's part of a step's examples, about as much work as the others'; maybe none."""
    if size() == 1:
        return examples
    return sorted(examples, key=lambda example: -len(example.ids))[rank() :: size()]


def sum_up(
    parameters: Sequence[torch.nn.Parameter], losses: Sequence[torch.Tensor], device: torch.device
) -> torch.Tensor:
    """Sum the gradients over all processes, in place; returns the summed loss."""
    loss = torch.stack(list(losses)).sum() if losses else torch.zeros((), device=device)
    if size() == 1:
        return loss
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([loss.view(1).float(), *(gradient.flatten() for gradient in gradients)])
    dist.all_reduce(flat)
    summed = flat[1:].split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(summed, gradients, strict=True)])
    return flat[0]
