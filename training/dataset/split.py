"""All chats' pairs -> train and validation examples: duplicates out, capped, masked, split by time.

Every choice is a function of the pairs and the seed: the same input gives the same bytes, in
whatever order the chats come.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from rapidfuzz import fuzz

from training.dataset.pairs import ChatPairs, Options, Pair
from training.dataset.redact import redact
from training.dataset.render import Message, Turn, conversation

_NOT_WORDS = re.compile(r"[\W_]+", re.UNICODE)
LONG_REPLY_WORDS = 4  # from here on the same words twice are a copy, below they are a habit
HABIT_SHARE = 0.01  # how often one short reply ("ok") may stand in the set
NEAR_RATIO = 90.0  # of 100; rapidfuzz's normalised indel similarity
BLOCK_COMPARISONS = 60


@dataclass(frozen=True, slots=True)
class Example:
    """A training or validation example; `messages` ends with the owner's reply."""

    messages: tuple[Message, ...]
    chat_id: int
    message_id: int
    date: datetime


@dataclass(frozen=True, slots=True)
class Dataset:
    """The examples and the manifest that tells how they came about."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    manifest: dict[str, Any]

    def train_jsonl(self) -> bytes:
        """OpenAI's chat format, an example a line."""
        return _jsonl({"messages": example.messages} for example in self.train)

    def validation_jsonl(self) -> bytes:
        """OpenAI's chat format, an example a line."""
        return _jsonl({"messages": example.messages} for example in self.validation)

    def index_jsonl(self) -> bytes:
        """Which message each line came from, in the same order. Private: never leaves the machine."""
        rows = [("train", example) for example in self.train]
        rows += [("validation", example) for example in self.validation]
        return _jsonl(
            {"split": split, "chat_id": e.chat_id, "message_id": e.message_id, "date": e.date.isoformat()}
            for split, e in rows
        )


def assemble(chats: Iterable[ChatPairs], options: Options) -> Dataset:
    """Build the data set of all chats."""
    chats = sorted(chats, key=lambda chat: chat.chat_id)
    left_out = sum((Counter(chat.left_out) for chat in chats), Counter[str]())
    found = [pair for chat in chats for pair in chat.pairs]
    unique = _without_duplicates(found, left_out)
    by_chat: dict[int, list[Pair]] = defaultdict(list)
    for pair in unique:
        by_chat[pair.chat_id].append(pair)
    kept = {chat_id: _capped(pairs, options, left_out) for chat_id, pairs in by_chat.items()}
    masked: Counter[str] = Counter()
    kept = {chat_id: [_masked(pair, masked) for pair in pairs] for chat_id, pairs in kept.items()}
    train, validation = _split(kept, options)
    train = _without_held_out_words(train, validation, left_out)
    return _dataset(chats, found, train, validation, left_out, masked, options)


def normalised(text: str) -> str:
    """Words alone, casefolded: what makes two replies 'the same'."""
    return _NOT_WORDS.sub(" ", text.casefold()).strip()


def _without_duplicates(pairs: Sequence[Pair], left_out: Counter[str]) -> list[Pair]:
    """Earlier ones stay. Long replies: any near-copy goes; short ones: same prompt, or too often."""
    habit = max(3, int(len(pairs) * HABIT_SHARE))
    exact: set[tuple[str, str]] = set()
    short: Counter[str] = Counter()
    blocks: dict[str, list[str]] = defaultdict(list)
    kept = []
    for pair in sorted(pairs, key=_time_order):
        reply = normalised(pair.reply) or pair.reply
        key = (normalised(pair.context[-1].text), reply)
        if key in exact:
            left_out["duplicate"] += 1
        elif len(reply.split()) >= LONG_REPLY_WORDS and _near_copy(reply, blocks):
            left_out["near duplicate"] += 1
        elif len(reply.split()) < LONG_REPLY_WORDS and short[reply] >= habit:
            left_out["short reply seen often"] += 1
        else:
            exact.add(key)
            short[reply] += 1
            kept.append(pair)
    return kept


def _near_copy(reply: str, blocks: dict[str, list[str]]) -> bool:
    """Compare with replies that begin or end alike; remember this one where it is new."""
    keys = ("^" + reply[:10], reply[-10:] + "$")
    for key in keys:
        for other in blocks[key][-BLOCK_COMPARISONS:]:
            if fuzz.ratio(reply, other, score_cutoff=NEAR_RATIO):
                return True
    for key in keys:
        blocks[key].append(reply)
    return False


