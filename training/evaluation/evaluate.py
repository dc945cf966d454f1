"""One voice, measured: held-out loss, judges, fit, style, forgetting, leaks, and the gate's verdict.

Everything is measured on the same held-out prompts, for the tuned voice, the stock model and, where it can be, the
owner himself: what he reaches is the ceiling, not 100 %.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from training.dataset.redact import redact
from training.dataset.render import Encoded, Message, encode_example
from training.engine.model import Base
from training.evaluation import fit as fitting
from training.evaluation import forgetting as general
from training.evaluation import judges, replies, ways
from training.evaluation import style as looks
from training.evaluation.intervals import Number, ratio, share
from training.evaluation.measured import Fit, Leaks, Likeness, Measured, Sample, Verified, Voice
from training.evaluation.recital import Training
from training.evaluation.voice import losses_of, total
from training.generate import Sampling

ANSWER_TOKENS = 32  # of a general question
MOST_OF_A_PROMPT = 20  # drafts of one prompt: more would say the same again

Conversation = Sequence[Message]
Tell = Callable[[str, float], None]  # the part that is worked on, and the share of all replies drawn by now


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured; None: all there is."""

    prompts: int | None = None
    drafts: int = 500  # that secrets are looked for in
    questions: int | None = None
    told: int = ways.PROMPTS  # prompts on which the other ways to a voice are tried


FULL = Extent()
SHORT = Extent(prompts=16, drafts=0, questions=40, told=0)  # seconds instead of minutes: the demo's


@dataclass(frozen=True, slots=True)
class Voices:
    """The adapter to be judged and the one that speaks now, as the base knows them, with what each learned from."""

    tuned: str
    training: Sequence[Conversation]
    serving: str | None = None
    serving_training: Sequence[Conversation] = ()


def evaluate(
    base: Base,
    voices: Voices,
    held_out: Sequence[Conversation],
    row_tokens: int,
    *,
    extent: Extent = FULL,
    sampling: Sampling | None = None,
    tell: Tell = lambda part, share: None,
    between: Callable[[], None] = lambda: None,
) -> Measured:
    """Measure a voice. `between` is called between batches: others may use the model there. Takes minutes."""
    started = time.monotonic()
    sampling = sampling or Sampling(seed=0)
    known = {key(one) for one in (*voices.training, *voices.serving_training)}
    clean = [one for one in held_out if key(one) not in known]
    asked = _spread(clean, extent.prompts)
    prompts = [one[:-1] for one in asked]
    more = max(0, min(extent.drafts, MOST_OF_A_PROMPT * len(prompts)) - len(prompts))
    questions = general.items(extent.questions)
    few = _spread(asked, extent.told)
    work = _Work(base, 2 * len(prompts) + more + 2 * len(questions) + 2 * len(few), tell, between)
    work.begin("held-out loss")
    voice = _voice(base, voices, clean, row_tokens, len(held_out) - len(clean))
    work.begin("drafts of the stock model")
    stock = work.draw(None, prompts, sampling)
    work.begin("drafts of the voice")
    tuned = work.draw(voices.tuned, prompts, sampling)
    drafts = list(tuned)
    while len(drafts) < len(prompts) + more:  # to the same prompts again, with other seeds
        again = replace(sampling, seed=(sampling.seed or 0) + len(drafts))
        drafts += work.draw(voices.tuned, prompts[: len(prompts) + more - len(drafts)], again)
    work.begin("general questions")
    answers = [_answers(work, adapter, questions) for adapter in (None, voices.tuned)]
    work.begin("other ways to a voice")
    told = ways.told(voices.training, [one[:-1] for one in few]) if few else []
    otherwise = [work.draw(adapter, told, sampling) for adapter in (None, voices.tuned)]
    work.begin("judging")
    real = [one[-1]["content"] for one in asked]
    lines = [one[-2]["content"] for one in asked]
    verifier = _verifier(voices)
    return Measured(
        voice_name=voices.tuned,
        base_model=base.name,
        serving=voices.serving,
        sampling=sampling,
        voice=voice,
        verifier=_verified(voices, verifier, lines, real, tuned, stock),
        likeness=_likeness(voices, real, tuned, stock),
        fit=_fit(lines, real, tuned, stock),
        style=looks.distances(real, tuned, stock) if asked else {},
        variety={name: looks.variety(of) for name, of in (("real", real), ("tuned", tuned), ("stock", stock))},
        forgetting=general.compare(questions, *answers),
        leaks=_leaks(voices, real, tuned, stock, drafts),
        ways=_ways(verifier, few, dict(zip(map(key, asked), zip(stock, tuned, strict=True), strict=True)), otherwise),
        drafts=tuple(drafts),
        samples=tuple(map(Sample, lines, real, tuned, stock)),
        seconds=time.monotonic() - started,
    )


