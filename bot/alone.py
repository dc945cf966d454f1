"""One process at a time: a lock file that a kill -9 frees by itself."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import LikemeError

BOT = "run.lock"  # in the home: held by `likeme run`


@contextmanager
def alone(path: Path, refusal: LikemeError) -> Iterator[None]:
    """Hold the lock for the block; `refusal` where another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise refusal from None
        yield
    finally:
        os.close(descriptor)
