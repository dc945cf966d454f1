"""All chats' pairs -> train and validation examples, as JSONL and with a manifest.

Every choice is a function of the pairs and the seed: the same input gives the same bytes, in
whatever order the chats come.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from training.dataset.choose import NOTHING_SEEN, Seen, chosen
from training.dataset.hold_out import split
from training.dataset.pairs import ChatPairs, Options, Pair
from training.dataset.redact import masks_in
from training.dataset.render import Message, conversation
from training.dataset.replay import with_replay

NOTHING = datetime.fromtimestamp(0, UTC)


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


def assemble(
    chats: Iterable[ChatPairs], options: Options, seen: Seen = NOTHING_SEEN, replay: float | None = None
) -> Dataset:
    """Build the data set of all chats: copies out, capped, split by time, counted.

    What was held out before stays held out, and only pairs younger than `seen.until` join it. With `replay` it is a
    night's: the new pairs, and old ones as that share of the whole; what is held out is the same as without.
    """
    chats = sorted(chats, key=lambda chat: chat.chat_id)
    found = [pair for chat in chats for pair in chat.pairs]
    left_out: Counter[str] = Counter()
    kept, held = chosen(found, options, seen, left_out)
    parted = split(kept, options, left_out, held, seen.until)
    train: Sequence[Pair] = parted.train
    if replay is not None and seen.until is not None:
        train = with_replay(parted.train, seen.until, replay, options.seed)
        left_out["old, not replayed"] = len(parted.train) - len(train)
    dataset = Dataset(tuple(map(_example, train)), tuple(map(_example, parted.validation)), {})
    dataset.manifest.update(
        _counts(chats, left_out),
        new=sum(seen.until is None or pair.date > seen.until for pair in train),
        until=max((pair.date for pair in found), default=NOTHING).isoformat(),
        train=len(dataset.train),
        validation=len(dataset.validation),
        validation_contexts_shortened=parted.shortened,
        masked=_masked((*train, *parted.validation)),
        reply_characters=_lengths(train),
        bursts=sum("\n" in pair.reply for pair in train),
        options=asdict(options),
        sha256=hashlib.sha256(dataset.train_jsonl() + b"\0" + dataset.validation_jsonl()).hexdigest(),
    )
    return dataset


def _counts(chats: Sequence[ChatPairs], pairs_left_out: Counter[str]) -> dict[str, Any]:
    """`left_out` counts messages, `pairs_left_out` pairs: found = train + validation + left out."""
    messages_left_out = sum((Counter(chat.left_out) for chat in chats), Counter[str]())
    return {
        "chats": len(chats),
        "chats_with_pairs": sum(bool(chat.pairs) for chat in chats),
        "messages": sum(chat.messages for chat in chats),
        "pairs_found": sum(len(chat.pairs) for chat in chats),
        "left_out": dict(sorted(messages_left_out.items())),
        "pairs_left_out": {reason: n for reason, n in sorted(pairs_left_out.items()) if n},
    }


def _masked(pairs: Iterable[Pair]) -> dict[str, int]:
    """Secrets by kind; a turn that stands in several contexts of a chat counts once."""
    texts = {(pair.chat_id, turn.text) for pair in pairs for turn in pair.context}
    texts |= {(pair.chat_id, pair.reply) for pair in pairs}
    return dict(sorted(sum((masks_in(text) for _, text in texts), Counter[str]()).items()))


def _lengths(pairs: Sequence[Pair]) -> dict[str, float]:
    lengths = sorted(len(pair.reply) for pair in pairs) or [0]
    return {
        "shortest": lengths[0],
        "median": lengths[len(lengths) // 2],
        "mean": round(sum(lengths) / len(lengths), 1),
        "p90": lengths[len(lengths) * 9 // 10],
        "longest": lengths[-1],
    }


def _example(pair: Pair) -> Example:
    messages = (*conversation(pair.context), {"role": "assistant", "content": pair.reply})
    return Example(messages, pair.chat_id, pair.message_id, pair.date)


def _jsonl(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "replace")
