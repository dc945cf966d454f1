"""The half of bench/voice.py that wants a GPU: voices trained, and their replies drawn; nothing is judged here.

One process a worker, all on one card. Voices of one history with other recipes come first; the recipe that foresees
its held-out replies best is then trained with the other seeds and on the other histories. What is drawn grows in
a few archives, so that a run that is cut short leaves what it has.
"""

import base64
import copy
import gc
import gzip
import io
import json
import multiprocessing
import os
import sys
import tarfile
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
DATA = ROOT / "build" / "voice"
ARCHIVES = 5
MAIN, OTHERS = "irc_tdonohue", ("scotus_scalia", "ubuntu_actionparsnip")
RECIPES: dict[str, dict[str, Any]] = {
    "embedded": {},
    "rank 64, 3 epochs": {"rank": 64, "alpha": 128, "epochs": 3},
    "attention alone, 3 epochs": {"targets": ["q_proj", "k_proj", "v_proj", "o_proj"], "epochs": 3},
    "rate 2e-4": {"learning_rate": 2e-4},
}
USUAL = ((0.8, 0.9), (1.0, 0.95))  # temperature, nucleus: drawn of every voice
GRID = ((0.6, 0.9), (0.7, 0.95), (0.8, 0.95), (0.9, 0.9), (0.9, 0.95), (0.9, 1.0), (1.0, 0.9), (1.0, 1.0))
DRAFTS = 4  # of each prompt: what the product asks for, to show three
MAX_TOKENS = int(os.environ.get("MAX_TOKENS", "192"))  # 99 % of his replies are shorter
AT_ONCE = (322, 70_000)  # replies, and tokens of their prompts: some 6 GB of keys and values in fp32
ROW_TOKENS = 4096  # a whole step in a row; the numbers are the same, whatever the rows
SCORED_AT_ONCE = 64

WORKERS = int(os.environ.get("WORKERS", "7"))
LIMIT_SECONDS = float(os.environ.get("LIMIT_SECONDS", "420"))  # nothing is begun after it
EXAMPLES = int(os.environ.get("EXAMPLES", "0")) or None  # for a trial run
PROMPTS = int(os.environ.get("PROMPTS", "0")) or None


@dataclass(frozen=True)
class VoiceJob:
    """A voice to be trained."""

    corpus: str
    recipe: str
    seed: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.corpus}.{self.recipe.replace(' ', '-').replace(',', '')}.{self.seed}"


def main(scratch: Path, out: Path) -> None:
    """Train and draw everything, the most telling first."""
    scratch.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    _Board(scratch, out).run()


class _Board:
    """What is being worked on, and what comes next."""

    def __init__(self, scratch: Path, out: Path) -> None:
        self._scratch, self._out, self._began = scratch, out, time.monotonic()
        self._archives = _Archives(out)
        self._workers = ProcessPoolExecutor(
            WORKERS, multiprocessing.get_context("spawn"), _begin, (str(scratch), _device())
        )
        self._running: dict[Future[dict[str, Any]], tuple[str, Any]] = {}
        self._first: dict[str, dict[str, Any]] = {}  # the main history's voices of seed 0, by recipe

    def run(self) -> None:
        """Until all is done, or its time is over."""
        for recipe in RECIPES:
            self._start("voice", VoiceJob(MAIN, recipe, 0))
        for corpus in (MAIN, *OTHERS):
            self._start("stock", corpus, USUAL)
        self._start("stock", MAIN, GRID)
        while self._running and (left := LIMIT_SECONDS - self._seconds()) > 0:
            for future in wait(self._running, left, FIRST_COMPLETED).done:
                self._finished(future, *self._running.pop(future))
        for process in list(self._workers._processes.values()):
            process.kill()
        self._note("done" if not self._running else f"time is over; not done: {list(self._running.values())}")

    def _finished(self, future: "Future[dict[str, Any]]", what: str, job: Any) -> None:
        try:
            found = future.result()
        except Exception:  # of one job: the others go on
            self._note(f"{what} {job} failed: {traceback.format_exc()}")
            found = {}
        for name, content in found.pop("files", {}).items():
            self._archives.add(name, content)
        self._note(f"{what} {job}: {found.get('note', 'nothing')}")
        if what == "voice":
            self._after_training(job, found)

    def _after_training(self, job: VoiceJob, found: dict[str, Any]) -> None:
        if job.corpus == MAIN and job.seed == 0:
            self._first[job.recipe] = found
            if len(self._first) == len(RECIPES):
                self._choose()
        if found:
            self._start("draw", job, USUAL)

    def _choose(self) -> None:
        trained = {recipe: found["loss"] for recipe, found in self._first.items() if found}
        if not trained:
            return
        best = min(trained, key=lambda recipe: trained[recipe])
        self._note(f"the best of {trained} is {best}")
        for corpus, seed in ((MAIN, 1), (MAIN, 2), (OTHERS[1], 0), (OTHERS[0], 0), (OTHERS[0], 1), (OTHERS[0], 2)):
            self._start("voice", VoiceJob(corpus, best, seed))
        for start in range(0, len(GRID), 2):
            self._start("draw", VoiceJob(MAIN, best, 0), GRID[start : start + 2])

    def _start(self, what: str, job: Any, *more: Any) -> None:
        if self._seconds() < LIMIT_SECONDS:
            self._running[self._workers.submit(_WORK[what], job, *more)] = (what, job)

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _note(self, text: str) -> None:
        line = f"{self._seconds():6.1f} s  {text}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201
        with (self._out / "draw.log").open("a", encoding="utf-8") as log:
            log.write(line + "\n")


