"""Files that are there whole or not at all."""

import os
from pathlib import Path

from storage.errors import StorageError


def write_private(path: Path, content: bytes) -> None:
    """Write, readable by the owner alone. StorageError where the disk does not take it; nothing is left then."""
    part = path.with_name(f".{path.name}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(f"{path} can't be written ({error.strerror}): make room, then do it again.") from error
