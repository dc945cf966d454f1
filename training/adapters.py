"""Voice versions on disk: adapters/0001/, 0002/, … in PEFT's format.

A version is published by one rename, its manifest.json written last: what has no manifest is no
version, and kill -9 at any moment leaves either the whole version or none.
"""

import contextlib
import errno
import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.durable import flush
from storage.errors import Damaged

MANIFEST = "manifest.json"
PREFIX = "likeme-"


@dataclass(frozen=True, slots=True)
class Version:
    """One published voice."""

    number: int
    path: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """As requests name it: likeme-0001."""
        return f"{PREFIX}{self.number:04d}"


def publish(adapters: Path, files: Path, manifest: dict[str, Any]) -> Version:
    """Copy the adapter in `files` into the next free version number."""
    adapters.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = Path(tempfile.mkdtemp(dir=adapters, prefix=".publishing-"))
    try:
        checksums = {}
        for source in sorted(files.iterdir()):
            if source.is_file() and source.name != "README.md":
                shutil.copyfile(source, scratch / source.name)
                flush(scratch / source.name)
                checksums[source.name] = _sha256(scratch / source.name)
        (scratch / MANIFEST).write_text(json.dumps({**manifest, "files": checksums}, indent=2), encoding="utf-8")
        flush(scratch / MANIFEST)
        while True:
            number = max((int(p.name) for p in adapters.iterdir() if p.name.isdigit()), default=0) + 1
            target = adapters / f"{number:04d}"
            try:
                scratch.rename(target)
            except OSError as error:
                # Renaming onto a folder that holds files fails: two writers never take one number.
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                continue
            flush(adapters)
            return Version(number, target, json.loads((target / MANIFEST).read_text(encoding="utf-8")))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def sweep(adapters: Path) -> None:
    """Remove what a killed server left half-done; before anything is published."""
    for scratch in (*adapters.glob(".publishing-*"), *adapters.glob(".audit-*")):
        shutil.rmtree(scratch, ignore_errors=True)


def versions(adapters: Path) -> list[Version]:
    """Every published version, oldest first."""
    found = []
    for path in sorted(adapters.glob("[0-9]*")):
        with contextlib.suppress(OSError, ValueError):
            found.append(Version(int(path.name), path, json.loads((path / MANIFEST).read_text(encoding="utf-8"))))
    return found


def find(adapters: Path, name: str) -> Version | None:
    """The version that requests call `name`, or None."""
    return next((version for version in versions(adapters) if version.name == name), None)


def of_job(adapters: Path, job_id: str) -> Version | None:
    """The version that a training job has published, or None."""
    return next((version for version in versions(adapters) if version.manifest.get("job") == job_id), None)


def training_files(version: Version) -> list[str]:
    """The ids of all files that it learned from, those of the voices it went on from included."""
    return [*version.manifest.get("earlier_files", []), version.manifest["training_file"]]


def verify(version: Version) -> None:
    """Raise Damaged when a file of the version is not what was published."""
    for name, checksum in version.manifest["files"].items():
        path = version.path / name
        if not path.is_file() or _sha256(path) != checksum:
            raise Damaged(f"Voice {version.name} is damaged ({path} has changed): roll back to another version.")


def size(version: Version) -> int:
    """Bytes on disk."""
    return sum(path.stat().st_size for path in version.path.iterdir() if path.is_file())


def remove(version: Version) -> None:
    """Remove its files. The manifest goes first: what is left of a killed removal is no version.

    The empty folder stays, so that its number is not given to another.
    """
    (version.path / MANIFEST).unlink()
    for path in version.path.iterdir():
        path.unlink()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
