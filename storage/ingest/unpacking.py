"""A file as a real disk holds it -> its text as UTF-8 bytes, chunk by chunk.

Exports come plain or gzipped, with a byte-order mark, in UTF-16 or UTF-32. What a packed file holds
before it breaks is given out before `Cut` tells of the break.
"""

import codecs
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 16
_GZIP = b"\x1f\x8b"
# A byte-order mark, or where the NULs stand in the first two characters, which are ASCII in JSON.
_MARKS = (
    (codecs.BOM_UTF8, ""),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NULS: dict[tuple[bool, ...], str] = {
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}


class Cut(Exception):
    """The file ended, or could not be read on, before its text did. The message says why."""


def text_of(path: Path, on_read: Callable[[int], None] = lambda position: None) -> Iterator[bytes]:
    """The text of `path` in UTF-8. `on_read` hears the position in the file itself. Raises Cut at a break."""
    with path.open("rb") as file:
        yield from _decoded(_unpacked(file, on_read))


def _raw(file: BinaryIO, on_read: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    while True:
        try:
            chunk = file.read(CHUNK)
        except OSError as error:
            raise Cut(f"it can't be read any further ({error.strerror})") from error
        if not chunk:
            return
        done += len(chunk)
        on_read(done)
        yield chunk


def _unpacked(file: BinaryIO, on_read: Callable[[int], None]) -> Iterator[bytes]:
    chunks = _raw(file, on_read)
    first = next(chunks, b"")
    if not first.startswith(_GZIP):
        yield first
        yield from chunks
        return
    yield from _gunzipped(first, chunks)


def _gunzipped(packed: bytes, more: Iterator[bytes]) -> Iterator[bytes]:
    """Members one after another, as gzip allows; never more than a chunk of text at a time."""
    member = zlib.decompressobj(wbits=31)
    while True:
        before = member.copy()
        try:
            text = member.decompress(packed, CHUNK)
        except zlib.error as error:
            yield from _up_to_the_damage(before, packed)
            raise Cut("its gzip data is damaged") from error
        yield text
        packed = member.unconsumed_tail
        if member.eof:
            packed = (member.unused_data or next(more, b"")).lstrip(b"\0")
            if not packed.startswith(_GZIP):
                return
            member = zlib.decompressobj(wbits=31)
        elif not packed and len(text) < CHUNK and not (packed := next(more, b"")):
            raise Cut("its gzip data is cut short")


def _up_to_the_damage(member: "zlib._Decompress", packed: bytes) -> Iterator[bytes]:
    text = b""
    try:
        for place in range(len(packed)):
            text += member.decompress(packed[place : place + 1])
            if len(text) >= CHUNK:
                yield text
                text = b""
    except zlib.error:
        pass
    yield text


def _decoded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    chunks = iter(chunks)
    first = b""
    while len(first) < 4 and (chunk := next(chunks, b"")):
        first += chunk
    encoding, mark = _encoding(first)
    if not encoding:
        yield first[mark:]
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    yield decoder.decode(first[mark:]).encode("utf-8", "replace")
    for chunk in chunks:
        yield decoder.decode(chunk).encode("utf-8", "replace")
    yield decoder.decode(b"", final=True).encode("utf-8", "replace")


def _encoding(first: bytes) -> tuple[str, int]:
    """(codec, or "" for UTF-8; length of the mark)"""
    for mark, encoding in _MARKS:
        if first.startswith(mark):
            return encoding, len(mark)
    return _NULS.get(tuple(byte == 0 for byte in first[:4]), ""), 0
