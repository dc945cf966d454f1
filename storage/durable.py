"""Files that are there whole or not at all, whatever is killed or full; readable by the owner alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes `path`'s place when the block ends. One writer of a path at a time.

    Where the block raises or the disk does not take it (OSError), `path` is as it was and nothing else is left. A
    kill -9 leaves .NAME.part beside it, which the next writer takes over.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    flush(path.parent)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file by `content`. OSError where the disk does not take it."""
    with replacing(path) as file:
        file.write(content)


def scraps(folder: Path) -> list[Path]:
    """What killed writers have left in a folder and below it."""
    return list(folder.rglob(".*.part"))


def flush(path: Path) -> None:
    """Have the disk keep a file's content, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