class _Archives:
    """A few tar files that are whole at any time; small ones travel better."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._files: list[dict[str, bytes]] = [{} for _ in range(ARCHIVES)]

    def add(self, name: str, content: Any) -> None:
        number = min(range(ARCHIVES), key=lambda i: sum(map(len, self._files[i].values())))
        self._files[number][name] = gzip.compress(json.dumps(content, ensure_ascii=False).encode(), 6)
        part = self._out / ".part"
        with tarfile.open(part, "w") as tar:
            for name_, data in self._files[number].items():
                info = tarfile.TarInfo(f"{name_}.json.gz")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        os.replace(part, self._out / f"drawn-{number}.tar")


# In a worker.

_base: Any = None
_plain: Any = None  # a copy in fp32 whose weights are exchanged: merged, a voice is drawn as fast as the stock model
_scratch = Path()


def _begin(scratch: str, device: str) -> None:
    global _base, _plain, _scratch
    import torch

    from training.engine.model import load_base
    from training.evaluation import fit, replies

    torch.set_num_threads(2)
    if device == "cuda":
        torch.cuda.set_per_process_memory_fraction(0.9 / WORKERS)
    _scratch = Path(scratch)
    _base = load_base(os.environ.get("BASE_MODEL", "smollm2"), ROOT / "build" / "models", device)
    _plain = replace(_base, model=copy.deepcopy(_base.model).float(), voices={}, decoder=None)
    replies.AT_ONCE["cuda"] = AT_ONCE
    if fit.is_there():
        fit._loaded()[1].to(device)


def _train_voice(job: VoiceJob) -> dict[str, Any]:
    from training.engine import loop, recipe
    from training.engine.step import Eager
    from training.evaluation import forgetting

    train, held_out = rows(job.corpus, "train")[:EXAMPLES], rows(job.corpus, "validation")[:PROMPTS]
    chosen = recipe.load("embedded", **{**RECIPES[job.recipe], "row_tokens": ROW_TOKENS})
    events: list[dict[str, Any]] = []

    def taught(folder: Path) -> Any:
        return loop.train(_base, chosen, train, held_out, folder, events.append, lambda: "go on", job.seed)

    result = None
    try:
        result = taught(_scratch / job.name)
    except Exception:  # the graphs are the fast way, not the only one
        print(traceback.format_exc(), file=sys.stderr, flush=True)  # noqa: T201
    if result is None:
        loop.stepper = Eager
        result = taught(_scratch / job.name)
    assert result.adapter is not None
    _tidy()
    _base.load(job.name, result.adapter)
    _speak(job.name)
    asked = forgetting.items(PROMPTS)
    curve = [e for e in events if "valid_loss" in e or "stock_valid_loss" in e or e["step"] % 25 == 0]
    found = {
        "corpus": job.corpus,
        "recipe": job.recipe,
        "seed": job.seed,
        "numbers": chosen.model_dump(),
        "seconds": result.seconds,
        "steps": result.steps,
        "examples": len(train),
        "metrics": result.metrics,
        "curve": curve,
        "held_out_nats": _nats(held_out),
        "answers": _draw([[{"role": "user", "content": item.question}] for item in asked], (0.0, 1.0), 0, 32)["texts"],
    }
    note = f"{result.seconds:.0f} s, {result.steps} steps, {result.metrics}"
    return {"files": {f"{job.name}.voice": found}, "loss": result.metrics["valid_loss"], "note": note}


def _draw_voice(job: VoiceJob, settings: Sequence[tuple[float, float]]) -> dict[str, Any]:
    began = time.monotonic()
    _base.load(job.name, _scratch / job.name / "adapter")
    held_out = rows(job.corpus, "validation")[:PROMPTS]
    prompts = [one[:-1] for one in held_out for _ in range(DRAFTS)]
    files = {}
    for setting in settings:
        _speak(job.name)
        drawn = _draw(prompts, setting, job.seed, MAX_TOKENS)
        answered = [
            [*p, {"role": "assistant", "content": text}] for p, text in zip(prompts, drawn["texts"], strict=True)
        ]
        alone = [[one[0], one[-1]] for one in answered]  # without what he answers
        drawn |= {"nats": _nats(answered), "nats_alone": _nats(alone)}
        _speak(None)
        drawn["nats_stock"] = _nats(answered)
        files[f"{job.name}.{setting[0]}-{setting[1]}.drawn"] = {
            "corpus": job.corpus, "recipe": job.recipe, "seed": job.seed, "setting": setting, "drafts": DRAFTS, **drawn
        }  # fmt: skip
    return {"files": files, "note": f"{len(settings)} ways in {time.monotonic() - began:.0f} s"}


def _draw_stock(corpus: str, settings: Sequence[tuple[float, float]]) -> dict[str, Any]:
    from training.evaluation import forgetting

    began = time.monotonic()
    _speak(None)
    held_out = rows(corpus, "validation")[:PROMPTS]
    prompts = [one[:-1] for one in held_out]
    files: dict[str, Any] = {
        f"{corpus}.stock.{setting[0]}-{setting[1]}": {
            "corpus": corpus, "setting": setting, **_draw(prompts, setting, 0, MAX_TOKENS)
        }
        for setting in settings
    }  # fmt: skip
    if settings == USUAL:
        asked = [[{"role": "user", "content": item.question}] for item in forgetting.items(PROMPTS)]
        lines, real = ([one[place]["content"] for one in held_out] for place in (-2, -1))
        files[f"{corpus}.stock"] = {
            "corpus": corpus,
            "held_out_nats": _nats(held_out),
            "answers": _draw(asked, (0.0, 1.0), 0, 32)["texts"],
            "line_vectors": _vectors(lines),
            "real_vectors": _vectors(real),
        }
    return {"files": files, "note": f"{len(settings)} ways in {time.monotonic() - began:.0f} s"}


def _tidy() -> None:
    """Give a training's memory back to the card."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _speak(name: str | None) -> None:
    """Put a voice's weights, g·(W + s·BA), into the plain copy; None: the stock model's."""
    import torch

    from training.engine import dora

    with torch.no_grad():
        for own, stock in zip(_plain.model.parameters(), _base.model.parameters(), strict=True):
            own.copy_(stock)
        for path, layer in dora.layers(_base.voices[name]) if name else ():
            weight = layer.base_layer.weight.float() + layer.scaling * layer.lora_B @ layer.lora_A
            _plain.model.get_submodule(path).weight.copy_((layer.magnitude * layer.inverse_norm)[:, None] * weight)


