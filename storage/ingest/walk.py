"""Clean JSON of an export -> its chats and their entries, as they stream by.

ijson's C backend builds the document, and after every piece of it this module takes out what is complete:
a chat's entries go to the sink, everything else of size is dropped. So only the current piece is ever held,
no parser event crosses into Python, and the speed is the bare parser's.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import ijson

from storage.ingest.mending import LONGEST_VALUE, Piece, TooLong

DEEPEST = 64  # an export nests 12 deep
_SETTLE_EVERY = 2000  # bytes
_MOST_BRACKETS = 2000  # in one piece: the parser's memory grows with the square of the nesting
_CHAT_LISTS = ("chats", "left_chats")
_ROOT_KEYS = frozenset(("personal_information", "name", "type", "id", "messages", *_CHAT_LISTS))
_CHAT_KEYS = frozenset(("name", "type", "id", "messages"))

Fields = dict[str, Any]


class OpenChat:
    """A chat of the file while it is read; `fields` fills up as its keys come."""

    __slots__ = ("closed", "fields", "index", "root")

    def __init__(self, index: int, fields: Fields, root: Fields) -> None:
        self.index = index
        self.fields = fields
        self.root = root
        self.closed = False


class Sink(Protocol):
    """What listens to a walk."""

    def entries(self, chat: OpenChat, entries: list[Any]) -> None:
        """The next entries of a chat's list, in the file's order."""

    def chat_over(self, chat: OpenChat, whole: bool) -> None:
        """Nothing more of this chat comes; `whole`: its list was read to its end."""


class Broken(Exception):
    """The text can't be read beyond `place`; `at_end`: it just stops."""

    def __init__(self, place: int, reason: str, at_end: bool = False) -> None:
        super().__init__(reason)
        self.place = place
        self.reason = reason
        self.at_end = at_end


