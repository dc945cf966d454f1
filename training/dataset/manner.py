"""How the owner writes, measured: what an untrained model is told of him. Numbers and habits, never facts."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import mean, median, quantiles

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
OPENERS, EMOJI = 6, 5
OPENER_CHATS = 3  # a word that opens replies in fewer chats may be a name
LEAST = 8  # replies: below that nothing is said about habits


@dataclass(frozen=True, slots=True)
class Manner:
    """Shares are of replies, 0 to 1."""

    replies: int
    words: float  # median
    longest_words: float  # nine of ten are no longer
    lines: float  # mean number of messages a reply is sent in
    lower_case: float  # begin with a small letter, where the script has them
    full_stop: float  # end with one
    question: float
    exclamation: float
    emoji: float
    favourite_emoji: tuple[str, ...]
    openers: tuple[str, ...]
    scripts: tuple[str, ...]  # in which a tenth and more of the replies are written, the usual one first


def measure(replies: Iterable[tuple[int, str]]) -> Manner | None:
    """From (chat id, whole reply); None when there are too few to speak of habits."""
    found = [(chat, text.strip()) for chat, text in replies if text.strip()]
    if len(found) < LEAST:
        return None
    texts = [text for _, text in found]
    lengths = [len(text.split()) for text in texts]
    cased = [text[0].islower() for text in texts if text[0].isupper() or text[0].islower()]
    emoji = Counter(one for text in texts for one in _emoji(text))
    scripts = Counter(script for text in texts if (script := script_of(text)))
    return Manner(
        replies=len(texts),
        words=median(lengths),
        longest_words=quantiles(lengths, n=10)[-1],
        lines=mean(text.count("\n") + 1 for text in texts),
        lower_case=mean(cased) if cased else 0.0,
        full_stop=_share(texts, lambda text: text.endswith(".") and not text.endswith("..")),
        question=_share(texts, lambda text: "?" in text),
        exclamation=_share(texts, lambda text: "!" in text),
        emoji=_share(texts, lambda text: bool(_emoji(text))),
        favourite_emoji=tuple(one for one, _ in emoji.most_common(EMOJI)),
        openers=_openers(found),
        scripts=tuple(script for script, count in scripts.most_common() if count >= len(texts) / 10),
    )


def describe(manner: Manner) -> str:
    """A few sentences for a model."""
    said = [
        f"A message of yours has usually about {manner.words:.0f} words, seldom more than {manner.longest_words:.0f}.",
        "You begin with a small letter." if manner.lower_case > 0.6 else "",
        "You begin with a capital letter." if manner.lower_case < 0.2 else "",
        "You leave out the full stop at the end." if manner.full_stop < 0.2 else "",
        "You end with a full stop." if manner.full_stop > 0.6 else "",
        f"You use emoji like {' '.join(manner.favourite_emoji[:3])}." if manner.emoji > 0.2 else "",
        "You use no emoji." if manner.emoji < 0.03 else "",
        "You often ask back." if manner.question > 0.35 else "",
        "You like exclamation marks." if manner.exclamation > 0.3 else "",
        "You use no exclamation marks." if manner.exclamation < 0.02 else "",
        "You send several short messages in a row, one a line." if manner.lines > 1.6 else "",
        f"You often begin with: {', '.join(manner.openers)}." if manner.openers else "",
    ]
    return " ".join(sentence for sentence in said if sentence)


def script_of(text: str) -> str | None:
    """The script of most of a text's letters, as Unicode names it ("LATIN", "CYRILLIC"); None without letters."""
    letters = Counter(unicodedata.name(c, "?").split()[0] for c in text if c.isalpha())
    return letters.most_common(1)[0][0] if letters else None


def _share(texts: Sequence[str], holds: Callable[[str], bool]) -> float:
    return mean(map(holds, texts))


def _emoji(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c) == "So" and ord(c) > 0x2190]


def _openers(found: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    """First words that open replies in several chats, the commonest first."""
    firsts = sorted({(match[0].casefold(), chat) for chat, text in found if (match := _WORD.match(text))})
    chats = {word: len(list(group)) for word, group in groupby(firsts, key=lambda pair: pair[0])}
    counts = Counter(match[0].casefold() for _, text in found if (match := _WORD.match(text)))
    common = [word for word, count in counts.most_common() if count >= 3 and chats[word] >= OPENER_CHATS]
    return tuple(common[:OPENERS])