def _capped(pairs: Sequence[Pair], options: Options, left_out: Counter[str]) -> list[Pair]:
    """At most `max_pairs_per_chat`, spread over the chat's time.

    The chat is cut into that many stretches of equally many pairs; of each, one is drawn by a seeded
    hash, so lengths stay as the owner's are; a reply the chat has not given yet goes first.
    """
    cap = options.max_pairs_per_chat
    ordered = sorted(pairs, key=_time_order)
    if cap is None or len(ordered) <= cap:
        return ordered
    left_out["over the cap"] += len(ordered) - cap
    chosen: list[Pair] = []
    seen: set[str] = set()
    for index in range(cap):
        stretch = ordered[len(ordered) * index // cap : len(ordered) * (index + 1) // cap]
        pick = min(stretch, key=lambda pair: (normalised(pair.reply) in seen, _draw(pair, options.seed)))
        seen.add(normalised(pick.reply))
        chosen.append(pick)
    return chosen


def _draw(pair: Pair, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{pair.chat_id}:{pair.message_id}".encode()).digest()


def _masked(pair: Pair, masked: Counter[str]) -> Pair:
    def mask(text: str) -> str:
        clean, counts = _redact_once(text)
        masked.update(dict(counts))
        return clean

    context = tuple(Turn(turn.role, mask(turn.text)) for turn in pair.context)
    return Pair(pair.chat_id, pair.message_id, pair.date, context, mask(pair.reply))


@lru_cache(maxsize=100_000)
def _redact_once(text: str) -> tuple[str, tuple[tuple[str, int], ...]]:
    clean, counts = redact(text)
    return clean, tuple(counts.items())


def _split(kept: dict[int, list[Pair]], options: Options) -> tuple[list[Pair], list[Pair]]:
    """The newest pairs of chats are held out, `validation_share` of all, spread evenly over the chats.

    Chats stand in a seeded order and the running share is rounded down, so that many small chats
    give one here and there, and the total is exactly int(share * pairs). A chat with a single pair
    gives none: it could only be held out whole.
    """
    target = int(sum(map(len, kept.values())) * options.validation_share)
    order = sorted((c for c in kept if len(kept[c]) > 1), key=lambda c: _draw(kept[c][0], options.seed))
    total = sum(len(kept[chat]) for chat in order)
    held: dict[int, int] = {}
    running = given = 0
    for chat in order:
        running += len(kept[chat])
        held[chat] = min(target * running // total - given, len(kept[chat]) - 1)
        given += held[chat]
    train: list[Pair] = []
    validation: list[Pair] = []
    for chat, pairs in kept.items():
        cut = len(pairs) - held.get(chat, 0)
        train += pairs[:cut]
        validation += pairs[cut:]
    return sorted(train, key=_time_order), sorted(validation, key=_time_order)


def _without_held_out_words(train: list[Pair], validation: list[Pair], left_out: Counter[str]) -> list[Pair]:
    """Training examples that hold a validation reply's words go, be it as a reply or in a context."""
    held = {text for pair in validation if len((text := normalised(pair.reply)).split()) >= LONG_REPLY_WORDS}
    kept = []
    for pair in train:
        texts = [pair.reply, *(turn.text for turn in pair.context)]
        if held.isdisjoint(part for text in texts for part in _parts(text)):
            kept.append(pair)
        else:
            left_out["holds a held-out reply"] += 1
    return kept


def _parts(text: str) -> set[str]:
    return {normalised(text), *(normalised(line) for line in text.splitlines())}


def _time_order(pair: Pair) -> tuple[datetime, int, int]:
    return pair.date, pair.chat_id, pair.message_id


def _example(pair: Pair) -> Example:
    messages = (*conversation(pair.context), {"role": "assistant", "content": pair.reply})
    return Example(messages, pair.chat_id, pair.message_id, pair.date)


def _jsonl(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "replace")


def _dataset(
    chats: Sequence[ChatPairs],
    found: Sequence[Pair],
    train: Sequence[Pair],
    validation: Sequence[Pair],
    left_out: Counter[str],
    masked: Counter[str],
    options: Options,
) -> Dataset:
    dataset = Dataset(tuple(map(_example, train)), tuple(map(_example, validation)), {})
    replies = sorted(len(pair.reply) for pair in train) or [0]
    dataset.manifest.update(
        chats=len(chats),
        chats_with_pairs=sum(bool(chat.pairs) for chat in chats),
        messages=sum(chat.messages for chat in chats),
        pairs_found=len(found),
        train=len(train),
        validation=len(validation),
        left_out=dict(sorted(left_out.items())),
        masked=dict(sorted(masked.items())),
        reply_characters={
            "median": replies[len(replies) // 2],
            "mean": round(sum(replies) / len(replies), 1),
            "longest": replies[-1],
        },
        bursts=sum("\n" in pair.reply for pair in train),
        options=asdict(options),
        sha256=hashlib.sha256(dataset.train_jsonl() + b"\0" + dataset.validation_jsonl()).hexdigest(),
    )
    return dataset
