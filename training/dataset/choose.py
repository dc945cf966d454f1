"""Which pairs stay: copies out, no habit in masses, and a chat's best dozen."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from training.dataset.copies import NEAR_WORDS, NearCopies, normalised
from training.dataset.pairs import Options, Pair

HABIT_SHARE = 0.03  # of all pairs may one short reply ("ok") be
HABIT_WORDS = 3
HABIT_LEAST = 3
COMMONPLACE = 0.5  # in the choice of a chat's pairs: how far off in length is better than a commonplace


@dataclass(frozen=True, slots=True)
class Seen:
    """What the voices so far have learned from: all but what was `held_out` (chat and message), up to `until`."""

    held_out: frozenset[tuple[int, int]] = frozenset()
    until: datetime | None = None


NOTHING_SEEN = Seen()


def chosen(
    found: Sequence[Pair], options: Options, seen: Seen, left_out: Counter[str]
) -> tuple[dict[int, list[Pair]], list[Pair]]:
    """The pairs to be split, by chat, and those that stay held out, whatever else there is of them."""
    held = sorted((pair for pair in found if identity(pair) in seen.held_out), key=time_order)
    free = [pair for pair in found if identity(pair) not in seen.held_out]
    return capped(without_copies(free, options, left_out), options, left_out), held


def without_copies(pairs: Sequence[Pair], options: Options, left_out: Counter[str]) -> list[Pair]:
    """Each reply once. A short one is a habit rather than a copy: to other prompts it may come again.

    Seven words and more: once, near copies included. Four to six: three times. Up to three words ("ok"):
    three times, and up to 3 % of all pairs. The same reply to the same prompt: once, whatever its length.
    Which of several stays is drawn by the seed.
    """
    habit = max(HABIT_LEAST, int(len(pairs) * HABIT_SHARE))
    near = NearCopies(normalised(pair.reply) for pair in pairs)
    exact: set[tuple[str, str]] = set()
    times: Counter[str] = Counter()
    kept = []
    for number, pair in enumerate(sorted(pairs, key=lambda pair: draw(pair, options.seed))):
        reply = normalised(pair.reply)
        words = len(reply.split())
        key = (normalised(pair.context[-1].text), reply)
        if key in exact or (words >= NEAR_WORDS and times[reply]):
            left_out["duplicate"] += 1
        elif near.of(reply):
            left_out["near duplicate"] += 1
        elif times[reply] >= (habit if words <= HABIT_WORDS else HABIT_LEAST):
            left_out["short reply seen often"] += 1
        else:
            near.add(number, reply)
            exact.add(key)
            times[reply] += 1
            kept.append(pair)
    return sorted(kept, key=time_order)


def capped(pairs: Sequence[Pair], options: Options, left_out: Counter[str]) -> dict[int, list[Pair]]:
    """The pairs by chat, at most `max_pairs_per_chat` of each.

    A chat with more is cut into that many stretches of equally many pairs, and each stretch is given one
    step of the chat's own distribution of reply lengths, in a seeded order. Of a stretch, the pair whose
    length is nearest to its step is taken: so the choice spreads over the chat's whole time and is as long
    and short as the owner is there. What the chat's choice already has, and short replies the owner gives
    to anybody ("ok"), are taken only where what is left is far off in length.
    """
    cap = options.max_pairs_per_chat
    by_chat: dict[int, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=time_order):
        by_chat[pair.chat_id].append(pair)
    if cap is None:
        return dict(by_chat)
    common = _commonplaces(pairs)
    left_out["over the cap"] += sum(max(0, len(of_chat) - cap) for of_chat in by_chat.values())
    return {chat: _chosen(of_chat, cap, common, options.seed) for chat, of_chat in by_chat.items()}


def identity(pair: Pair) -> tuple[int, int]:
    """Chat and message: the same in every history that has the pair."""
    return pair.chat_id, pair.message_id


def draw(pair: Pair, seed: int) -> bytes:
    """A number of the pair's own that looks random: orders pairs without an order of arrival."""
    return hashlib.sha256(f"{seed}:{pair.chat_id}:{pair.message_id}".encode()).digest()


def time_order(pair: Pair) -> tuple[datetime, int, int]:
    """For sorting: by date, ties broken by identity."""
    return pair.date, pair.chat_id, pair.message_id


def _commonplaces(pairs: Sequence[Pair]) -> set[str]:
    times = Counter(normalised(pair.reply) for pair in pairs)
    return {reply for reply, n in times.items() if n >= HABIT_LEAST and len(reply.split()) <= HABIT_WORDS}


def _chosen(ordered: Sequence[Pair], cap: int, common: set[str], seed: int) -> list[Pair]:
    if len(ordered) <= cap:
        return list(ordered)
    by_length = sorted(ordered, key=lambda pair: (len(pair.reply), draw(pair, seed)))
    place = {pair.message_id: (rank + 0.5) / len(ordered) for rank, pair in enumerate(by_length)}
    steps = sorted(range(cap), key=lambda k: hashlib.sha256(f"{seed}:{ordered[0].chat_id}:{k}".encode()).digest())
    chosen: list[Pair] = []
    seen: set[str] = set()

    def badness(pair: Pair, step: float) -> tuple[float, bytes]:
        reply = normalised(pair.reply)
        dull = (reply in common) + (reply in seen)
        return abs(place[pair.message_id] - step) + COMMONPLACE * dull, draw(pair, seed)

    for index, step in enumerate(steps):
        stretch = ordered[len(ordered) * index // cap : len(ordered) * (index + 1) // cap]
        pick = min(stretch, key=partial(badness, step=(step + 0.5) / cap))
        seen.add(normalised(pick.reply))
        chosen.append(pick)
    return chosen
