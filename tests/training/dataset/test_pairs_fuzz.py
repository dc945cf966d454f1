"""Whatever a history looks like: no pair crosses a chat or a silence, every message is counted, nothing leaks."""

import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Indel

from storage.records import Chat, ChatKind, Message, MessageKind
from training.dataset.copies import INSIDE_WORDS, NEAR, NEAR_WORDS, normalised, parts
from training.dataset.pairs import ChatPairs, Options, Pair, pairs_of
from training.dataset.split import Example, assemble

OPTIONS = Options()
START = datetime(2025, 1, 1, tzinfo=UTC)
WAITS = (0, 1, 60, OPTIONS.burst_seconds, OPTIONS.burst_seconds + 1, OPTIONS.gap_seconds, OPTIONS.gap_seconds + 1)
FORMS = (MessageKind.POLL, MessageKind.LOCATION, MessageKind.CONTACT, MessageKind.GAME, MessageKind.INVOICE)
REFUSED = (MessageKind.SERVICE, MessageKind.OTHER)
_NAMED = re.compile(r"c(-?\d+)m(\d+)")

# Sentences that come again, whole, nearly, and inside others: what a split has to keep apart.
SENTENCES = (
    "ok", "yes", "on my way", "see you there then", "the kettle is on again", "who left the gate open last night",
    "i will bring the big red tent and two lamps on friday", "i will bring the big red tent and two lamps on saturday",
    "well i will bring the big red tent and two lamps on friday if the van starts", "the van starts when it likes",
    "grandma says the plums are ripe and somebody should come and pick them", "which of the two keys is for the cellar",
    "7", "at 7", "at 8", "😂", "no idea, ask Ben", "no idea, ask Ben!!",
    "fine by me, call when you are near the bridge",
)  # fmt: skip


@st.composite
def messages(draw: st.DrawFn, chat_id: int, texts: st.SearchStrategy[str] | None = None) -> list[Message]:
    """A chat's messages; without `texts` every message names itself, so that it is known again in a pair."""
    when, found = START, []
    for number in range(1, draw(st.integers(0, 24)) + 1):
        when += timedelta(seconds=draw(st.sampled_from(WAITS)))
        own = draw(st.booleans())
        plain = draw(st.integers(0, 3)) > 0
        kind = MessageKind.TEXT if plain else draw(st.sampled_from(MessageKind))
        text = (
            draw(texts)
            if texts is not None
            else f"c{chat_id}m{number}" + draw(st.sampled_from(("", " and more", "!\nline")))
        )
        odd: dict[str, Any] = {} if plain else draw(ODD)
        wordless = not plain and draw(st.booleans())
        found.append(
            Message(chat_id, number, when, "user1" if own else "user2", own, kind, "" if wordless else text, **odd)
        )
    return draw(st.permutations(found))


ODD = st.fixed_dictionaries(
    {},
    optional={
        "reply_to": st.integers(-1, 25),
        "forwarded_from": st.just("somebody"),
        "via_bot": st.just("@gif"),
        "deleted_at": st.just(START),
        "emoji": st.just("😂"),
    },
)


@given(data=st.data(), kind=st.sampled_from(ChatKind), included=st.sampled_from((None, True, False)))
def test_no_pair_crosses_a_chat_or_a_silence_and_every_message_is_counted(
    data: st.DataObject, kind: ChatKind, included: bool | None
) -> None:
    written = data.draw(messages(-5 if kind is ChatKind.GROUP else 5))
    chat = Chat(-5 if kind is ChatKind.GROUP else 5, kind, "Chat", included)
    found = pairs_of(chat, written, OPTIONS)
    for pair in found.pairs:
        holds_together(pair, chat, written)
    if not found.pairs:
        return
    assert included is not False and (kind is ChatKind.PERSONAL or included)
    usable = [message for message in written if is_usable(message)]
    replied = sum(len(named(pair.reply)) for pair in found.pairs)
    own = sum(message.is_own for message in usable)
    wordless = own - replied - (sum(found.left_out.values()) - (len(written) - len(usable)))
    assert 0 <= wordless <= sum(m.is_own and (not m.text or m.kind in FORMS) for m in usable)