def _voice(base: Base, voices: Voices, clean: Sequence[Conversation], row_tokens: int, left_out: int) -> Voice:
    encoded: list[Encoded] = [encode_example(base.tokenizer, one, row_tokens) for one in clean]
    found = {}
    for adapter in {None, voices.tuned, voices.serving}:
        with base.speaking(adapter) as model:
            found[adapter] = losses_of(base, model, encoded, row_tokens)
    tuned = found[voices.tuned]

    def over(other: str | None) -> Number:
        differences = [a - b for (a, _), (b, _) in zip(tuned, found[other], strict=True)]
        return ratio(differences, [tokens for _, tokens in tuned], seed=0)

    return Voice(
        examples=len(clean),
        tokens=total(tuned).tokens,
        tuned=total(tuned).loss,
        stock=total(found[None]).loss,
        serving=total(found[voices.serving]).loss if voices.serving else None,
        over_stock=over(None),
        over_serving=over(voices.serving) if voices.serving else None,
        left_out=left_out,
    )


def _answers(work: "_Work", adapter: str | None, asked: Sequence[general.Item]) -> list[str]:
    """Greedy, without likeme's own system line: what is asked here is no chat."""
    prompts = [[{"role": "user", "content": item.question}] for item in asked]
    return work.draw(adapter, prompts, Sampling(temperature=0, max_tokens=ANSWER_TOKENS))


class _Work:
    """Draws replies, and tells how far it is."""

    def __init__(self, base: Base, replies_to_draw: int, tell: Tell, between: Callable[[], None]) -> None:
        self._base, self._tell, self._between = base, tell, between
        self._all, self._done, self._part = max(1, replies_to_draw), 0, ""

    def begin(self, part: str) -> None:
        self._part = part
        self._tell(part, self._done / self._all)

    def draw(self, adapter: str | None, prompts: Sequence[Conversation], how: Sampling) -> list[str]:
        return replies.draw(self._base, adapter, prompts, how, self._before)

    def _before(self, batch: int) -> None:
        self._between()
        self._tell(self._part, self._done / self._all)
        self._done += batch


def _verifier(voices: Voices) -> judges.Verifier:
    return judges.Verifier([one[-1]["content"] for one in voices.training], sorted(_others(voices)))


def _others(voices: Voices) -> set[str]:
    return {m["content"] for one in voices.training for m in one if m["role"] == "user"}


def _verified(
    voices: Voices,
    verifier: judges.Verifier,
    lines: Sequence[str],
    real: Sequence[str],
    tuned: Sequence[str],
    stock: Sequence[str],
) -> Verified:
    others = _others(voices)
    return Verified(
        verifier.compare(tuned, stock),
        verifier.compare(real, stock),
        verifier.compare(tuned, real),
        verifier.quality(real, [line for line in lines if line not in others]),
    )


def _ways(
    verifier: judges.Verifier,
    few: Sequence[Conversation],
    plain: dict[tuple[str, str], tuple[str, str]],
    told: Sequence[Sequence[str]],
) -> dict[str, ways.Way]:
    if not few:
        return {}
    stock, tuned = zip(*(plain[key(one)] for one in few), strict=True)
    drawn = {"stock": stock, "stock, told": told[0], "tuned": tuned, "tuned, told": told[1]}
    lines, real = ([one[place]["content"] for one in few] for place in (-2, -1))
    return ways.compare(verifier, lines, real, drawn)


def _likeness(voices: Voices, real: Sequence[str], tuned: Sequence[str], stock: Sequence[str]) -> Likeness:
    older = [one[-1]["content"] for one in _spread(voices.training, len(real))]
    enough = len(older) == len(real)
    return Likeness(
        judges.distinguishable(real, tuned),
        judges.distinguishable(real, stock),
        judges.distinguishable(real, older) if enough else None,
    )


def _fit(lines: Sequence[str], real: Sequence[str], tuned: Sequence[str], stock: Sequence[str]) -> Fit | None:
    if not fitting.is_there() or not lines:
        return None
    own, voice, other = (fitting.fit(lines, replies_) for replies_ in (real, tuned, stock))
    return Fit(own, voice, other, fitting.of_the_owners(voice, own))


def _leaks(
    voices: Voices, real: Sequence[str], tuned: Sequence[str], stock: Sequence[str], drafts: Sequence[str]
) -> Leaks:
    training = Training([one[-1]["content"] for one in voices.training])
    leaking = sum(bool(redact(draft)[1]) for draft in drafts)
    tuned_, stock_, real_ = (training.recital(of) for of in (tuned, stock, real))
    return Leaks(tuned_, stock_, real_, share(leaking, len(drafts)))


def key(one: Conversation) -> tuple[str, str]:
    """What makes two examples the same: the last line and the reply to it."""
    return one[-2]["content"] if len(one) > 1 else "", one[-1]["content"]


def _spread(items: Sequence[Conversation], n: int | None) -> list[Conversation]:
    """n of them, evenly over the whole."""
    n = len(items) if n is None else min(n, len(items))
    return [items[len(items) * i // n] for i in range(n)]
