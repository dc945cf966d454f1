"""Which of a model's replies may be shown: whole, sayable, in the conversation's script, and unlike each other."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

from training.dataset.copies import normalised
from training.dataset.manner import script_of
from training.dataset.redact import redact
from training.dataset.render import Turn

DRAFTS = 3
SPARE = 1  # asked for beyond what is wanted: it costs next to nothing, and some reply is always unfit
TRIES = 3  # rounds of asking
RIVALS = (
    2  # for the first place: the most suitable of four clings to its prompt more than the owner does (docs/drafts.md)
)
RUN_WORDS = 8  # of another chat's reply in a row: word for word no longer a turn of phrase
ALIKE = 80  # of 100: replies that are more alike than this are one
LINES = 6
AGAIN = 3  # times the same sentence: a small model going round in circles
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_BEGUN = re.compile(r"<[|/a-z_]*\Z", re.IGNORECASE)  # of a tag, its end not yet there
_FOREIGN = re.compile(r"<\|?/?[a-z_]+\|?>|^\s*(?:they|you|user|assistant|system) ?:", re.IGNORECASE | re.MULTILINE)
_MASK = re.compile(r"\[[a-z ]+\]")
_STUCK = re.compile(r"(.)\1{11,}|(.{2,6}?)\2{9,}|\b(\w+)(?:\W+\3\b){5,}", re.DOTALL | re.IGNORECASE)
_BETWEEN_SENTENCES = re.compile(r"[.!?…\n]+")
_SENTENCE_END = re.compile(r".*(?:[!?…)]|(?<!\d)\.)(?=\s|\Z)", re.DOTALL)  # "1." begins something


@dataclass(frozen=True, slots=True)
class Drawn:
    """A reply as the model gave it; not `whole`: it was cut off.

    `suits`: by how many nats its prompt makes it likelier; None where the engine does not tell.
    """

    text: str
    whole: bool = True
    suits: float | None = None


def suitable(drawn: Drawn, context: Sequence[Turn]) -> str | None:
    """The reply as it may be shown, or None."""
    text = _THOUGHT.sub("", drawn.text).strip()
    if not drawn.whole:
        text = _without_cut_end(text)
    text = "\n".join(line.strip() for line in text.splitlines() if line.strip())
    if not any(c.isalnum() or ord(c) > 0x2190 for c in text) or text.count("\n") >= LINES:
        return None
    if _FOREIGN.search(text) or _MASK.search(text) or _STUCK.search(text) or _circles(text) or redact(text)[1]:
        return None
    return text if _same_script(text, context) and not _echoes(text, context) else None


def so_far(text: str) -> str:
    """What of a reply that still grows may be seen: no thought, no begun tag, nothing that would not be shown whole."""
    seen = _BEGUN.sub("", _THOUGHT.sub("", text)).strip()
    return "" if _FOREIGN.search(seen) or _MASK.search(seen) or redact(seen)[1] else seen


def different(replies: Sequence[Drawn], n: int) -> list[str]:
    """At most `n` replies of which no two are nearly the same, in the order in which they are offered.

    First of the first two, as they were drawn, the one that suits its prompt more, then the others by how they suit.
    Where nobody tells that, by how near they are to all of them.
    """
    values, rivals = [reply.suits for reply in replies if reply.suits is not None], RIVALS
    if len(values) < len(replies):
        values = [sum(_likeness(reply.text, other.text) for other in replies) for reply in replies]
        rivals = len(replies)
    best_first = sorted(range(len(replies)), key=lambda i: -values[i])
    first = [i for i in best_first if i < rivals][:1]
    kept: list[str] = []
    for reply in (replies[i] for i in (*first, *best_first)):  # where the first comes again, it is a copy of itself
        if all(_likeness(reply.text, other) < ALIKE for other in kept):
            kept.append(reply.text)
    return kept[:n]


def _circles(text: str) -> bool:
    sentences = Counter(map(normalised, _BETWEEN_SENTENCES.split(text)))
    return any(times >= AGAIN and " " in sentence for sentence, times in sentences.items())


def _without_cut_end(text: str) -> str:
    """The whole lines; of a single one its whole sentences."""
    head, _, _ = text.rpartition("\n")
    if head.strip():
        return head
    match = _SENTENCE_END.match(text)
    return match[0] if match else ""


def _same_script(text: str, context: Sequence[Turn]) -> bool:
    spoken = {script for turn in context if (script := script_of(turn.text))}
    script = script_of(text)
    return script is None or not spoken or script in spoken


def _echoes(text: str, context: Sequence[Turn]) -> bool:
    """Saying the friend's own message back to him is no reply; a word or two may be ("ok?" — "ok")."""
    said = normalised(context[-1].text) if context else ""
    return len(said.split()) > 2 and normalised(text) == said


def _likeness(one: str, other: str) -> float:
    return fuzz.ratio(normalised(one), normalised(other))
