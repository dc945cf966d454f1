"""What another person was told lends its manner, not its facts: names, numbers, links and addresses go.

Coarser than `redact`, on purpose: there a wrong mask spoils training, here it costs an example its place.
"""

import re
from collections.abc import Collection

from training.dataset.redact import redact

_LINK = re.compile(r"\b(?:https?://|www\.|t\.me/)\S+|(?<!\w)@\w+", re.IGNORECASE)
_NUMBER = re.compile(r"\d[\d.,:/ -]*\d|\d")
_SENTENCE = re.compile(r"(?:^|[.!?…:\n\"“«(]\s*|[-–—]\s+)\W*$")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_ALWAYS_CAPITAL = {"I", "I'm", "I'd", "I'll", "I've", "I’m", "I’d", "I’ll", "I’ve", "OK", "Ok", "LOL", "TV", "PS"}
NAME_LETTERS = 3  # shorter parts of a name are words of some language


def masked(text: str, names: Collection[str]) -> str:
    """`text` without facts; `names` are casefolded words of the names of everybody the owner knows."""
    text = redact(text)[0]
    text = _LINK.sub("[link]", text)
    text = _WORD.sub(lambda match: "[name]" if _is_name(match, text, names) else match[0], text)
    return _NUMBER.sub("[number]", text)


def name_words(names: Collection[str]) -> frozenset[str]:
    """What `masked` takes, from chat names."""
    words = (match[0].casefold() for name in names for match in _WORD.finditer(name))
    return frozenset(word for word in words if len(word) >= NAME_LETTERS)


def _is_name(match: re.Match[str], text: str, names: Collection[str]) -> bool:
    word = match[0]
    if word.casefold() in names or word.casefold().removesuffix("'s").removesuffix("’s") in names:
        return True
    if text[match.start() - 1 : match.start()] == "[":
        return False  # a mask
    begins = _SENTENCE.search(text[: match.start()])
    return word[0].isupper() and not word.isupper() and begins is None and word not in _ALWAYS_CAPITAL
