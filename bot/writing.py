"""Files written for the owner; where the disk does not take one, he is told so in a line."""

from pathlib import Path

from storage import durable
from storage.errors import StorageError


def write_private(path: Path, content: bytes) -> None:
    """Write, whole or not at all. StorageError where the disk does not take it."""
    try:
        durable.write_private(path, content)
    except OSError as error:
        raise StorageError(f"{path} can't be written ({error.strerror}): make room, then do it again.") from error
