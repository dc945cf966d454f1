"""Three scripted friends who play the quiz in the sandbox.

They see what a friend in Telegram sees: the poll, and the message above it. They know how the owner
writes from his past messages, and never which reply is his.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bot.sandbox.world import Event, Message, Poll, World

HOW_THEY_CHOOSE = (
    "Ada picks the reply whose letter triples are most like the owner's past messages, Ben the one whose length "
    "is nearest to his usual one, Cleo guesses."
)
LETTERS = "ABC"
SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Judge:
    """A friend and his way of choosing among the replies."""

    user_id: int
    name: str
    choose: Callable[[Sequence[str]], int]


def judges(owner_id: int, own_words: Sequence[str]) -> list[Judge]:
    """The three friends."""
    triples = Counter(triple for text in own_words for triple in _triples(text))
    total = sum(triples.values()) or 1
    usual = median([len(text) for text in own_words] or [0])
    guess = random.Random(owner_id)

    def likeness(text: str) -> float:
        found = _triples(text)
        return sum(triples[triple] / total for triple in found) / max(1, len(found))

    def by_letters(replies: Sequence[str]) -> int:
        return max(range(len(replies)), key=lambda i: likeness(replies[i]))

    def by_length(replies: Sequence[str]) -> int:
        return min(range(len(replies)), key=lambda i: abs(len(replies[i]) - usual))

    ways = (("Ada", by_letters), ("Ben", by_length), ("Cleo", lambda replies: guess.randrange(len(replies))))
    return [Judge(owner_id + 1 + i, name, choose) for i, (name, choose) in enumerate(ways)]


async def play(world: World, owner: int, group: int, friends: Sequence[Judge], n: int) -> list[str]:
    """The owner starts a quiz and lets all questions through, the friends answer; lines about what happened."""
    bot = next(iter(world.bots.values()))
    told: list[str] = []
    async with world.events() as events:
        ready = asyncio.create_task(_next(events, lambda e: _is_from(e, bot.user_id, owner)))
        while not ready.done():  # the bot reads what came before it was up
            world.send(owner, owner, "/start")
            await asyncio.wait([ready], timeout=5)
    async with world.events() as events:
        world.send(owner, group, f"/quiz {n}")
        told.append(f"the owner asks for /quiz {n} in the group; the questions come to him first")
        asked = await _next(events, lambda e: _is_from(e, bot.user_id, owner) and _has(e, "send all"))
        count = sum(_has(Event("message", m), "send to") for m in world.messages.values() if m.chat_id == owner)
        world.tap(owner, asked.what, "send all")
        told.append(f"he looks at {count} questions and taps «send all»")
        body = ""
        for _ in range(count):
            while True:
                event = await _next(events, lambda e: _is_from(e, bot.user_id, group))
                if event.what.poll is not None:
                    break
                body = event.what.text
            _everybody_votes(world, friends, event.what.poll, body)
            body = ""
    told.append(f"{', '.join(f.name for f in friends)} answer {count} polls: {HOW_THEY_CHOOSE}")
    async with world.events() as events:
        world.send(owner, owner, "/standings")
        shown = await _next(events, lambda e: _is_from(e, bot.user_id, owner) and e.what.photo is not None)
    told.append(f"/standings answers with a picture of {len(shown.what.photo.content):,} bytes and:")
    return told


def _everybody_votes(world: World, friends: Sequence[Judge], poll: Poll, body: str) -> None:
    replies = [option.text for option in poll.options]
    if replies == list(LETTERS):
        replies = _from_body(body)
    for friend in friends:
        world.vote(friend.user_id, poll, [friend.choose(replies)])


def _from_body(body: str) -> list[str]:
    """The replies of a message that lists them as A, B, C."""
    texts = []
    for letter, following in zip(LETTERS, (*LETTERS[1:], ""), strict=True):
        start = body.rindex(f"\n\n{letter}  ") + 5 if f"\n\n{letter}  " in body else 0
        end = body.rindex(f"\n\n{following}  ") if following and f"\n\n{following}  " in body else len(body)
        texts.append(body[start:end])
    return texts


async def _next(events: "asyncio.Queue[Event]", wanted: Callable[[Event], bool]) -> Event:
    async with asyncio.timeout(SECONDS):
        while not wanted(event := await events.get()):
            pass
        return event


def _is_from(event: Event, sender: int, chat_id: int) -> bool:
    what = event.what
    return event.kind == "message" and isinstance(what, Message) and (what.sender, what.chat_id) == (sender, chat_id)


def _has(event: Event, label: str) -> bool:
    message: Message = event.what
    return any(button["text"].startswith(label) for row in message.buttons for button in row)


def _triples(text: str) -> list[str]:
    padded = f" {text} "
    return [padded[i : i + 3] for i in range(len(padded) - 2)]
