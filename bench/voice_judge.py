"""The other half of bench/voice.py: what was drawn is judged, on any machine. What is judged already is not again.

Of the drafts drawn to each prompt one is chosen, as a chooser of CHOOSERS would: the product shows several.
"""

import base64
import gzip
import json
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
from voice_worker import DATA, MAIN, OTHERS, PROMPTS, rows

from bot.suitable import RIVALS, Drawn, different, suitable
from training.dataset.redact import redact
from training.dataset.render import Turn
from training.evaluation import fit, forgetting, judges, style
from training.evaluation.intervals import share
from training.evaluation.recital import Training

JUDGED = DATA / "judged.json"
# Judged of every voice; the others where the sampling is chosen.
BROAD = ("first", "most typical", "suits most", "as shown")


def main() -> None:
    """Judge the archives of build/voice."""
    found = _read()
    judged: dict[str, Any] = json.loads(JUDGED.read_text(encoding="utf-8")) if JUDGED.exists() else {}
    for corpus in (MAIN, *OTHERS):
        mine = {name: one for name, one in found.items() if one["corpus"] == corpus}
        if mine:
            _judge(History(corpus, mine), mine, judged)


def _judge(history: "History", drawn: dict[str, Any], judged: dict[str, Any]) -> None:
    def once(name: str, work: Callable[[], dict[str, Any]]) -> None:
        if name not in judged:
            judged[name] = work()
            JUDGED.write_text(json.dumps(judged, indent=1), encoding="utf-8")
            print(name, file=sys.stderr, flush=True)  # noqa: T201

    once(f"{history.corpus}.owner", history.owner)
    for name, one in drawn.items():
        if name.endswith(".voice"):
            answers = drawn.get(name.replace(".voice", ".answers"))
            if answers:
                once(name, lambda one=one, answers=answers: _trained({**one, **answers}, history.stock[""]))
        elif ".stock." in name:
            once(name, lambda one=one: history.of_stock(one))
    most = [name for name in drawn if name.endswith(".drawn")]
    for name in sorted(most, key=lambda name: _ways(drawn, name), reverse=True):
        one = drawn[name]
        for chooser, choose in CHOOSERS.items():
            if chooser in BROAD or _ways(drawn, name) > 2:
                once(f"{name}.{chooser}", lambda one=one, choose=choose: history.of_voice(one, choose))


def _ways(drawn: dict[str, Any], name: str) -> int:
    """In how many ways the voice of a file was drawn."""
    voice = (drawn[name]["recipe"], drawn[name]["seed"])
    return sum(other.endswith(".drawn") and (one["recipe"], one["seed"]) == voice for other, one in drawn.items())


