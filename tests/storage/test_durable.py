"""Files written in place of others: whole, their owner's alone, through a failure and through kill -9."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storage.durable import replacing, write_private

KILLED = """
import os, signal, sys
from pathlib import Path
from storage.durable import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"new" * 100_000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of somebody's who let everybody read it."""
    path = tmp_path / "numbers.json"
    path.write_bytes(b"old")
    path.chmod(0o644)
    return path


def test_a_file_is_replaced_and_is_its_owner_s_alone(path: Path) -> None:
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_halfway_leaves_the_old_one_and_nothing_else(path: Path) -> None:
    def fail() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_kill_9_leaves_the_old_one_and_the_next_writer_clears_up(path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]
