"""Four ways to a voice on the same prompts: the stock model, the stock model told of the owner, the tuned voice, both.

Told: his manner, measured, and how he answered the most similar lines of the training set. Fine-tuning should win the
manner, examples the matter; whether both together are best here is what this says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from training.dataset.manner import measure
from training.dataset.prompting import Exchange, prompted
from training.dataset.render import Message, Turn
from training.evaluation import fit, judges
from training.evaluation.intervals import Number, Share

PROMPTS = 100  # long ones: told prompts are several times as long as the others
EXCHANGES = 4

Conversation = Sequence[Message]


@dataclass(frozen=True, slots=True)
class Way:
    """How one way's replies are judged: against the stock model's, against the owner's, against their prompts."""

    over_stock: Share
    likeness: Number | None  # AUC between real and this; 0.5 is the aim
    fit: Number | None


def told(training: Sequence[Conversation], prompts: Sequence[Conversation]) -> list[list[Message]]:
    """The same prompts with the owner's manner and his answers to similar lines before them."""
    manner = measure((number, one[-1]["content"]) for number, one in enumerate(training))
    exchanges = [Exchange(one[-2]["content"], one[-1]["content"]) for one in training]
    vectors = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\w+")
    known = vectors.fit_transform([exchange.said for exchange in exchanges])
    near = (vectors.transform([prompt[-1]["content"] for prompt in prompts]) @ known.T).toarray()
    found = []
    for prompt, likeness in zip(prompts, near, strict=True):
        best = np.argsort(likeness, kind="stable")[-EXCHANGES:]  # the most similar stands last
        context = [Turn(message["role"], message["content"]) for message in prompt if message["role"] != "system"]
        found.append(prompted(context, manner, [exchanges[i] for i in best if likeness[i] > 0]))
    return found


def compare(
    verifier: judges.Verifier, lines: Sequence[str], real: Sequence[str], drawn: dict[str, Sequence[str]]
) -> dict[str, Way]:
    """`drawn`: each way's replies to `lines`, the stock model's under "stock"."""
    return {
        name: Way(
            verifier.compare(replies, drawn["stock"]).single,
            judges.distinguishable(real, replies),
            fit.fit(lines, replies) if fit.is_there() else None,
        )
        for name, replies in {"real": real, **drawn}.items()
    }
