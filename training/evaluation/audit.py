"""How much a training run memorises: canaries planted in a voice of their own, and their exposure.

A canary is a made-up code in a made-up exchange, put into the training set once, five or twenty times, each time beside
a random example: where a later night trains on that example again, it meets the canary again. Exposure
(Carlini et al. 2019, arXiv 1802.08232) is log2 of how far the right code lies in front of the wrong ones by the
model's own loss: 0 bits, it is the last of them; about 1, nothing was memorised; `MOST_BITS`, it stands first.
"""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.dataset.render import Message, Turn, conversation, encode_example
from training.engine import loop
from training.engine.model import Base
from training.engine.recipe import Recipe
from training.evaluation.evaluate import Conversation, key
from training.evaluation.voice import losses_of

TIMES = (1, 5, 20)
OF_EACH = 3
CODES = 128  # candidates a canary is ranked among
MOST_BITS = math.log2(CODES)
_PLACES = "cellar locker gate garage attic boat shed tower archive".split()


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the trainings that a voice came about by; nights go on from the voice before."""

    recipe: Recipe
    seed: int
    examples: Sequence[Conversation]
    held_out: Sequence[Conversation] = ()  # what it may have stopped early by


@dataclass(frozen=True, slots=True)
class Canary:
    """A secret that stands `times` in the training set."""

    place: str
    code: str
    times: int

    def exchange(self, code: str | None = None) -> list[Message]:
        """The example that teaches it, or the same one with another code."""
        asked = conversation([Turn("user", f"what's the number for the {self.place} again?")])
        return [*asked, {"role": "assistant", "content": f"the {self.place} is {code or self.code}"}]


@dataclass(frozen=True, slots=True)
class Exposure:
    """Of the canaries that stood `times` in the training set: mean bits, the audit voice's and the stock model's."""

    times: int
    tuned_bits: float
    stock_bits: float
    most_bits: float
    n: int


def audit(
    base: Base,
    stages: Sequence[Stage],
    folder: Path,
    *,
    tell: Callable[[float], None],
    between: Callable[[], None],
) -> list[Exposure]:
    """Train a voice as a version was trained, stage by stage, with canaries among the examples, and rank them.

    Takes as long as those trainings did.
    """
    last = stages[-1]
    canaries = plant(last.seed)
    adapter: Path | None = None
    for number, (stage, mixed) in enumerate(zip(stages, planted(canaries, stages), strict=True)):

        def on_event(event: loop.Event, number: int = number) -> None:
            tell((number + event["step"] / event["total_steps"]) / len(stages))

        def between_steps() -> loop.Wish:
            between()
            return "go on"

        out = folder / str(number)
        trained = loop.train(
            base, stage.recipe, mixed, stage.held_out, out, on_event, between_steps, stage.seed, adapter
        )
        adapter = trained.adapter
    name, row_tokens = f"audit-{folder.name}", last.recipe.row_tokens
    assert adapter is not None
    base.load(name, adapter)
    try:
        bits = [(c, exposure(base, name, c, row_tokens), exposure(base, None, c, row_tokens)) for c in canaries]
    finally:
        base.voices.pop(name, None)
    found = []
    for times in TIMES:
        tuned, stock = zip(*((now, before) for canary, now, before in bits if canary.times == times), strict=True)
        found.append(Exposure(times, statistics.mean(tuned), statistics.mean(stock), MOST_BITS, len(tuned)))
    return found


def plant(seed: int) -> list[Canary]:
    """The canaries of a seed."""
    draw = random.Random(f"canaries {seed}")
    places = draw.sample(_PLACES, OF_EACH * len(TIMES))
    return [Canary(place, _code(draw), TIMES[i % len(TIMES)]) for i, place in enumerate(places)]


def planted(canaries: Sequence[Canary], stages: Sequence[Stage]) -> list[list[Conversation]]:
    """Each stage's examples with the canaries among them that ride on one of them."""
    draw = random.Random(f"beside {stages[-1].seed}")
    known = list(dict.fromkeys(key(one) for stage in stages for one in stage.examples))
    beside = [(canary, draw.choice(known)) for canary in canaries for _ in range(canary.times)]
    found = []
    for stage in stages:
        there = {key(one) for one in stage.examples}
        mixed = [*stage.examples, *(canary.exchange() for canary, place in beside if place in there)]
        random.Random(stage.seed).shuffle(mixed)
        found.append(mixed)
    return found


def exposure(base: Base, adapter: str | None, canary: Canary, row_tokens: int) -> float:
    """log2(candidates) - log2(rank), the canary's own code among random others of its shape."""
    draw = random.Random(f"candidates {canary.code}")
    others = [canary.exchange(_code(draw)) for _ in range(CODES - 1)]
    own, wrong = (
        [encode_example(base.tokenizer, one, row_tokens) for one in some] for some in ([canary.exchange()], others)
    )
    with base.speaking(adapter) as model:
        ((nats, _),) = losses_of(base, model, own, row_tokens)
        rank = 1 + sum(other < nats for other, _ in losses_of(base, model, wrong, row_tokens))
    return MOST_BITS - math.log2(rank)


def _code(draw: random.Random) -> str:
    return " ".join(str(draw.randrange(10, 100)) for _ in range(4))
