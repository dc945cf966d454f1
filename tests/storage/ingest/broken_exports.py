"""Exports as no sane program writes them, for hypothesis: odd values, odd JSON, odd bytes."""

import gzip
import json
from typing import Any

from hypothesis import strategies as st

OWNER = 7001
Pairs = list[tuple[str, Any]]  # an object whose keys may stand twice

odd_text = st.text(max_size=20) | st.sampled_from(("", "\0", "\x0b\x1f", "\ud83d", "a\u2028b", "😂", "user7001", "1e9"))
odd_number = st.integers(-5, 10**11) | st.sampled_from((2**53, 2**63, -(2**63), 10**40, 0, -1, True, 1e308, -0.5))
odd_value = st.recursive(
    st.none() | odd_text | odd_number,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=5,
)
text_part = st.fixed_dictionaries({"type": st.sampled_from(("plain", "bold", "link")) | odd_value, "text": odd_text})
some_text = odd_text | st.lists(odd_text | text_part | odd_value, max_size=3)

KEYS: dict[str, st.SearchStrategy[Any]] = {
    "id": st.integers(1, 30),
    "type": st.sampled_from(("message", "message", "service", "unsupported", "new thing")),
    "date": st.sampled_from(("2019-05-05T10:00:00", "2024-02-30T00:00:00", "yesterday", "1970-01-01T00:00:00")),
    "date_unixtime": st.integers(10**9, 10**10 - 1).map(str),
    "from": odd_text,
    "from_id": st.sampled_from((f"user{OWNER}", "user2", "channel3", 4294967298, 8589934595)),
    "text": some_text,
    "text_entities": st.lists(text_part, max_size=2),
    "edited_unixtime": st.integers(10**9, 10**10).map(str),
    "reply_to_message_id": st.integers(1, 30),
    "reply_to_peer_id": st.sampled_from(("channel5", "user2", "chat9")),
    "forwarded_from": st.none() | odd_text,
    "via_bot": odd_text,
    "media_type": st.sampled_from(("sticker", "voice_message", "hologram")),
    "sticker_emoji": odd_text,
    "photo": odd_text,
    "poll": odd_value,
}
NEEDED = ("id", "date_unixtime", "from_id", "text")


@st.composite
def entries(draw: st.DrawFn) -> Any:
    """A message, mostly; any of its values may be of any type."""
    if draw(st.integers(0, 9)) == 0:
        return draw(odd_value)
    wanted = {*NEEDED, *draw(st.sets(st.sampled_from(list(KEYS)), max_size=6))}
    spoiled = draw(st.sets(st.sampled_from(list(KEYS)), max_size=1))
    fields = [(key, draw(odd_value if key in spoiled else KEYS[key])) for key in KEYS if key in wanted]
    return fields[1:] if draw(st.integers(0, 19)) == 0 else fields


@st.composite
def chats(draw: st.DrawFn, bodies: st.SearchStrategy[list[Any]] | None = None) -> Pairs:
    """A chat's object, its keys in any order."""
    kinds = ("personal_chat", "private_group", "bot_chat", "saved_messages", "public_channel", "hologram")
    fields: Pairs = [
        ("name", draw(st.none() | odd_text)),
        ("type", draw(st.sampled_from(kinds))),
        ("id", draw(st.integers(1, 5))),
        ("messages", draw(bodies if bodies is not None else st.lists(entries(), max_size=8))),
    ]
    return draw(st.permutations(fields)) if draw(st.integers(0, 4)) == 0 else fields


@st.composite
def documents(draw: st.DrawFn) -> Pairs:
    """A whole account's object."""
    me: Pairs = [("user_id", OWNER), ("first_name", draw(odd_text))]
    holder = [("about", ""), ("list", draw(st.lists(chats(), max_size=4)))]
    return [("about", "x"), ("personal_information", me), ("contacts", draw(odd_value)), ("chats", holder)]


def written(value: Any) -> str:
    """As JSON, lists of pairs as objects."""
    if isinstance(value, list):
        if value and all(isinstance(item, tuple) for item in value):
            return "{" + ",".join(f"{json.dumps(key)}:{written(item)}" for key, item in value) + "}"
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{written(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


@st.composite
def quirky_documents(draw: st.DrawFn) -> str:
    """JSON with keys twice, commas too many, and escapes that other programs write."""
    document = draw(documents())
    if draw(st.booleans()):
        document.append(draw(st.sampled_from(document)))
    text = written(document)
    for before, after in draw(st.lists(st.sampled_from(QUIRKS), max_size=2)):
        text = text.replace(before, after, draw(st.integers(1, 3)))
    return text


QUIRKS = (
    ("}", ",}"), ("]", ",]"), ('"text":"', '"text":"\\x0B'), ('"text":"', '"text":"\\ud83d'),
    ('"text":"', '"text":"\t'),
    ('"text":', '"text":NaN,"text":'), ('"id":', '"id":1,"id":'), ("{", "[{"), ('"', ""), ("}", ""), ("\\u", "\\q"),
    (":", ":" + "[" * 200), ('"id":', '"id":' + "9" * 400), ('"text":"', '"text":"' + "\\" * 3),
)  # fmt: skip
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "latin-1")


@st.composite
def broken_files(draw: st.DrawFn, text: st.SearchStrategy[str]) -> bytes:
    """The bytes of a file: in some encoding, maybe packed, maybe cut, maybe damaged."""
    data = draw(text).encode(draw(st.sampled_from(ENCODINGS)), "replace")
    packed = draw(st.integers(0, 5)) == 0
    data = gzip.compress(data) if packed else data
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.integers(0, 40))
        how = draw(st.sampled_from(("cut", "drop", "again", "overwrite")))
        if how == "cut":
            data = data[:start]
        elif how == "drop":
            data = data[:start] + data[end:]
        elif how == "again":
            data = data[:end] + data[start:]
        else:
            data = data[:start] + draw(st.binary(max_size=8)) + data[end:]
    return data