def _draw(prompts: Sequence[Any], setting: tuple[float, float], seed: int, max_tokens: int) -> dict[str, Any]:
    from training.evaluation import replies
    from training.generate import Sampling

    how = Sampling(temperature=setting[0], top_p=setting[1], max_tokens=max_tokens, seed=seed)
    drawn = replies.complete(_plain, None, prompts, how)
    texts = [one.text for one in drawn]
    return {"texts": texts, "whole": [one.finish_reason == "stop" for one in drawn], "vectors": _vectors(texts)}


def _vectors(texts: Sequence[str]) -> str | None:
    """Embedded for the fit, as bytes of float16; None where the embedding is not installed: then `judge` does it."""
    import numpy as np

    from training.evaluation import fit

    return base64.b64encode(fit.embed(texts).astype(np.float16).tobytes()).decode() if fit.is_there() else None


def _nats(conversations: Sequence[Any]) -> list[tuple[float, int]]:
    """(summed negative log-likelihood, tokens) of each one's reply, its end included, in their order."""
    import torch

    from training.dataset.render import encode_example

    encoded = [encode_example(_plain.tokenizer, one, 1024) for one in conversations]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
    found: list[tuple[float, int]] = [(0.0, 0)] * len(encoded)
    with torch.inference_mode():
        for start in range(0, len(order), SCORED_AT_ONCE):
            batch = order[start : start + SCORED_AT_ONCE]
            for i, row in zip(batch, _reply_nats([encoded[i] for i in batch]), strict=True):
                found[i] = row
    return found


def _reply_nats(batch: Sequence[Any]) -> Iterator[tuple[float, int]]:
    import torch

    longest = max(len(one.ids) for one in batch)

    def padded(lists: Sequence[Sequence[int]], filling: int) -> Any:
        return torch.tensor([[*ids, *[filling] * (longest - len(ids))] for ids in lists], device=_plain.device)

    ids, labels = padded([one.ids for one in batch], 0), padded([one.labels for one in batch], -100)
    seen = padded([[1] * len(one.ids) for one in batch], 0)
    states = _plain.model.base_model(input_ids=ids, attention_mask=seen, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels[:, 1:]
    places = wanted != -100
    logits = _plain.model.get_output_embeddings()(states[places])
    each = torch.zeros(wanted.shape, device=_plain.device)
    each[places] = torch.nn.functional.cross_entropy(logits.float(), wanted[places], reduction="none")
    for nats, tokens in zip(each.sum(1).tolist(), places.sum(1).tolist(), strict=True):
        yield round(nats, 3), tokens


def rows(corpus: str, part: str) -> list[Any]:
    """The conversations of a history's `part`."""
    with gzip.open(DATA / f"{corpus}.{part}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["messages"] for line in file]


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


_WORK = {"voice": _train_voice, "draw": _draw_voice, "stock": _draw_stock}
