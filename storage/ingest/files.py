"""Which files of a path to read, and one clear line where there are none."""

import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from storage.errors import BadInput, NotAnExport
from storage.ingest.unpacking import Cut, text_of

HOW_TO_EXPORT = (
    "In Telegram Desktop: Settings → Advanced → Export Telegram data, tick your personal chats, "
    "choose the format «Machine-readable JSON»."
)
_PART = re.compile(r"result.*\.json(\.gz)?", re.IGNORECASE)
_PACKED = {
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a rar archive",
    b"\xfd7zX": "packed with xz",
    b"BZh": "packed with bzip2",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
}


def files_of(path: Path) -> list[Path]:
    """The file itself; of a folder its result.json (or its parts), or those of the exports in it."""
    try:
        if path.is_dir():
            return _files_in(path)
        if not path.exists():
            raise BadInput(f"{path} does not exist: name a result.json, or the folder it lies in.")
        if not path.is_file():
            raise BadInput(f"{path} is no file: name a result.json, or the folder it lies in.")
    except OSError as error:
        raise BadInput(f"{path} can't be read ({error.strerror}): check the path and its permissions.") from error
    return [path]


def _files_in(folder: Path) -> list[Path]:
    found = _parts(folder) or [part for inner in _natural(folder.iterdir()) if inner.is_dir() for part in _parts(inner)]
    if found:
        return found
    if any(folder.glob("messages*.html")) or (folder / "export_results.html").exists():
        raise NotAnExport(f"{folder} is an export as HTML; likeme reads the one as JSON. {HOW_TO_EXPORT}")
    raise NotAnExport(f"{folder} holds no result.json: name the folder that Telegram Desktop exported into.")


def _parts(folder: Path) -> list[Path]:
    return _natural(entry for entry in folder.iterdir() if _PART.fullmatch(entry.name) and entry.is_file())


def check_start(path: Path) -> None:
    """Tell from its first bytes what can't be an export. Raises NotAnExport, BadInput."""
    start, cut = _start_of(path)
    if cut and not start:
        raise NotAnExport(f"{path} can't be read at all: {cut}. {HOW_TO_EXPORT}")
    if not start:
        raise NotAnExport(f"{path} is empty: export again. {HOW_TO_EXPORT}")
    if start.startswith(b"<"):
        raise NotAnExport(f"{path} is HTML, not JSON. {HOW_TO_EXPORT}")
    for mark, what in _PACKED.items():
        if start.startswith(mark):
            raise NotAnExport(f"{path} is {what}: unpack it and name the folder with result.json in it.")
    if not start.startswith(b"{"):
        raise NotAnExport(f"{path} is no Telegram export in JSON. {HOW_TO_EXPORT}")


def _start_of(path: Path) -> tuple[bytes, str]:
    start = b""
    try:
        for chunk in islice(text_of(path), 16):
            start = (start + chunk).lstrip()
            if len(start) > 16:
                break
    except Cut as cut:
        return start, str(cut)
    except OSError as error:
        raise BadInput(f"{path} can't be read ({error.strerror}): check the path and its permissions.") from error
    return start, ""


def _natural(paths: Iterable[Path]) -> list[Path]:
    """result2.json before result10.json."""
    return sorted(paths, key=lambda path: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", path.name)])
