r"""Nearly JSON -> JSON that a strict parser takes.

Telegram Desktop writes control characters as \x0B, which is no JSON escape, and other programs leave half of
a surrogate pair: `light` mends these two, at the speed of a search. `Thorough` knows where strings begin and
end, which costs more and is called in only where the parser stumbled: it also mends raw control characters
and bytes that are no UTF-8 inside strings, escapes that do not exist, and NaN, numbers too large, and trailing
commas between them.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator

LONGEST_VALUE = 4 << 20  # bytes; no message of Telegram's comes near
_REPLACEMENT = b"\\ufffd"
# An escaped backslash is matched as well, so that what follows it is not taken for an escape of its own.
_ODD_ESCAPE = re.compile(
    rb"\\(?:\\|x[0-9A-Fa-f]{2}|u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}|u[dD][89a-fA-F][0-9A-Fa-f]{2})"
)
_MAYBE_ODD = re.compile(rb"\\(?:x|u[dD])")
_LONGEST_ESCAPE = 12  # \ud83d\ude00

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TOKEN = re.compile(_STRING + rb'|[^"]+', re.DOTALL)
_TOKENS = re.compile(rb'(?:[^"]++|' + _STRING + rb")*+", re.DOTALL)
_SOUND_STRING = re.compile(
    rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
)
_ANY_ESCAPE = re.compile(_ODD_ESCAPE.pattern + rb"|\\[^\"\\/bfnrtu]|\\u(?![0-9A-Fa-f]{4})|[\x00-\x1f]", re.DOTALL)
_ODD_OUTSIDE = re.compile(rb"[^\s\[\]{}:,0-9.+\-eEtrufalsn]|[\x0b\x0c]|nan|\d{19}|[eE][+-]?\d{3}|,\s*[\]}]")
_MEND_OUTSIDE = re.compile(
    rb"(?P<control>[\x00-\x08\x0b\x0c\x0e-\x1f])|(?P<comma>,(?=\s*[\]}]))|(?P<nothing>[+-]?(?:nan|inf(?:inity)?)\b)"
    rb"|(?P<number>(?<![\d.])-?\d{19,}(?:\.\d*)?(?:[eE][+-]?\d+)?|(?<![\d.])-?\d+(?:\.\d+)?[eE][+-]?\d{3,})",
    re.IGNORECASE,
)
_MAY_GO_ON = bytes(byte for byte in range(128) if chr(byte).isalnum() or chr(byte).isspace()) + b",.+-"

Piece = tuple[int, bytes]  # (place in the text, JSON)


class TooLong(Exception):
    """One value goes on for longer than any of an export's."""


def light(chunks: Iterable[bytes]) -> Iterator[Piece]:
    """Mend what can be found without knowing where strings begin and end."""
    place, held = 0, b""
    for chunk in chunks:
        text = held + chunk
        cut = _between_escapes(text)
        held = text[cut:]
        if len(held) > LONGEST_VALUE:
            raise TooLong
        if cut:
            yield place, _lightly(text[:cut])
            place += cut
    if held:
        yield place, _lightly(held)


def _between_escapes(text: bytes) -> int:
    """The end, unless an escape may go on behind it; after a quotation mark none does."""
    return text.rfind(b'"') + 1 if b"\\" in text[-_LONGEST_ESCAPE:] else len(text)


def _lightly(text: bytes) -> bytes:
    return _ODD_ESCAPE.sub(_escape, text) if b"\\" in text and _MAYBE_ODD.search(text) else text


def _escape(match: re.Match[bytes]) -> bytes:
    found = match[0]
    if found[1:2] == b"x":
        return b"\\u00" + found[2:]
    if len(found) == 2 or len(found) == _LONGEST_ESCAPE:  # an escaped backslash, a whole pair
        return found
    return _REPLACEMENT


