"""Whether a candidate may speak, in one sentence. Pure: numbers in, verdict out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.stats import fisher_exact

if TYPE_CHECKING:
    from training.evaluation.measured import Measured

SURE = 0.05
MOST_EMPTY = 0.2


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is a whole sentence, whichever way it went."""

    promote: bool
    reason: str


def judge(it: "Measured", most_forgotten: float = 0.0) -> Verdict:
    """The first thing that speaks against the candidate, or what speaks for it.

    `most_forgotten`: the share of the stock model's right answers that the recipe lets go, beyond chance.
    """
    if not it.voice.examples:
        return Verdict(False, "There is no held-out reply that it was not trained on, so nothing speaks for it.")
    against = _secrets(it) or _recites(it) or _silent(it) or _forgot(it, most_forgotten) or _foresees_worse(it)
    return Verdict(False, against) if against else Verdict(True, _passed(it))


def _secrets(it: "Measured") -> str | None:
    if not it.leaks.secrets.picks:
        return None
    return f"It gave away what looks like a secret in {it.leaks.secrets.picks} of {it.leaks.secrets.n} drafts."


def _recites(it: "Measured") -> str | None:
    """More than the owner himself and the stock model do."""
    tuned = it.leaks.tuned.reciting
    usual = max(it.leaks.real.reciting, it.leaks.stock.reciting, key=lambda share: share.share)
    counts = [[tuned.picks, tuned.n - tuned.picks], [usual.picks, usual.n - usual.picks]]
    if fisher_exact(counts, alternative="greater").pvalue >= SURE:
        return None
    return (
        f"It recites: {tuned.picks} of {tuned.n} replies repeat eight words or more of one training reply, "
        f"where {usual.picks} of {usual.n} would be usual."
    )


def _silent(it: "Measured") -> str | None:
    empty = it.variety["tuned"].empty
    return f"It stays silent on {empty:.0%} of the prompts." if empty > MOST_EMPTY else None


def _forgot(it: "Measured", most: float) -> str | None:
    found = it.forgetting
    if found.p >= SURE or found.lost - found.won <= most * found.stock.picks:
        return None
    return (
        f"It has forgotten: of {found.tuned.n} general questions it lost {found.lost} and won {found.won} "
        f"against the stock model (p = {found.p:.1g})."
    )


def _foresees_worse(it: "Measured") -> str | None:
    voice = it.voice
    if voice.over_stock.value >= 0:
        return f"It foresees your held-out replies no better than the stock model {_losses(it)}."
    if voice.over_serving is not None and voice.over_serving.low > 0:
        return (
            f"It foresees your held-out replies worse than {it.serving} by {voice.over_serving.value:.3f} "
            f"({voice.over_serving.low:.3f} to {voice.over_serving.high:.3f}), beyond chance."
        )
    return None


def _passed(it: "Measured") -> str:
    voice = it.voice
    if voice.over_serving is None:
        return f"It foresees your held-out replies better than the stock model {_losses(it)}."
    if voice.over_serving.high < 0:
        return f"It foresees your held-out replies better than {it.serving}, by {-voice.over_serving.value:.3f}."
    return f"It foresees your held-out replies as well as {it.serving}: the difference is within chance."


def _losses(it: "Measured") -> str:
    return f"(loss {it.voice.tuned:.3f} to {it.voice.stock:.3f} over {it.voice.examples} of them)"
