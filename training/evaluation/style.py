"""How replies look, whatever they say: length, lines, emoji, punctuation, casing, language, variety."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\u2b50\u2764]|[:;=]-?[)(DPp/|\\]](?!\\w)")
_PUNCTUATION = re.compile(r"[^\w\s]")
# Small words that tell languages of one script apart.
_SMALL_WORDS = {
    "English": "the and you is it to of that i not have this are was with for on my your do what",
    "German": "der die das und ich nicht ist du ein eine es mit auf was wir aber auch noch so ja",
    "French": "le la les et je pas est tu un une que des du on il nous mais pour avec c'est",
    "Spanish": "el los y yo no es tú un una que de se por con pero para muy está lo qué",
    "Italian": "il gli e io non è tu un una che di si per con ma sono come questo ci anche",
    "Turkish": "ve bir bu ben sen değil var yok mi ne için ama çok da de evet hayır gibi şey",
}
_LANGUAGES = [(name, frozenset(words.split())) for name, words in _SMALL_WORDS.items()]


def _share(pattern: re.Pattern[str]) -> Callable[[str], float]:
    return lambda text: len(pattern.findall(text)) / max(1, len(text))


def _capitals(text: str) -> float:
    letters = [c for c in text if c.isalpha()]
    return sum(c.isupper() for c in letters) / len(letters) if letters else 0.0


FEATURES: dict[str, Callable[[str], float]] = {
    "characters": len,
    "words": lambda text: len(_WORD.findall(text)),
    "lines": lambda text: text.count("\n") + 1,  # a burst's messages
    "emoji per character": _share(_EMOJI),
    "punctuation per character": _share(_PUNCTUATION),
    "capitals among letters": _capitals,
    "begins with a capital": lambda text: float(text[:1].isupper()),
    "ends with a full stop": lambda text: float(text.endswith(".")),
    "asks a question": lambda text: float("?" in text),
}


@dataclass(frozen=True, slots=True)
class Distance:
    """One feature: its means, and how far each model's replies lie from the real ones (0 alike, 1 apart)."""

    real: float
    tuned: float
    stock: float
    tuned_distance: float
    stock_distance: float


@dataclass(frozen=True, slots=True)
class Variety:
    """Of a set of replies. `distinct_n`: different n-grams of words over all; `repeated`: share said more than once."""

    distinct_1: float
    distinct_2: float
    repeated: float
    looping: float  # share that says one run of words three times in a row
    empty: float


def distances(real: Sequence[str], tuned: Sequence[str], stock: Sequence[str]) -> dict[str, Distance]:
    """Kolmogorov-Smirnov distances of each feature, and the total variation of the languages."""
    found = {}
    for name, measure in FEATURES.items():
        values = [[measure(text) for text in texts] for texts in (real, tuned, stock)]
        apart = [float(ks_2samp(values[0], other, method="asymp").statistic) for other in values[1:]]
        found[name] = Distance(*(float(np.mean(side)) for side in values), *apart)
    mixes = [_languages(texts) for texts in (real, tuned, stock)]
    usual = max(mixes[0], key=lambda language: mixes[0][language])
    apart = [sum(abs(mixes[0].get(k, 0.0) - mix.get(k, 0.0)) for k in {*mixes[0], *mix}) / 2 for mix in mixes[1:]]
    found[f"language is {usual}"] = Distance(*(mix.get(usual, 0.0) for mix in mixes), *apart)
    return found


def variety(replies: Sequence[str]) -> Variety:
    """How much the replies differ from each other, and inside themselves."""
    words = [[word.casefold() for word in _WORD.findall(text)] for text in replies]
    times = Counter(text.strip().casefold() for text in replies if text.strip())
    n = max(1, len(replies))
    return Variety(
        _distinct(words, 1),
        _distinct(words, 2),
        sum(count for count in times.values() if count > 1) / n,
        sum(map(_loops, words)) / n,
        sum(not text.strip() for text in replies) / n,
    )


def table(texts: Sequence[str]) -> np.ndarray:
    """(texts, features), lengths as logarithms: what a classifier reads beside the letters."""
    rows = [[measure(text) for measure in FEATURES.values()] for text in texts]
    return np.array([[math.log1p(value) if value >= 1 else value for value in row] for row in rows])


def language(text: str) -> str:
    """By script, and in the Latin one by small words; "unclear" for an "ok"."""
    scripts = Counter(unicodedata.name(c, "?").split()[0] for c in text if c.isalpha())
    script = scripts.most_common(1)[0][0] if scripts else "LATIN"
    if script != "LATIN":
        return script.capitalize()
    words = [word.casefold() for word in _WORD.findall(text)]
    hits = {name: sum(word in small for word in words) for name, small in _LANGUAGES}
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] else "unclear"


def _languages(texts: Sequence[str]) -> dict[str, float]:
    counts = Counter(map(language, texts))
    return {name: count / max(1, len(texts)) for name, count in counts.items()}


def _distinct(words: Sequence[Sequence[str]], n: int) -> float:
    grams = [tuple(of[i : i + n]) for of in words for i in range(len(of) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _loops(words: Sequence[str]) -> bool:
    for size in range(1, len(words) // 3 + 1):
        for start in range(len(words) - 3 * size + 1):
            run = words[start : start + size]
            if run == words[start + size : start + 2 * size] == words[start + 2 * size : start + 3 * size]:
                return True
    return False
