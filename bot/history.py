"""From the stored history to a training set on disk."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from bot.texts import say
from bot.writing import write_private
from storage import history, nights, runs
from storage.database import Database
from storage.errors import BadInput
from training.dataset.choose import Seen
from training.dataset.pairs import ChatPairs, Options, pairs_of
from training.dataset.render import Turn
from training.dataset.split import Dataset, assemble

FEW = 64  # pairs: with fewer, more than the usual number is taken of each chat
# What a training of minutes takes of a history, for the embedded model on two cores. Of the sample, half of the steps
# brought the held-out loss from 6.09 to 4.41, all of them to 4.35.
QUICK_CHARACTERS, QUICK_HELD_OUT = 26_000, 40

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A held-out prompt with the owner's real reply."""

    chat_id: int
    message_id: int
    context: tuple[Turn, ...]
    reply: str


async def found_pairs(database: Database, options: Options) -> list[ChatPairs]:
    """What every chat of the history gives."""
    return [
        await asyncio.to_thread(pairs_of, chat, await history.messages(database, chat.chat_id), options)
        for chat in await history.chats(database)
    ]


async def build_dataset(database: Database, options: Options, replay: float | None = None) -> Dataset:
    """The training set of the whole history, or (with `replay`) a night's: see split.assemble.

    What was held out stays so. BadInput when there is nothing to learn from.
    """
    serving = await runs.serving(database)
    seen = Seen(await nights.held_out(database), serving.data_until if serving else None)
    found = await found_pairs(database, options)
    if not found:
        raise BadInput(say("history_none"))
    dataset = await asyncio.to_thread(assemble, found, options, seen, replay)
    while (cap := options.max_pairs_per_chat) and replay is None and len(dataset.train) + len(dataset.validation) < FEW:
        # Twelve pairs a chat is for a thousand chats.
        options = replace(options, max_pairs_per_chat=2 * cap if cap < FEW else None)
        dataset = await asyncio.to_thread(assemble, found, options, seen)
    if not dataset.train and replay is None:
        raise BadInput(say("history_no_reply", chats=len(found)))
    return dataset


def quick_part(whole: Dataset) -> Dataset:
    """As much of a training set as a training of minutes takes, evenly over time."""
    characters = sum(len(m["content"]) for one in whole.train for m in one.messages if m["role"] != "system")
    share = min(1.0, QUICK_CHARACTERS / max(1, characters))
    train = spread(whole.train, max(1, int(len(whole.train) * share)))
    return Dataset(train, spread(whole.validation, QUICK_HELD_OUT), whole.manifest)


def spread(items: Sequence[Item], n: int) -> tuple[Item, ...]:
    """n of them, evenly over time."""
    n = min(n, len(items))
    return tuple(items[len(items) * i // n] for i in range(n))


def save_dataset(dataset: Dataset, folder: Path) -> Path:
    """Write index.jsonl, by which a forgotten chat's words are found, train.jsonl, validation.jsonl, manifest.json."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(folder / "index.jsonl", dataset.index_jsonl())
    write_private(folder / "train.jsonl", dataset.train_jsonl())
    write_private(folder / "validation.jsonl", dataset.validation_jsonl())
    write_private(folder / "manifest.json", json.dumps(dataset.manifest, indent=2, ensure_ascii=False).encode())
    return folder


def held_out(dataset: Dataset) -> list[HeldOut]:
    """The validation examples as prompts and real replies."""
    found = []
    for example in dataset.validation:
        turns = tuple(Turn(m["role"], m["content"]) for m in example.messages[:-1] if m["role"] != "system")
        found.append(HeldOut(example.chat_id, example.message_id, turns, example.messages[-1]["content"]))
    return found


async def summary(database: Database) -> dict[str, Any]:
    """What the history holds, in numbers."""
    counts = await history.chat_counts(database)
    return {
        "chats": len(counts),
        "messages": sum(count.messages for count in counts),
        "own": sum(count.own for count in counts),
    }


def now() -> datetime:
    """The clock, read at the edge."""
    return datetime.now(UTC)