def holds_together(pair: Pair, chat: Chat, written: list[Message]) -> None:
    """What is true of every pair: one chat, in time's order, friend before owner, no silence inside."""
    by_id = {message.message_id: message for message in written}
    texts = [turn.text for turn in pair.context] + [pair.reply]
    assert {chat_id for text in texts for chat_id, _ in named(text)} <= {chat.chat_id}
    context = [by_id[number] for turn in pair.context for _, number in named(turn.text)]
    reply = [by_id[number] for _, number in named(pair.reply)]
    assert all(message.is_own and message.forwarded_from is None and message.via_bot is None for message in reply)
    assert all(is_usable(message) for message in context + reply)
    assert pair.context[-1].role == pair.context[0].role == "user"
    assert all(before.role != after.role for before, after in zip(pair.context, pair.context[1:], strict=False))
    for turn in pair.context:
        assert {by_id[number].is_own for _, number in named(turn.text)} <= {turn.role == "assistant"}
    assert len(pair.context) <= OPTIONS.context_turns
    first = by_id[pair.message_id]
    assert pair.date == first.date
    ordered = [message.date for message in (*context, first)]
    assert ordered == sorted(ordered)
    if chat.kind is ChatKind.PERSONAL and context:
        between = [m for m in written if is_usable(m) and context[0].date <= m.date <= reply[-1].date]
        dates = sorted(message.date for message in between)
        gaps = [after - before for before, after in itertools.pairwise(dates)]
        assert all(gap.total_seconds() <= OPTIONS.gap_seconds for gap in gaps)
    elif context:
        assert (first.date - context[-1].date).total_seconds() <= OPTIONS.gap_seconds
        assert first.reply_to == context[-1].message_id


def is_usable(message: Message) -> bool:
    """Somebody said it."""
    empty = message.kind is MessageKind.TEXT and not message.text
    return message.deleted_at is None and message.kind not in REFUSED and not empty


def named(text: str) -> list[tuple[int, int]]:
    """(chat, message) of everything that stands in a text."""
    return [(int(chat_id), int(number)) for chat_id, number in _NAMED.findall(text)]


@st.composite
def histories(draw: st.DrawFn) -> list[ChatPairs]:
    """Several chats in which the same things are said again and again."""
    texts = st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=2).map("\n".join)
    unique = st.integers(0, 10**9).map(lambda n: f"nobody else says {n} in such words as these {n}")
    chats = range(1, draw(st.integers(1, 5)) + 1)
    return [pairs_of(Chat(n, ChatKind.PERSONAL, "Chat"), draw(messages(n, texts | unique)), OPTIONS) for n in chats]


@given(chats=histories(), share=st.sampled_from((0.05, 0.2, 0.5)), seed=st.integers(0, 3))
def test_no_reply_leaks_into_the_other_split_and_every_pair_is_counted(
    chats: list[ChatPairs], share: float, seed: int
) -> None:
    options = Options(validation_share=share, seed=seed)
    built = assemble(chats, options)
    manifest = built.manifest
    assert manifest["pairs_found"] == len(built.train) + len(built.validation) + sum(
        manifest["pairs_left_out"].values()
    )
    assert assemble(chats[::-1], options).manifest["sha256"] == manifest["sha256"], "the order of chats changes nothing"
    for held in built.validation:
        for learned in built.train:
            stays_apart(held, learned)


def stays_apart(held: Example, learned: Example) -> None:
    """The held-out reply is nowhere in a training example, the training reply not in the held-out context."""
    *context, reply = (message["content"] for message in held.messages[1:])
    wanted = {normalised(reply)} | {part for part in parts(reply) if is_telling(part)}
    for text in (message["content"] for message in learned.messages[1:]):
        assert wanted.isdisjoint(parts(text)), (reply, text)
        assert not any(is_telling(part) and f" {part} " in f" {normalised(text)} " for part in wanted)
        assert not any(is_near(part, other) for part in wanted for other in parts(text)), (reply, text)
    taught = {part for part in parts(learned.messages[-1]["content"]) if is_telling(part)}
    assert all(taught.isdisjoint(parts(text)) for text in context[:-1])


def is_telling(text: str) -> bool:
    """Long enough to be told from anybody's."""
    return len(text.split()) >= INSIDE_WORDS


def is_near(one: str, other: str) -> bool:
    """Nearly the same words, by brute force; a number is always a difference."""
    a, b = one.split(), other.split()
    if min(len(a), len(b)) < NEAR_WORDS or numbers(a) != numbers(b):
        return False
    return Indel.normalized_similarity(a, b) >= NEAR


def numbers(words: list[str]) -> list[str]:
    """The words with a digit in them."""
    return sorted(word for word in words if any(map(str.isdigit, word)))
