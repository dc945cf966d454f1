"""How much a training run memorises: canaries planted in a voice of their own, and their exposure.

A canary is a made-up code in a made-up exchange, put into the training set once, five or twenty times. Exposure
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
from training.evaluation.voice import losses_of

TIMES = (1, 5, 20)
OF_EACH = 3
CODES = 128  # candidates a canary is ranked among
MOST_BITS = math.log2(CODES)
_PLACES = "cellar locker gate garage attic boat shed tower archive".split()


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
    recipe: Recipe,
    examples: Sequence[Sequence[Message]],
    folder: Path,
    *,
    seed: int,
    tell: Callable[[float], None],
    between: Callable[[], None],
) -> list[Exposure]:
    """Train a voice on `examples` and the canaries, as its version was trained, and rank them.

    Takes as long as a training.
    """
    canaries = plant(seed)
    taught = [canary.exchange() for canary in canaries for _ in range(canary.times)]
    mixed = [list(one) for one in examples] + taught
    random.Random(seed).shuffle(mixed)

    def on_event(event: loop.Event) -> None:
        tell(event["step"] / event["total_steps"])

    def between_steps() -> loop.Wish:
        between()
        return "go on"

    trained = loop.train(base, recipe, mixed, [], folder, on_event, between_steps, seed)
    assert trained.adapter is not None
    name = f"audit-{folder.name}"
    base.load(name, trained.adapter)
    try:
        bits = [
            (c, exposure(base, name, c, recipe.row_tokens), exposure(base, None, c, recipe.row_tokens))
            for c in canaries
        ]
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
