"""What is measured of one voice: records alone, as they stand in evaluation.json."""

from dataclasses import asdict, dataclass
from typing import Any

from training.evaluation import forgetting as general
from training.evaluation import gate, judges, ways
from training.evaluation import style as looks
from training.evaluation.intervals import Number, Share
from training.evaluation.recital import Recital
from training.generate import Sampling


@dataclass(frozen=True, slots=True)
class Voice:
    """Held-out loss in nats a reply token. `over_stock`, `over_serving`: the voice's minus the other's."""

    examples: int
    tokens: int
    tuned: float
    stock: float
    serving: float | None
    over_stock: Number
    over_serving: Number | None
    left_out: int  # held-out examples that one of the voices was trained on


@dataclass(frozen=True, slots=True)
class Verified:
    """The verifier's verdicts. `quality`: its AUC, the owner's held-out replies against others' words."""

    tuned_over_stock: judges.Compared
    real_over_stock: judges.Compared
    tuned_over_real: judges.Compared
    quality: float | None


@dataclass(frozen=True, slots=True)
class Likeness:
    """AUC of a fresh classifier between real replies and …; `owner`: between the owner's and his older ones."""

    tuned: Number | None
    stock: Number | None
    owner: Number | None


@dataclass(frozen=True, slots=True)
class Fit:
    """How well replies suit their prompts; 0.5 is chance. `of_the_owners`: the voice's share of his above chance."""

    real: Number
    tuned: Number
    stock: Number
    of_the_owners: float | None


@dataclass(frozen=True, slots=True)
class Leaks:
    """Long runs out of the training replies, and drafts that hold what looks like a secret."""

    tuned: Recital
    stock: Recital
    real: Recital
    secrets: Share


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt with the three replies to it."""

    prompt: str
    real: str
    tuned: str
    stock: str


@dataclass(frozen=True, slots=True)
class Measured:
    """All numbers of one voice. `serving` names the voice it was held against, None: the stock model alone."""

    voice_name: str
    base_model: str
    serving: str | None
    sampling: Sampling
    voice: Voice
    verifier: Verified
    likeness: Likeness
    fit: Fit | None  # None: the embedding's package is not installed
    style: dict[str, looks.Distance]
    variety: dict[str, looks.Variety]
    forgetting: general.Forgetting
    leaks: Leaks
    ways: dict[str, ways.Way]
    drafts: tuple[str, ...]  # every draft of the voice that was looked at
    samples: tuple[Sample, ...]
    seconds: float

    def plain(self, most_forgotten: float = 0.0) -> dict[str, Any]:
        """As JSON takes it, the gate's verdict included."""
        return {**asdict(self), "gate": asdict(gate.judge(self, most_forgotten))}
