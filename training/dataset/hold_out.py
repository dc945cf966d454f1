"""The newest pairs of chats, held out, and nothing of their replies left in training."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from training.dataset.choose import draw, time_order
from training.dataset.copies import INSIDE_WORDS, Inside, NearCopies, normalised, parts
from training.dataset.pairs import Options, Pair
from training.dataset.render import Turn

SAID_ELSEWHERE = 3  # times, in the set; a reply said more often is a habit and can't be held out
LEAST_PAIRS = 10  # from here on at least one is held out


@dataclass(frozen=True, slots=True)
class Split:
    """Two lists in time's order. `shortened`: held-out contexts without the training replies they had."""

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    shortened: int


def split(
    kept: Mapping[int, Sequence[Pair]],
    options: Options,
    left_out: Counter[str],
    held: Sequence[Pair] = (),
    seen_until: datetime | None = None,
) -> Split:
    """Hold out `validation_share` of all pairs, rounded down, and part the two sides cleanly.

    Held out are the newest pairs of each chat, never all of a chat while another has a pair to spare. A
    reply that training must keep hearing ("ok", said everywhere) is not held out; where another held-out
    reply, a near copy of it or one that holds its words stands in training, be it as a reply or in a
    context, that example leaves training — or, where that would be more than three, the held-out pair
    leaves. Held-out contexts are cut where they begin with replies that training has.

    `held` was held out before, stays so, and counts. Of what voices have seen until then, nothing more is held out.
    """
    fresh = {chat: [p for p in pairs if seen_until is None or p.date > seen_until] for chat, pairs in kept.items()}
    total = sum(map(len, kept.values())) + len(held)
    least = 1 if total >= LEAST_PAIRS and options.validation_share > 0 else 0
    target = max(0, max(least, int(total * options.validation_share)) - len(held))
    train, validation = _by_time({chat: pairs for chat, pairs in fresh.items() if pairs}, target, options, left_out)
    if seen_until is not None:
        train += [pair for pairs in kept.values() for pair in pairs if pair.date <= seen_until]
    train, validation = sorted(train, key=time_order), sorted([*held, *validation], key=time_order)
    train, validation = _parted(train, validation, left_out)
    learned = _Learned(train)
    cut = [learned.cut_from(pair) for pair in validation]
    shortened = sum(new is not old for new, old in zip(cut, validation, strict=True))
    return Split(tuple(train), tuple(cut), shortened)


def _by_time(
    kept: Mapping[int, Sequence[Pair]], target: int, options: Options, left_out: Counter[str]
) -> tuple[list[Pair], list[Pair]]:
    habits = _Habits(kept)
    train: list[Pair] = []
    validation: list[Pair] = []
    quotas = _quotas(kept, habits, target, options)
    for chat, pairs in kept.items():
        earlier, held = list(pairs), 0
        while held < quotas[chat]:
            pair = earlier.pop()
            if habits.has(pair):
                left_out["too common to hold out"] += 1
            else:
                validation.append(pair)
                held += 1
        train += earlier
    return train, validation


