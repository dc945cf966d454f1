"""A disk of a few megabytes, to be filled."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """A tmpfs. `fill` takes what is left of it, `free` gives that back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, but: int = 0) -> None:
        """Leave `but` bytes."""
        with self._filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 4096)
            except OSError:
                pass
            if but:
                file.truncate(max(0, file.tell() - but))

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink()


def _mount(path: Path, megabytes: int) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    return os.getuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """16 MB of memory as a disk; skipped where nobody may mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    if not _mount(path, 16):
        pytest.skip("a small disk takes a tmpfs, and that takes root: nothing was filled")
    yield SmallDisk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=False)
