"""A file as a real disk holds it -> UTF-8 bytes that a JSON parser takes.

Telegram Desktop writes control characters as \\x0B, which is not JSON. Files also come gzipped, with
a byte-order mark, in UTF-16, with lone surrogates, or cut short in the middle.
"""

import codecs
import gzip
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

CHUNK = 1 << 16
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2})|"
                     rb"(u[dD][89a-fA-F][0-9A-Fa-f]{2})|(.))", re.DOTALL)  # fmt: skip
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_LONGEST_ESCAPE = 12  # \ud83d\ude00


class JsonStream:
    """A readable file of clean JSON bytes. `damage` tells what ended the file early, or is ""."""

    def __init__(self, path: Path, on_progress: Callable[[int, int], None] | None = None) -> None:
        self._raw: IO[bytes] = path.open("rb")
        self._total = path.stat().st_size
        self._on_progress = on_progress
        start = self._raw.read(2)
        self._raw.seek(0)
        self._source: IO[bytes] = gzip.open(self._raw) if start == b"\x1f\x8b" else self._raw  # type: ignore[assignment]
        self._decoder: codecs.IncrementalDecoder | None = None
        self._first = True
        self._tail = b""
        self._ready = b""
        self._over = False
        self.damage = ""

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        if size == 0:
            return b""
        while not self._ready and not self._over:
            self._fill()
        wanted = len(self._ready) if size < 0 else size
        given, self._ready = self._ready[:wanted], self._ready[wanted:]
        return given

    def close(self) -> None:
        """Close the file."""
        self._source.close()
        self._raw.close()

    def _fill(self) -> None:
        try:
            chunk = self._source.read(CHUNK)
        except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
            self.damage = f"the compressed file is damaged ({error})"
            chunk = b""
        if self._on_progress is not None:
            self._on_progress(self._raw.tell(), self._total)
        if self._first:
            chunk = self._begin(chunk)
        if not chunk:
            self._over = True
        text = self._tail + self._utf8(chunk)
        cut = len(text) if self._over else self._safe_cut(text)
        self._tail = text[cut:]
        self._ready = _clean(text[:cut])

    def _begin(self, chunk: bytes) -> bytes:
        self._first = False
        for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
            if chunk.startswith(mark):
                self._decoder = codecs.getincrementaldecoder(encoding)("replace")
                return chunk[2:]
        if chunk[:2] in (b"{\0", b"\0{"):
            encoding = "utf-16-le" if chunk[:2] == b"{\0" else "utf-16-be"
            self._decoder = codecs.getincrementaldecoder(encoding)("replace")
            return chunk
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return chunk.removeprefix(codecs.BOM_UTF8)

    def _utf8(self, chunk: bytes) -> bytes:
        assert self._decoder is not None
        return self._decoder.decode(chunk, final=self._over).encode("utf-8", "replace")

    @staticmethod
    def _safe_cut(text: bytes) -> int:
        """Not inside an escape: before the run of backslashes (or the escape) near the end."""
        cut = text.find(b"\\", max(0, len(text) - _LONGEST_ESCAPE))
        if cut < 0:
            return len(text)
        while cut > 0 and text[cut - 1 : cut] == b"\\":
            cut -= 1
        return cut


def _clean(text: bytes) -> bytes:
    if _CONTROLS.search(text):
        text = _CONTROLS.sub(b" ", text)
    if b"\\x" in text or b"\\ud" in text or b"\\uD" in text:
        text = _ESCAPE.sub(_escape, text)
    return text


def _escape(match: re.Match[bytes]) -> bytes:
    code, pair, lone, other = match.groups()
    if code:
        return b"\\u00" + code
    if pair:
        return b"\\" + pair
    return b"\\ufffd" if lone else b"\\" + other
