"""What runs out for a while: the card's memory, because somebody plays a game, or the disk. Work waits, and says so."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from storage.errors import OutOfMemory

PAUSES_SECONDS = (60, 120, 240, 480, *[900] * 20)  # between one try and the next: five hours in all
FULL_BYTES = 1 << 20  # what a full disk has free at most
GPU = "The GPU's memory is full: close what else uses it (a game?)."
DISK = "The disk is full: make room."


def shortage(error: BaseException, home: Path) -> str | None:
    """What is short, with what to do; None when the error is something else."""
    if isinstance(error, OutOfMemory | torch.OutOfMemoryError):
        return GPU
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return DISK
    # torch and safetensors tell of a failed write in words of their own.
    written = isinstance(error, OSError | RuntimeError) or "safetensors" in type(error).__module__.lower()
    return DISK if written and home.exists() and shutil.disk_usage(home).free < FULL_BYTES else None


def relieve() -> None:
    """Give the card's unused memory back."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