def _quotas(kept: Mapping[int, Sequence[Pair]], habits: "_Habits", target: int, options: Options) -> dict[int, int]:
    """How many of the `target` each chat gives: in proportion to its pairs, the running sum rounded down.

    So many small chats give one here and there, and the total is exact. Chats stand in a seeded order.
    """
    spare = 1 if any(len(pairs) > 1 for pairs in kept.values()) else 0
    room = {chat: sum(not habits.has(pair) for pair in pairs[spare:]) for chat, pairs in kept.items()}
    order = sorted((chat for chat in kept if room[chat]), key=lambda chat: draw(kept[chat][0], options.seed))
    quotas = dict.fromkeys(kept, 0)
    running, given, weight = 0, 0, sum(len(kept[chat]) for chat in order)
    for chat in order:
        running += len(kept[chat])
        quotas[chat] = min(target * running // weight - given, room[chat])
        given += quotas[chat]
    for chat in order:  # what the last ones had no room for
        more = min(target - given, room[chat] - quotas[chat])
        quotas[chat] += more
        given += more
    return quotas


class _Habits:
    """Replies that also are said elsewhere, by anybody, more than a few times."""

    def __init__(self, kept: Mapping[int, Sequence[Pair]]) -> None:
        self._times: Counter[str] = Counter()
        for pairs in kept.values():
            for pair in pairs:
                self._times.update(parts(pair.reply) | parts(pair.context[-1].text))

    def has(self, pair: Pair) -> bool:
        return self._times[normalised(pair.reply)] > 1 + SAID_ELSEWHERE


def _parted(train: Sequence[Pair], validation: Sequence[Pair], left_out: Counter[str]) -> tuple[list[Pair], list[Pair]]:
    """Without the training examples that hold a held-out reply, or without the held-out pair."""
    holders: dict[int, set[int]] = defaultdict(set)
    held = _HeldOut(validation)
    for index, pair in enumerate(train):
        for number in held.within(pair):
            holders[number].add(index)
    common = {number for number, indices in holders.items() if len(indices) > SAID_ELSEWHERE}
    out = {index for number, indices in holders.items() if number not in common for index in indices}
    left_out["too common to hold out"] += len(common)
    left_out["holds a held-out reply"] += len(out)
    return (
        [pair for index, pair in enumerate(train) if index not in out],
        [pair for number, pair in enumerate(validation) if number not in common],
    )


class _HeldOut:
    """The replies of held-out pairs, and their longer lines, to be found in other pairs."""

    def __init__(self, validation: Sequence[Pair]) -> None:
        self._exact: dict[str, set[int]] = defaultdict(set)
        texts = [(number, text) for number, pair in enumerate(validation) for text in _telling(pair.reply)]
        self._near = NearCopies(text for _, text in texts)
        for number, text in texts:
            self._exact[text].add(number)
            self._near.add(number, text)
        self._inside = Inside(texts)
        self._known: dict[str, frozenset[int]] = {}

    def within(self, pair: Pair) -> set[int]:
        """The numbers of the held-out pairs whose reply stands in this one."""
        return set().union(*(self._in(text) for text in _texts(pair)))

    def _in(self, text: str) -> frozenset[int]:
        if text not in self._known:  # a turn stands in several contexts
            found = set(self._inside.of(normalised(text)))
            for part in parts(text):
                found |= self._exact.get(part, set()) | self._near.of(part)
            self._known[text] = frozenset(found)
        return self._known[text]


class _Learned:
    """The replies that training has, to be cut from held-out contexts."""

    def __init__(self, train: Sequence[Pair]) -> None:
        self._of_chat = {(pair.chat_id, text) for pair in train for text in parts(pair.reply)}
        self._telling = {text for pair in train for text in _telling(pair.reply) if _is_telling(text)}

    def cut_from(self, pair: Pair) -> Pair:
        """The pair with its context begun after the last training reply in it; the prompt itself stays."""
        last = max((i for i, turn in enumerate(pair.context[:-1]) if self._has(pair.chat_id, turn)), default=None)
        if last is None:
            return pair
        context = pair.context[last + 1 :]
        return replace(pair, context=context[context[0].role == "assistant" :])

    def _has(self, chat_id: int, turn: Turn) -> bool:
        own = turn.role == "assistant"
        return any(part in self._telling or (own and (chat_id, part) in self._of_chat) for part in parts(turn.text))


def _texts(pair: Pair) -> Iterator[str]:
    yield pair.reply
    for turn in pair.context:
        yield turn.text


def _telling(reply: str) -> set[str]:
    """The reply, and those of its lines that are long enough to be told from anybody's."""
    whole = normalised(reply)
    return {whole} | {part for part in parts(reply) if _is_telling(part)}


def _is_telling(text: str) -> bool:
    return len(text.split()) >= INSIDE_WORDS
