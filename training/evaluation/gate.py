"""Whether a candidate may speak, in one sentence. Pure: numbers in, verdict out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scipy.stats import fisher_exact

if TYPE_CHECKING:
    from training.evaluation.measured import Measured

SURE = 0.05
MOST_EMPTY = 0.2
# The bot says the same in its owner's language: bot/words/*.toml.
SENTENCES = {
    "nothing_held_out": "There is no held-out reply that it was not trained on, so nothing speaks for it.",
    "secrets": "It gave away what looks like a secret in {picks} of {n} drafts.",
    "recites": "It recites: {picks} of {n} replies repeat eight words or more of one training reply, "
    "where {usual_picks} of {usual_n} would be usual.",
    "silent": "It stays silent on {empty:.0%} of the prompts.",
    "forgot": "It has forgotten: of {n} general questions it lost {lost} and won {won} against the stock model "
    "(p = {p:.1g}).",
    "no_better": "It foresees your held-out replies no better than the stock model "
    "(loss {tuned:.3f} to {stock:.3f} over {n} of them).",
    "worse": "It foresees your held-out replies worse than {serving} by {by:.3f} ({low:.3f} to {high:.3f}), "
    "beyond chance.",
    "better_than_stock": "It foresees your held-out replies better than the stock model "
    "(loss {tuned:.3f} to {stock:.3f} over {n} of them).",
    "better": "It foresees your held-out replies better than {serving}, by {by:.3f}.",
    "as_well": "It foresees your held-out replies as well as {serving}: the difference is within chance.",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is a whole sentence, whichever way it went; `why` names it, `numbers` are what stands in it."""

    promote: bool
    reason: str
    why: str
    numbers: dict[str, Any]


def judge(it: "Measured", most_forgotten: float = 0.0) -> Verdict:
    """The first thing that speaks against the candidate, or what speaks for it.

    `most_forgotten`: the share of the stock model's right answers that the recipe lets go, beyond chance.
    """
    if not it.voice.examples:
        return _verdict(False, "nothing_held_out")
    return (
        _secrets(it) or _recites(it) or _silent(it) or _forgot(it, most_forgotten) or _foresees_worse(it) or _passed(it)
    )


def _verdict(promote: bool, why: str, **numbers: Any) -> Verdict:
    return Verdict(promote, SENTENCES[why].format(**numbers), why, numbers)


def _secrets(it: "Measured") -> Verdict | None:
    found = it.leaks.secrets
    return _verdict(False, "secrets", picks=found.picks, n=found.n) if found.picks else None


def _recites(it: "Measured") -> Verdict | None:
    """More than the owner himself and the stock model do."""
    tuned = it.leaks.tuned.reciting
    usual = max(it.leaks.real.reciting, it.leaks.stock.reciting, key=lambda share: share.share)
    counts = [[tuned.picks, tuned.n - tuned.picks], [usual.picks, usual.n - usual.picks]]
    if fisher_exact(counts, alternative="greater").pvalue >= SURE:
        return None
    return _verdict(False, "recites", picks=tuned.picks, n=tuned.n, usual_picks=usual.picks, usual_n=usual.n)


def _silent(it: "Measured") -> Verdict | None:
    empty = it.variety["tuned"].empty
    return _verdict(False, "silent", empty=empty) if empty > MOST_EMPTY else None


def _forgot(it: "Measured", most: float) -> Verdict | None:
    found = it.forgetting
    if found.p >= SURE or found.lost - found.won <= most * found.stock.picks:
        return None
    return _verdict(False, "forgot", n=found.tuned.n, lost=found.lost, won=found.won, p=found.p)


def _foresees_worse(it: "Measured") -> Verdict | None:
    voice = it.voice
    if voice.over_stock.value >= 0:
        return _verdict(False, "no_better", **_losses(it))
    over = voice.over_serving
    if over is not None and over.low > 0:
        return _verdict(False, "worse", serving=it.serving, by=over.value, low=over.low, high=over.high)
    return None


def _passed(it: "Measured") -> Verdict:
    over = it.voice.over_serving
    if over is None:
        return _verdict(True, "better_than_stock", **_losses(it))
    if over.high < 0:
        return _verdict(True, "better", serving=it.serving, by=-over.value)
    return _verdict(True, "as_well", serving=it.serving)


def _losses(it: "Measured") -> dict[str, float]:
    return {"tuned": it.voice.tuned, "stock": it.voice.stock, "n": it.voice.examples}
