"""`likeme restore`: a backup becomes the home; what was there is set aside, in the home itself, and can come back.

Everything is unpacked and checked before anything moves. The moves are noted first: a kill -9 among them is made good
by whatever command comes next. Base models and the sign-in stay where they are; chats that were forgotten since the
backup stay forgotten.
"""

import hashlib
import json
import os
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bot.alone import BOT, alone
from bot.backup import CHUNK, DATABASE, MANIFEST
from bot.writing import write_private
from storage import copying
from storage.copying import Copied
from storage.errors import BadInput, StorageError

ASIDE, INCOMING, MOVES = "before-restore-", ".restoring", ".moves.json"
SIGN_IN = ("account.session", "account.session-journal")
STAYS = ("models", "account.lock", BOT, "likeme.log", "serve.log", INCOMING, MOVES, *SIGN_IN)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a home holds now. `aside`: where its former content lies; `forget`: chats that it must not have again."""

    messages: int
    made: str
    aside: Path | None
    forget: tuple[int, ...]


def restore(home: Path, file: Path, now: datetime, force: bool) -> Restored:
    """Make `file` the home. BadInput where that would overwrite one, without `force`."""
    with _alone(home):
        is_used = (home / DATABASE).exists()
        if is_used and not force:
            raise BadInput(f"{home} is in use: --force sets its content aside (likeme restore --undo brings it back), "
                           "or choose another --home.")  # fmt: skip
        incoming = home / INCOMING
        try:
            manifest = _unpacked(file, incoming)
            found = copying.look(incoming / DATABASE)
            before = _looked_at(home / DATABASE) if is_used else None
            aside = _swap(home, incoming, now, keep_sign_in=before is None or before.account == found.account)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
    forget = sorted(before.forgotten - found.forgotten) if before else []
    return Restored(found.messages, manifest["made"], aside, tuple(forget))


def _looked_at(path: Path) -> Copied | None:
    """The former history, unless it is damaged: that may be why a backup is wanted."""
    try:
        return copying.look(path)
    except StorageError:
        return None


def undo(home: Path, now: datetime) -> Restored:
    """What the last restore set aside is the home again; what is there now is set aside in its turn."""
    with _alone(home):
        former = max(home.glob(f"{ASIDE}*"), default=None)
        if former is None:
            raise BadInput(f"Nothing was set aside in {home}: there is nothing to undo.")
        found: Copied = copying.look(former / DATABASE)
        aside = _swap(home, former, now, keep_sign_in=True)
    return Restored(found.messages, "", aside, ())


def finish(home: Path) -> None:
    """Do what is left of the moves that a killed restore had begun."""
    try:
        moves = json.loads((home / MOVES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    aside, incoming = home / moves["aside"], home / moves["incoming"]
    aside.mkdir(mode=0o700, exist_ok=True)
    for name in moves["out"]:  # while one of these is to be moved, nothing has come in yet
        if not (aside / name).exists() and (home / name).exists():
            os.rename(home / name, aside / name)
    for name in moves["in"]:
        if (incoming / name).exists():
            os.rename(incoming / name, home / name)
    if incoming.is_dir() and not any(incoming.iterdir()):
        incoming.rmdir()
    if not any(aside.iterdir()):
        aside.rmdir()
    (home / MOVES).unlink()


def remove_aside(home: Path) -> None:
    """Former contents go for good: they hold what the owner wants forgotten."""
    for folder in home.glob(f"{ASIDE}*"):
        shutil.rmtree(folder)


def _swap(home: Path, incoming: Path, now: datetime, *, keep_sign_in: bool) -> Path | None:
    """Set the home's content aside and put `incoming`'s in its place; where the former lies, if there was any."""
    aside = home / f"{ASIDE}{now:%Y%m%d-%H%M%S-%f}"
    stays = set(STAYS) - (set() if keep_sign_in else set(SIGN_IN))
    out = [path.name for path in home.iterdir() if path.name not in stays and not path.name.startswith(ASIDE)]
    into = sorted((path.name for path in incoming.iterdir()), key=lambda name: name == DATABASE)
    moves = {"aside": aside.name, "incoming": incoming.name, "out": out, "in": into}
    write_private(home / MOVES, json.dumps(moves).encode())
    finish(home)
    return aside if aside.exists() else None


def _unpacked(file: Path, into: Path) -> dict[str, Any]:
    """The backup's manifest, its files beside it, each as it was packed. BadInput where one is not."""
    if not file.is_file():
        raise BadInput(f"There is no file {file}.")
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(mode=0o700)
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                if not member.isreg():
                    raise BadInput(f"{file} is no backup of likeme: it holds a link or a device ({member.name}).")
                archive.extract(member, into, filter="data")
        manifest: dict[str, Any] = json.loads((into / MANIFEST).read_bytes())
        _check(file, into, manifest["files"])
    except (tarfile.TarError, zlib.error, EOFError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{file} is no backup of likeme, or is cut off ({type(error).__name__}).") from error
    except OSError as error:
        if error.filename is not None and Path(error.filename).name == MANIFEST:
            raise BadInput(f"{file} is no backup of likeme: it has no {MANIFEST}.") from error
        raise BadInput(f"{file} can't be unpacked into {into.parent} ({error.strerror or error}).") from error
    (into / MANIFEST).unlink()
    return manifest


def _check(file: Path, into: Path, files: dict[str, dict[str, Any]]) -> None:
    there = {str(path.relative_to(into)) for path in into.rglob("*") if path.is_file()} - {MANIFEST}
    damaged = [name for name, noted in files.items() if name not in there or _sha256(into / name) != noted["sha256"]]
    if damaged or there - set(files):
        which = (*damaged, *(there - set(files)))[0]
        raise BadInput(f"{file} is damaged: {which} is not what was packed. Nothing was changed; use another backup.")
    for path in into.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)


def _alone(home: Path) -> Any:
    """With neither a bot nor a model server at work in the home; moves of a killed restore are done first."""
    finish(home)
    _refuse_model_server(home)
    return alone(home / BOT, BadInput(f"likeme run works in {home}: stop it first."))


def _refuse_model_server(home: Path) -> None:
    try:
        pid = int(json.loads((home / "serve.json").read_text(encoding="utf-8"))["pid"])
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError):
        return
    raise BadInput(f"A model server works in {home} (process {pid}): stop it first.")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
