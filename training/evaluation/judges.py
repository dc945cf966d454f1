"""Automatic judges that know nothing of the model: who wrote this, and can the two be told apart?

The verifier learns the owner against others from the training set: character 3-5-grams, TF-IDF, logistic
regression. It works in any language, and it can be wrong: its own quality stands beside its verdicts. Single
replies are short, so bundles of them are judged as well.

The honest test of likeness is a fresh classifier, trained to tell the owner's real replies from the model's: its
cross-validated AUC is 0.5 when nobody can. How well it tells the owner from himself is the floor.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from training.evaluation import style
from training.evaluation.intervals import Number, Share, share

BUNDLE = 16  # replies judged together
FOLDS = 5
RESAMPLES = 400
SILENCE = -20.0  # log-odds: no words are nobody's
LEAST = 2 * FOLDS  # prompts; with fewer no classifier can be held to account


@dataclass(frozen=True, slots=True)
class Compared:
    """How often the first of two was the more like the owner: single replies, and bundles of `bundle`."""

    single: Share
    bundles: Share
    bundle: int = BUNDLE


class Verifier:
    """How much a text is like the owner's, learned from his replies and what others wrote to him."""

    def __init__(self, own: Sequence[str], others: Sequence[str]) -> None:
        enough = 2 if len(own) + len(others) > LEAST else 1
        vectors = TfidfVectorizer(
            analyzer="char", ngram_range=(3, 5), min_df=enough, max_features=200_000, sublinear_tf=True
        )
        judge = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000, solver="liblinear")
        self._judge = make_pipeline(vectors, judge)
        self._judge.fit([*own, *others], [1] * len(own) + [0] * len(others))

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Log-odds that the owner wrote it, (texts,)."""
        found = self._judge.decision_function(list(texts)) if texts else np.zeros(0)
        return np.where([bool(text.strip()) for text in texts], found, SILENCE)

    def compare(self, first: Sequence[str], second: Sequence[str], seed: int = 0) -> Compared:
        """Replies to the same prompts in the same order. A tie is half a win, rounded down."""
        one, other = self.scores(first), self.scores(second)
        order = random.Random(seed).sample(range(len(one)), len(one))
        bundles = [order[i : i + BUNDLE] for i in range(0, len(order) - BUNDLE + 1, BUNDLE)]
        sums = [np.array([scores[bundle].sum() for bundle in bundles]) for scores in (one, other)]
        return Compared(_wins(one, other), _wins(*sums))

    def quality(self, own: Sequence[str], others: Sequence[str]) -> float | None:
        """Its AUC on texts that it has not seen; None where a side is missing."""
        if not own or not others:
            return None
        return float(roc_auc_score([1] * len(own) + [0] * len(others), self.scores([*own, *others])))


def distinguishable(real: Sequence[str], machine: Sequence[str], seed: int = 0) -> Number | None:
    """The AUC of a fresh classifier between two replies to each prompt; resampled by prompt. None for a handful."""
    n = len(real)
    if n < LEAST:
        return None
    texts, labels = [*real, *machine], np.array([1] * n + [0] * n)
    groups = np.array([*range(n), *range(n)])  # both replies to a prompt on one side of a fold: no prompt is learned
    classifier = make_pipeline(
        make_union(
            TfidfVectorizer(analyzer="char", ngram_range=(1, 4), min_df=2, sublinear_tf=True),
            make_pipeline(FunctionTransformer(style.table), StandardScaler()),
        ),
        LogisticRegression(C=1.0, max_iter=2000, solver="liblinear"),
    )
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    scores = cross_val_predict(classifier, texts, labels, groups=groups, cv=folds, method="decision_function")
    draw = np.random.default_rng(seed)
    again = []
    for _ in range(RESAMPLES):
        prompts = draw.integers(n, size=n)
        chosen = np.concatenate([prompts, prompts + n])
        again.append(roc_auc_score(labels[chosen], scores[chosen]))
    low, high = np.quantile(again, [0.025, 0.975])
    return Number(float(roc_auc_score(labels, scores)), float(low), float(high), n)


def _wins(one: np.ndarray, other: np.ndarray) -> Share:
    return share(int((one > other).sum() + (one == other).sum() / 2), len(one))