class Walk:
    """One walk through a document. One that breaks can be taken up by another, which skips what was given out."""

    def __init__(self, sink: Sink, taken_up: "Walk | None" = None) -> None:
        self.root: Fields = {}
        self.strays = 0  # entries of a list of chats that are no chats
        self.entries_given = self.chats_over = 0
        self._skip_entries = taken_up.entries_given if taken_up else 0
        self._skip_chats = taken_up.chats_over if taken_up else 0
        self._sink = sink
        self._chat: OpenChat | None = None
        self._chats_begun = 0
        self._begun = self._complete = self._ended = False
        self._pieces: Iterator[Piece] = iter(())
        self._place = self._unsettled = self._idle = 0

    def run(self, pieces: Iterable[Piece]) -> None:
        """Read to the end of the document. Raises Broken."""
        self._pieces = _thinned(pieces)
        try:
            for _ in ijson.items(self, "", map_type=self._new_map, use_float=True):
                _check_depth(self.root, self._place)
                self._settle(over=True)
                self._complete = True
        except (ijson.JSONError, UnicodeDecodeError) as error:
            reason = str(error).partition("\n")[0]
            raise Broken(self._place, reason, at_end=self._ended) from error
        except TooLong as error:
            raise Broken(self._place, "one value goes on for megabytes") from error

    def give_up(self, depth: int) -> OpenChat | None:
        """Give out what is complete before the break, with `depth` brackets open there; returns the chat it is in."""
        self._settle(over=False)
        chat = self._chat
        if chat is None:
            return None
        at_entries = self._is_current(chat) and _last_key(chat.fields) == "messages"
        entries = chat.fields.get("messages")
        if isinstance(entries, list):
            in_one = at_entries and depth > self._depth_of_entries()
            self._give(chat, entries[:-1] if in_one else entries)
        whole = not at_entries or depth < self._depth_of_entries()
        self._over(chat, whole)
        return None if whole else chat

    def read(self, size: int) -> bytes:
        """The parser asks for the next piece: the moment to take out what it has built so far."""
        if not size:  # ijson tries out whether bytes come
            return b""
        if self._begun and not self._complete and self._unsettled >= _SETTLE_EVERY:
            _check_depth(self.root, self._place)
            self._idle = 0 if self._settle(over=False) else self._idle + self._unsettled
            self._unsettled = 0
            if self._idle > LONGEST_VALUE:
                raise TooLong
        piece = next(self._pieces, None)
        if piece is None:
            self._ended = True
            return b""
        self._place = piece[0]
        self._unsettled += len(piece[1])
        return piece[1]

    def _new_map(self) -> Fields:
        if self._begun:
            return {}
        self._begun = True
        return self.root

    def _settle(self, over: bool) -> bool:
        """Take out what is complete; whether there was anything."""
        moved = self._dropped()
        if isinstance(self.root.get("messages"), list):
            return self._visit(self.root, closed=over) or moved
        lists = self._lists()
        for number, chats in enumerate(lists):
            complete = over or any(lists[number + 1 :])
            last = len(chats) - 1
            for position, fields in enumerate(chats):
                moved |= self._visit(fields, closed=complete or position < last)
            del chats[: len(chats) if complete else last]
        return moved

    def _visit(self, fields: Any, closed: bool) -> bool:
        if not isinstance(fields, dict):
            self.strays += closed
            return closed
        if self._chat is not None and self._chat.fields is not fields:  # its list was replaced: a key stood twice
            self._over(self._chat, whole=False)
        if self._chat is None:
            self._chat = OpenChat(self._chats_begun, fields, self.root)
            self._chats_begun += 1
        chat, entries = self._chat, fields.get("messages")
        chat.closed = closed
        complete: list[Any] = []
        if isinstance(entries, list):
            complete = entries[:] if closed else entries[:-1]
            del entries[: len(complete)]
            self._give(chat, complete)
        if closed:
            self._over(chat, whole=True)
        return closed or bool(complete)

    def _give(self, chat: OpenChat, entries: list[Any]) -> None:
        self.entries_given += len(entries)
        known = min(self._skip_entries, len(entries))
        self._skip_entries -= known
        if known < len(entries):
            self._sink.entries(chat, entries[known:] if known else entries)

    def _over(self, chat: OpenChat, whole: bool) -> None:
        self._chat = None
        self.chats_over += 1
        if self._skip_chats:
            self._skip_chats -= 1
        else:
            self._sink.chat_over(chat, whole)

    def _lists(self) -> list[list[Any]]:
        held = [self.root[key] for key in self.root if key in _CHAT_LISTS]
        found = [value.get("list") if isinstance(value, dict) else value for value in held]
        return [value for value in found if isinstance(value, list)]

    def _depth_of_entries(self) -> int:
        if isinstance(self.root.get("messages"), list):
            return 2
        return 4 if isinstance(self.root.get(_last_key(self.root)), list) else 5

    def _is_current(self, chat: OpenChat) -> bool:
        """Whether the parser is still inside this chat."""
        if chat.fields is self.root:
            return True
        value = self.root.get(_last_key(self.root))
        if isinstance(value, dict):
            value = value.get("list") if _last_key(value) == "list" else None
        return isinstance(value, list) and bool(value) and value[-1] is chat.fields

    def _dropped(self) -> bool:
        """Drop what no one asks for; whether there was anything."""
        dropped = _dropped_from(self.root, _ROOT_KEYS)
        for key in _CHAT_LISTS:
            if isinstance(holder := self.root.get(key), dict):
                dropped |= _dropped_from(holder, frozenset(("list",)))
        if self._chat is not None and self._chat.fields is not self.root:
            dropped |= _dropped_from(self._chat.fields, _CHAT_KEYS)
        return dropped


def _dropped_from(fields: Fields, wanted: frozenset[str]) -> bool:
    unwanted = [key for key in fields if key not in wanted]
    if not unwanted:
        return False
    last = _last_key(fields)
    for key in unwanted:
        if key != last:
            del fields[key]
    return len(unwanted) > 1 or unwanted[0] != last or _shrunk(fields[last])


def _shrunk(value: Any) -> bool:
    """Empty a value that is still being built, but for the parts under construction."""
    dropped = False
    while value and isinstance(value, dict | list):
        dropped |= len(value) > 1
        if isinstance(value, list):
            del value[:-1]
            value = value[-1]
        else:
            last = _last_key(value)
            for key in [key for key in value if key != last]:
                del value[key]
            value = value[last]
    return dropped


def _check_depth(root: Fields, place: int) -> None:
    value: Any = root
    depth = 0
    while value and isinstance(value, dict | list):
        value = value[-1] if isinstance(value, list) else value[_last_key(value)]
        depth += 1
    if depth > DEEPEST:
        raise Broken(place, f"it nests deeper than {DEEPEST} levels")


def _last_key(fields: Fields) -> str:
    return next(reversed(fields), "")


def _thinned(pieces: Iterable[Piece]) -> Iterator[Piece]:
    for place, piece in pieces:
        if piece.count(b"[") + piece.count(b"{") <= _MOST_BRACKETS:
            yield place, piece
            continue
        for start in range(0, len(piece), _SETTLE_EVERY):
            yield place + start, piece[start : start + _SETTLE_EVERY]
