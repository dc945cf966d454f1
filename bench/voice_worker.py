"""What a process of bench/voice.py draw does: train a voice, draw its replies or the stock model's."""

import base64
import copy
import gc
import gzip
import json
import os
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
DATA = ROOT / "build" / "voice"
MAIN, OTHERS = "irc_tdonohue", ("ubuntu_actionparsnip", "scotus_scalia")
DRAFTS = 4  # of each prompt: what the product asks for, to show three
ROW_TOKENS = 4096  # a whole step in a row; the numbers are the same, whatever the rows
SCORED_AT_ONCE = 64

RECIPE = os.environ.get("RECIPE", "embedded")  # a name, or a TOML file
WORKERS = int(os.environ.get("WORKERS", "4"))
GIB_A_WORKER = float(os.environ.get("GIB_A_WORKER", "12"))  # of the card's memory
EXAMPLES = int(os.environ.get("EXAMPLES", "0")) or None  # for a trial run
PROMPTS = int(os.environ.get("PROMPTS", "0")) or None
MAX_TOKENS = int(os.environ.get("MAX_TOKENS", "192"))  # 99 % of his replies are shorter


@dataclass(frozen=True)
class VoiceJob:
    """A voice to be trained."""

    corpus: str
    seed: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.corpus}.{Path(RECIPE).stem}.{self.seed}"


_base: Any = None
_plain: Any = None  # a copy in fp32 whose weights are exchanged: merged, a voice is drawn as fast as the stock model
_scratch, _out = Path(), Path()


def begin(scratch: str, out: str, device: str) -> None:
    global _base, _plain, _scratch, _out
    import torch

    from training.engine.model import load_base
    from training.evaluation import fit, replies

    torch.set_num_threads(2)
    if device == "cuda":
        whole = torch.cuda.mem_get_info()[1] / 2**30
        torch.cuda.set_per_process_memory_fraction(min(0.9, GIB_A_WORKER / whole))
        # Keys and values in fp32 take 45 KiB a token, and twice that while one more is written behind them: two thirds
        # of the room, prompts of 250 and replies of 192.
        replies.AT_ONCE["cuda"] = (int(GIB_A_WORKER * 32), int(GIB_A_WORKER * 7500))
    _scratch, _out = Path(scratch), Path(out)
    _base = load_base(os.environ.get("BASE_MODEL", "smollm2"), ROOT / "build" / "models", device)
    _plain = replace(_base, model=copy.deepcopy(_base.model).float(), voices={}, decoder=None)
    if fit.is_there():
        fit._loaded()[1].to(device)


def train_voice(job: VoiceJob) -> dict[str, Any]:
    from training.engine import recipe

    kept = DATA / f"{job.name}.adapter.tar"
    if kept.is_file():
        with tarfile.open(kept) as tar:
            tar.extractall(_scratch / job.name, filter="data")
        return {"note": "was trained before"}
    train, held_out = rows(job.corpus, "train")[:EXAMPLES], rows(job.corpus, "validation")[:PROMPTS]
    chosen = recipe.load(RECIPE, row_tokens=ROW_TOKENS) if _base.device.type == "cuda" else recipe.load(RECIPE)
    events: list[dict[str, Any]] = []
    result = _taught(chosen, train, held_out, _scratch / job.name, events, job.seed)
    _keep(result.adapter, _out / f"{job.name}.adapter.tar")
    _tidy()
    found = {
        "corpus": job.corpus,
        "recipe": Path(RECIPE).stem,
        "seed": job.seed,
        "numbers": chosen.model_dump(),
        "seconds": result.seconds,
        "steps": result.steps,
        "examples": len(train),
        "metrics": result.metrics,
        "curve": [e for e in events if "valid_loss" in e or "stock_valid_loss" in e or e["step"] % 25 == 0],
    }
    note = f"{result.seconds:.0f} s, {result.steps} steps, {result.metrics}"
    return {"files": {f"{job.name}.voice": found}, "note": note}


def _taught(chosen: Any, train: Any, held_out: Any, folder: Path, events: list[dict[str, Any]], seed: int) -> Any:
    """What training gave; where the fast way breaks, the other one goes on from its checkpoint."""
    from training.engine import loop
    from training.engine.step import Eager

    def uncaptured(*given: Any) -> Eager:
        return Eager(*given[:3])

    for way in (loop.stepper, uncaptured):
        loop.stepper = way
        try:
            return loop.train(_base, chosen, train, held_out, folder, events.append, lambda: "go on", seed)
        except Exception:
            if way is uncaptured:
                raise
            print(traceback.format_exc(), file=sys.stderr, flush=True)  # noqa: T201
        _tidy()


def _keep(adapter: Path, archive: Path) -> None:
    """An adapter as one file of half the size, numbers in fp16."""
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive.with_suffix(".part"), "w") as tar:
        for path in adapter.iterdir():
            half = Path(folder) / path.name
            if path.suffix == ".safetensors":
                save_file({name: tensor.half() for name, tensor in load_file(path).items()}, half)
            tar.add(half if half.exists() else path, f"adapter/{path.name}")
    os.replace(archive.with_suffix(".part"), archive)


def draw_voice(job: VoiceJob, settings: Sequence[tuple[float, float]], general: bool = False) -> dict[str, Any]:
    from training.evaluation import forgetting

    began = time.monotonic()
    _base.load(job.name, _scratch / job.name / "adapter")
    held_out = rows(job.corpus, "validation")[:PROMPTS]
    prompts = [one[:-1] for one in held_out for _ in range(DRAFTS)]
    files = {}
    if general:
        _speak(job.name)
        asked = [[{"role": "user", "content": item.question}] for item in forgetting.items(PROMPTS)]
        files[f"{job.name}.answers"] = {
            "corpus": job.corpus, "held_out_nats": _nats(held_out), "answers": _draw(asked, (0.0, 1.0), 0, 32)["texts"]
        }  # fmt: skip
    for setting in settings:
        _speak(job.name)
        drawn = _draw(prompts, setting, job.seed, MAX_TOKENS)
        replies = ({"role": "assistant", "content": text} for text in drawn["texts"])
        answered = [[*prompt, reply] for prompt, reply in zip(prompts, replies, strict=True)]
        alone = [[one[0], one[-1]] for one in answered]  # without what he answers
        drawn |= {"nats": _nats(answered), "nats_alone": _nats(alone)}
        _speak(None)
        drawn["nats_stock"] = _nats(answered)
        files[f"{job.name}.{setting[0]}-{setting[1]}.drawn"] = {
            "corpus": job.corpus,
            "recipe": Path(RECIPE).stem,
            "seed": job.seed,
            "setting": setting,
            "drafts": DRAFTS,
            **drawn,
        }
    return {"files": files, "note": f"{len(settings)} ways in {time.monotonic() - began:.0f} s"}


def draw_stock(corpus: str, settings: Sequence[tuple[float, float]], general: bool = False) -> dict[str, Any]:
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
    if general:
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


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