class Thorough:
    """Mends everything it can. Near `look_at` it hands out the smallest pieces, so that the parser's
    stumbling tells the exact place. `depth` is the number of brackets open before the piece just handed
    out, `mended` what was done."""

    def __init__(self, look_at: int) -> None:
        self.depth = 0
        self.mended: Counter[str] = Counter()
        self._window = range(look_at - (1 << 16), look_at + (1 << 17))
        self._place = 0
        self._next_depth = 0

    @property
    def length(self) -> int:
        """How much of the text was handed out."""
        return self._place

    @property
    def open_at_end(self) -> int:
        """The number of brackets open after everything handed out."""
        return self._next_depth

    def looks_at(self, place: int) -> bool:
        """Whether the pieces are the smallest there."""
        return place in self._window

    def pieces(self, chunks: Iterable[bytes]) -> Iterator[Piece]:
        """Mend the chunks of a text."""
        held = b""
        for chunk in chunks:
            text = held + chunk
            end = _whole_tokens(text)
            yield from self._mended(text[:end])
            held = text[end:]
            if len(held) > LONGEST_VALUE:
                raise TooLong
        yield from self._mended(held)

    def _mended(self, text: bytes) -> Iterator[Piece]:
        if not text:
            return
        closely = self.looks_at(self._place) or self.looks_at(self._place + len(text))
        outside = _SOUND_STRING.sub(b"", text)
        if not closely and b'"' not in outside and not _ODD_OUTSIDE.search(outside) and _is_utf8(text):
            yield self._handed(text, outside, text)
            return
        for token in _tokens(text):
            inside = token.startswith(b'"')
            sound = self._string(token) if inside else self._outside(token)
            if closely and not inside and sound == token:
                for place in range(len(token)):
                    yield self._handed(token[place : place + 1], token[place : place + 1], token[place : place + 1])
            else:
                yield self._handed(token, b"" if inside else sound, sound)

    def _handed(self, source: bytes, outside: bytes, sound: bytes) -> Piece:
        place = self._place
        self.depth = self._next_depth
        self._next_depth += outside.count(b"{") + outside.count(b"[") - outside.count(b"}") - outside.count(b"]")
        self._place += len(source)
        return place, sound

    def _string(self, token: bytes) -> bytes:
        if not _is_utf8(token):
            self.mended["strings with bytes that are no UTF-8"] += 1
            token = token.decode("utf-8", "replace").encode()
        if _SOUND_STRING.fullmatch(token):
            return token
        return _ANY_ESCAPE.sub(self._any_escape, token)

    def _any_escape(self, match: re.Match[bytes]) -> bytes:
        found = match[0]
        if _ODD_ESCAPE.fullmatch(found):
            return _escape(match)
        if found[-1] < 0x20:
            self.mended["raw control characters"] += 1
            return b"\\\\" * (len(found) - 1) + b"\\u%04x" % found[-1]
        self.mended["escapes that do not exist"] += 1
        return b"\\" + found

    def _outside(self, token: bytes) -> bytes:
        return _MEND_OUTSIDE.sub(self._any_outside, token) if _ODD_OUTSIDE.search(token) else token

    def _any_outside(self, match: re.Match[bytes]) -> bytes:
        if match["control"]:
            return b" "
        if match["comma"]:
            self.mended["commas with nothing after them"] += 1
            return b""
        if match["number"] and _fits(match[0]):
            return match[0]
        self.mended["numbers that are none, or too large"] += 1
        return b"null"


def _fits(number: bytes) -> bool:
    """Into 64 bits as the parser counts them: sign and amount."""
    if number.lstrip(b"-").isdigit():
        return len(number) <= 20 and abs(int(number)) < 2**63
    return math.isfinite(float(number))


def _whole_tokens(text: bytes) -> int:
    """How much of `text`, which begins outside a string, can be judged without what comes next."""
    match = _TOKENS.match(text)
    assert match is not None
    if match.end() < len(text):  # an unfinished string
        return match.end()
    return len(text.rstrip(_MAY_GO_ON))


def _tokens(text: bytes) -> Iterator[bytes]:
    place = 0
    while match := _TOKEN.match(text, place):
        yield match[0]
        place = match.end()
    if place < len(text):  # the last string, never finished
        yield text[place:]


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
