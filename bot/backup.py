"""`likeme backup`: the home in one file, while the bot runs.

In it: the history (SQLite's online backup), the voices, what was measured, the training sets and the jobs' records.
Not in it: account.session, which is full access to the owner's account and is made anew by `likeme login`; base
models, which can be fetched again; logs, locks, and half-trained voices. Its last member, manifest.json, names every
file with its checksum: what has no manifest is no backup.
"""

import hashlib
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

from storage import copying
from storage.durable import replacing
from storage.errors import BadInput, StorageError

MANIFEST, DATABASE = "manifest.json", "history.db"
FOLDERS = ("adapters", "evaluations", "datasets", "files", "runs")
NOT_OF_RUNS = ("checkpoint.pt", "adapter")  # a published voice lies in adapters/, a half-trained one begins anew
CHUNK = 1 << 20

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was written."""

    path: Path
    files: int
    bytes: int
    messages: int


def back_up(home: Path, out: Path, now: datetime, on_progress: Progress) -> Made:
    """Write the home into `out`, whole or not at all, readable by the owner alone."""
    if not (home / DATABASE).is_file():
        raise BadInput(f"There is nothing in {home} to back up: choose --home.")
    if out.exists():
        raise BadInput(f"{out} is there already: name another file, backups are not overwritten.")
    if not out.parent.is_dir():
        raise BadInput(f"There is no folder {out.parent}: make it, or name another file.")
    try:
        # Beside the backup: there is room for it, or there is none for the backup either.
        with (
            replacing(out) as file,
            tempfile.TemporaryDirectory(dir=out.parent, prefix=".likeme-backup-") as scratch,
        ):
            messages, files = _write(home, Path(scratch) / DATABASE, file, now, _Share(on_progress, _size(home)))
    except OSError as error:
        raise StorageError(f"The backup could not be written ({error.strerror}): {out.parent} needs more room, "
                           "or is not yours to write. Nothing of it was left there.") from error  # fmt: skip
    return Made(out, files, out.stat().st_size, messages)


def default_name(now: datetime) -> str:
    """likeme-2026-11-24-2030.tar.gz"""
    return f"likeme-{now:%Y-%m-%d-%H%M}.tar.gz"


def _write(home: Path, snapshot: Path, file: BinaryIO, now: datetime, share: "_Share") -> tuple[int, int]:
    """How many messages were packed, and how many files."""
    size = (home / DATABASE).stat().st_size
    copying.copy(home / DATABASE, snapshot, lambda done: share.at(int(done * size)))
    share.add(size)
    found = copying.look(snapshot)
    files: dict[str, Any] = {}
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for path, name in ((snapshot, DATABASE), *_members(home)):
            noted = _add(archive, path, name, share)
            if noted is not None:
                files[name] = noted
        manifest = {"likeme": version("likeme"), "schema": found.schema, "made": now.isoformat(), "files": files}
        _add_bytes(archive, json.dumps(manifest, indent=1).encode(), MANIFEST)
    return found.messages, len(files)


def _members(home: Path) -> Iterator[tuple[Path, str]]:
    """The files of the home that belong into a backup, with their names in it."""
    for folder in FOLDERS:
        for path in sorted((home / folder).rglob("*")):
            parts = path.relative_to(home).parts
            hidden = any(part.startswith(".") for part in parts)
            if path.is_file() and not path.is_symlink() and not hidden and not set(parts) & set(NOT_OF_RUNS):
                yield path, "/".join(parts)


def _add(archive: tarfile.TarFile, path: Path, name: str, share: "_Share") -> dict[str, Any] | None:
    """One file as it is now; None where it has gone meanwhile (a version that was thinned out, a set forgotten)."""
    try:
        content = path.open("rb")
    except FileNotFoundError:
        return None
    with content:
        info = archive.gettarinfo(fileobj=content, arcname=name)
        info.mode, info.uid, info.gid, info.uname, info.gname = 0o600, 0, 0, "", ""
        reader = _Reader(content, info.size, share)
        archive.addfile(info, reader)  # type: ignore[arg-type]
    return {"bytes": info.size, "sha256": reader.digest.hexdigest()}


def _add_bytes(archive: tarfile.TarFile, content: bytes, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), 0o600, int(time.time())
    archive.addfile(info, io.BytesIO(content))


class _Reader:
    """A file of a known length that is summed up as it is read; one that grows (a log of events) is cut there."""

    def __init__(self, content: Any, size: int, share: "_Share") -> None:
        self._content, self._left, self._share = content, size, share
        self.digest = hashlib.sha256()

    def read(self, wanted: int) -> bytes:
        chunk: bytes = self._content.read(min(wanted, self._left))
        self._left -= len(chunk)
        self.digest.update(chunk)
        self._share.add(len(chunk))
        return chunk


class _Share:
    """How much is done, of all the bytes that are copied and packed."""

    def __init__(self, tell: Progress, size: int) -> None:
        self._tell, self._size, self._done = tell, size, 0

    def at(self, further: int) -> None:
        done = self._done + further
        self._tell(done, max(done, self._size))  # what is written meanwhile makes it more than was seen at first

    def add(self, further: int) -> None:
        self._done += further
        self.at(0)


def _size(home: Path) -> int:
    """The database is gone over twice: copied, then packed."""
    return 2 * (home / DATABASE).stat().st_size + sum(path.stat().st_size for path, _ in _members(home))