class History:
    """One owner's held-out prompts with what is needed to judge replies to them."""

    def __init__(self, corpus: str, drawn: dict[str, Any]) -> None:
        self.corpus = corpus
        self._train, held_out = rows(corpus, "train"), rows(corpus, "validation")[:PROMPTS]
        self.lines, self.real = ([one[place]["content"] for one in held_out] for place in (-2, -1))
        self.contexts = [[Turn(m["role"], m["content"]) for m in one[1:-1]] for one in held_out]
        self._own = [one[-1]["content"] for one in self._train]
        self.stock = {_setting(one): one for name, one in drawn.items() if ".stock" in name}

    @cached_property
    def _others(self) -> list[str]:
        return sorted({m["content"] for one in self._train for m in one if m["role"] == "user"})

    @cached_property
    def _verifier(self) -> judges.Verifier:
        return judges.Verifier(self._own, self._others)

    @cached_property
    def _training(self) -> Training:
        return Training(self._own)

    @cached_property
    def _scores(self) -> np.ndarray:
        return self._verifier.scores(self.real)

    @cached_property
    def _line_vectors(self) -> np.ndarray:
        return _vectors(self.stock[""].get("line_vectors"), self.lines)

    def owner(self) -> dict[str, Any]:
        """What the owner himself reaches: the ceilings and the floor."""
        known, n = set(self._others), len(self.real)
        older = [self._own[len(self._own) * i // n] for i in range(n)]
        vectors = _vectors(self.stock[""].get("real_vectors"), self.real)
        return {
            "quality": self._verifier.quality(self.real, [line for line in self.lines if line not in known]),
            "auc_older": _plain(judges.distinguishable(self.real, older)),
            "auc_newest": _plain(judges.distinguishable(self.real, self._own[-n:])),
            "fit": _plain(fit.of_vectors(self._line_vectors, vectors)),
            "reciting": asdict(self._training.recital(self.real)),
            "variety": asdict(style.variety(self.real)),
            "words": float(np.median([len(text.split()) for text in self.real])),
        }

    def of_stock(self, one: dict[str, Any]) -> dict[str, Any]:
        """The stock model drawn one way."""
        scores = self._verifier.scores(one["texts"])
        return {
            "setting": one["setting"],
            "real_over_stock": _wins(self._scores, scores),
            "auc": _plain(judges.distinguishable(self.real, one["texts"])),
            "fit": _plain(fit.of_vectors(self._line_vectors, _vectors(one.get("vectors"), one["texts"]))),
            "cut": 1 - float(np.mean(one["whole"])),
        }

    def of_voice(self, one: dict[str, Any], choose: "Chooser") -> dict[str, Any]:
        """A voice drawn one way, one draft of each prompt chosen."""
        drafts, n = one["drafts"], len(self.real)
        chosen = [choose(self, one, range(i * drafts, (i + 1) * drafts)) for i in range(n)]
        texts = [_as_shown(self, one, i) or one["texts"][i] for i in chosen]
        stock = self.stock[_setting(one)]["texts"]
        mine, theirs = self._verifier.scores(texts), self._verifier.scores(stock)
        best = np.argmax([self._scores, mine, theirs], axis=0)
        vectors = _vectors(one.get("vectors"), one["texts"])[chosen] if one.get("vectors") else fit.embed(texts)
        leaking = sum(bool(redact(text)[1]) for text in one["texts"][:500])
        return {
            **{key: one[key] for key in ("corpus", "recipe", "seed", "setting")},
            "tuned_over_stock": _wins(mine, theirs),
            "bundles": asdict(self._verifier.compare(texts, stock).bundles),
            "tuned_over_real": _wins(mine, self._scores),
            "three": [asdict(share(int((best == place).sum()), n)) for place in range(3)],
            "auc": _plain(judges.distinguishable(self.real, texts)),
            "fit": _plain(fit.of_vectors(self._line_vectors, vectors)),
            "reciting": asdict(self._training.recital(texts)),
            "secrets": asdict(share(leaking, len(one["texts"][:500]))),
            "variety": asdict(style.variety(texts)),
            "words": float(np.median([len(text.split()) for text in texts])),
            "cut": 1 - float(np.mean([one["whole"][i] for i in chosen])),
            "distances": {name: d.tuned_distance for name, d in style.distances(self.real, texts, stock).items()},
        }


Chooser = Callable[[History, dict[str, Any], range], int]


def _first(history: History, one: dict[str, Any], places: range) -> int:
    return places[0]


def _typical(history: History, one: dict[str, Any], places: range) -> int:
    """What a card shows first where the engine does not tell how well a reply suits."""
    fit = {text: i for i in reversed(places) if (text := _as_shown(history, one, i)) is not None}
    best = different([Drawn(text) for text in fit], len(places))
    return fit[best[0]] if best else places[0]


def _most(value: Callable[[dict[str, Any], int], float], rivals: int | None = None) -> Chooser:
    """The suitable draft with the highest value, among the first `rivals` that are."""

    def choose(history: History, one: dict[str, Any], places: range) -> int:
        fit = [i for i in places if _as_shown(history, one, i) is not None][:rivals]
        return max(fit or places[:1], key=lambda i: value(one, i))

    return choose


def _as_shown(history: History, one: dict[str, Any], i: int) -> str | None:
    return suitable(Drawn(one["texts"][i], one["whole"][i]), history.contexts[i // one["drafts"]])


def _nats(one: dict[str, Any], i: int, of: str = "nats") -> float:
    return float(one[of][i][0])


def _suits(one: dict[str, Any], i: int) -> float:
    return _nats(one, i, "nats_alone") - _nats(one, i)


CHOOSERS: dict[str, Chooser] = {
    "first": _first,
    "most typical": _typical,
    # Log-likelihood ratios: with the prompt over without it (training/rerank.py), among two what a card puts first; and
    # tuned over stock.
    "as shown": _most(_suits, RIVALS),
    "suits most": _most(_suits),
    "suits most a token": _most(lambda one, i: _suits(one, i) / one["nats"][i][1]),
    "least like stock": _most(lambda one, i: _nats(one, i, "nats_stock") - _nats(one, i)),
    "likeliest a token": _most(lambda one, i: -_nats(one, i) / one["nats"][i][1]),
}


def _trained(one: dict[str, Any], stock: dict[str, Any]) -> dict[str, Any]:
    losses = [
        sum(nats for nats, _ in it) / sum(n for _, n in it) for it in (one["held_out_nats"], stock["held_out_nats"])
    ]
    general = forgetting.compare(forgetting.items(PROMPTS), stock["answers"], one["answers"])
    kept = {key: value for key, value in one.items() if key not in ("held_out_nats", "answers", "curve")}
    return {**kept, "loss": losses[0], "stock_loss": losses[1], "forgetting": asdict(general)}


def _wins(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """With each prompt's outcome: seeds are put together by prompt."""
    each = ((one > other) + (one == other) / 2).tolist()
    return {**asdict(share(int(sum(each)), len(each))), "each": each}


def _vectors(packed: str | None, texts: Sequence[str]) -> np.ndarray:
    if packed is None:
        return fit.embed(texts)
    return np.frombuffer(base64.b64decode(packed), np.float16).astype(np.float32).reshape(len(texts), -1)


def _plain(number: Any) -> dict[str, Any] | None:
    return asdict(number) if number is not None else None


def _setting(one: dict[str, Any]) -> str:
    return "-".join(map(str, one["setting"])) if "setting" in one else ""


def _read() -> dict[str, Any]:
    found = {}
    for path in sorted(DATA.glob("drawn-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                found[member.name.removesuffix(".json.gz")] = json.loads(gzip.decompress(file.read()))
    return found
