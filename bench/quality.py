"""Which recipe? Held-out loss at equal data over three seeds, and the ablation behind the choice.

    python bench/voice.py data          ../shared/corpora -> build/voice/*.jsonl.gz (once; it travels to any machine)
    python bench/quality.py [WORKERS]   every job, WORKERS processes a card -> $OUT/quality.jsonl, quality.txt
    python bench/quality.py table       the table of what quality.jsonl holds

Every run is `training.engine.loop.train` as the product calls it. LoRA exists here alone: a DoRA whose gain is held
at one and whose magnitudes are not trained. SECONDS_LEFT ends it in time: what is done is kept, a later call goes on.
PAIRS cuts the data for a try, BASE_MODEL names another model than the embedded one. Nothing is asserted.
"""

import gzip
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
DATA = ROOT / "build" / "voice"
OUT = Path(os.environ.get("OUT", ROOT / "bench" / "results"))
RUNS, TABLE = OUT / "quality.jsonl", OUT / "quality.txt"
CORPORA, SEEDS = ("irc_tdonohue", "scotus_scalia"), (0, 1, 2)
WHOLE, PART = 3072, 1024  # pairs: of the main table, of the ablation
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
SHAPES = 512  # rows are padded to multiples of it: a small model gains less from close ones than their capture costs


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One setting on one corpus, for each seed in turn."""

    name: str
    corpus: str
    pairs: int
    recipe: str
    changes: dict[str, Any] = field(default_factory=dict)
    lora: bool = False
    seeds: tuple[int, ...] = SEEDS


def jobs() -> list[Job]:
    """The most telling first."""
    main = [
        Job(recipe, corpus, WHOLE, recipe, seeds=(seed,))
        for recipe in ("article", "fast", "embedded")
        for corpus in CORPORA
        for seed in SEEDS
    ]
    first, second = ([Job(name, corpus, PART, *rest) for name, *rest in _ablation()] for corpus in CORPORA)
    return [*main[:12], *first, *main[12:], *second]


def _ablation() -> Iterator[tuple[Any, ...]]:
    both: list[tuple[str, Any]] = [("attention", ATTENTION), ("all linear", "all-linear")]
    three = {"epochs": 3, "early_stopping": False}
    for where, targets in both:
        for rate in (1e-4, 2e-4, 5e-4, 1e-3):
            yield f"DoRA, {where}, {rate:g}", "fast", {**three, "targets": targets, "learning_rate": rate}
    for where, targets in both:
        for rate in (2e-4, 5e-4, 1e-3):
            changes = {**three, "targets": targets, "learning_rate": rate}
            yield f"LoRA, {where}, {rate:g}", "fast", changes, True
    for where, targets in both:
        changes = {**three, "targets": targets, "learning_rate": 5e-4}
        yield f"DoRA, {where}, 0.0005, dropout 0.05", "fast", {**changes, "dropout": 0.05}
        yield f"DoRA, {where}, 0.0005, 2 epochs", "fast", {**changes, "epochs": 2}
    equal = {**three, "targets": ATTENTION, "learning_rate": 5e-4, "rank": 42, "alpha": 84}
    yield "DoRA, attention, 0.0005, rank 42 (all linear's size)", "fast", equal


def main() -> None:
    """See above."""
    what, *given = sys.argv[1:] or ["run"]
    if what == "table":
        pass
    elif what == "job":
        _run(Job(**json.loads(given[0])))
        return
    else:
        _run_all(int(what) if what.isdigit() else 16)
    text = _table([json.loads(line) for line in RUNS.read_text(encoding="utf-8").splitlines()])
    print(text)  # noqa: T201
    TABLE.write_text(text + "\n", encoding="utf-8")


def _run_all(workers: int) -> None:
    import torch

    OUT.mkdir(parents=True, exist_ok=True)
    done = RUNS.read_text(encoding="utf-8").splitlines() if RUNS.is_file() else []
    settled = {(it["name"], it["corpus"], it["seed"]) for it in map(json.loads, done)}
    left = {job: tuple(seed for seed in job.seeds if (job.name, job.corpus, seed) not in settled) for job in jobs()}
    waiting = [replace(job, seeds=seeds) for job, seeds in left.items() if seeds]
    cards = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(torch.cuda.device_count())))).split(",")
    card = cycle(cards)
    end = time.monotonic() + float(os.environ.get("SECONDS_LEFT", "1e9"))
    lock = threading.Lock()

    def one(job: Job, card: str) -> None:
        if time.monotonic() < end:
            lines = _in_a_process(job, card, end)
            with lock, RUNS.open("a", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in lines)

    with ThreadPoolExecutor(workers * len(cards)) as pool:
        list(pool.map(one, waiting, card))


def _in_a_process(job: Job, card: str, end: float) -> list[str]:
    """Its lines, one a seed; what it says besides goes through."""
    environment = {
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(Path(tempfile.gettempdir()) / "likeme-inductor"),
        **os.environ,
        "CUDA_VISIBLE_DEVICES": card,
    }
    command = [sys.executable, __file__, "job", json.dumps(asdict(job))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    alarm = threading.Timer(max(0.0, end - time.monotonic()), process.send_signal, [signal.SIGKILL])
    alarm.daemon = True
    alarm.start()
    said, _ = process.communicate()
    alarm.cancel()
    return [line for line in said.splitlines() if line.startswith("{")]


def _run(job: Job) -> None:
    import torch

    from training.engine import loop, recipe, step
    from training.engine.model import load_base

    began = time.monotonic()
    step.TOKENS = step.REPLIES = SHAPES
    if job.lora:
        _hold_the_gain()
    base = load_base(os.environ.get("BASE_MODEL", "smollm2"), ROOT / "build" / "models")
    # Checkpointing changes no number, and a captured graph can't draw dropout's random numbers twice.
    chosen = recipe.load(job.recipe, **{"gradient_checkpointing": False, "row_tokens": 4096} | job.changes)
    train, held_out = _rows(job.corpus, "train", job.pairs), _rows(job.corpus, "validation", 322)
    for seed in job.seeds:
        events: list[dict[str, Any]] = []
        with tempfile.TemporaryDirectory() as folder:
            result = loop.train(base, chosen, train, held_out, Path(folder), events.append, lambda: "go on", seed)
        found = {
            "name": job.name,
            "corpus": job.corpus,
            "pairs": len(train),
            "held_out": len(held_out),
            "seed": seed,
            "stock": result.metrics["stock_valid_loss"],
            "epochs": [event["valid_loss"] for event in events if "valid_loss" in event],
            "loss": result.metrics["valid_loss"],
            "steps": result.steps,
            "seconds": result.seconds,
            "machine": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU",
        }
        print(json.dumps(found), flush=True)  # noqa: T201
        _note(f"{job.name}, {job.corpus}, seed {seed}: {found['loss']:.4f}, {time.monotonic() - began:.0f} s")


def _hold_the_gain() -> None:
    """DoRA -> LoRA, in this process: g = 1, and no magnitude is trained."""
    import torch

    from training.engine import dora, loop, step

    @torch.no_grad()
    def refresh(model: Any) -> None:
        for _, layer in dora.layers(model):
            layer.inverse_norm.copy_(layer.magnitude.reciprocal())

    def frozen(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*given: Any) -> Any:
            voice = make(*given)
            for _, layer in dora.layers(voice):
                layer.magnitude.requires_grad_(False)
            return voice

        return made

    dora.refresh = refresh
    dora.voice = frozen(dora.voice)
    dora.parameters = lambda model: [p for _, layer in dora.layers(model) for p in (layer.lora_A, layer.lora_B)]
    assert loop.dora is step.dora is dora


def _rows(corpus: str, part: str, wanted: int) -> list[Any]:
    """`wanted` of them at most, evenly from all."""
    with gzip.open(DATA / f"{corpus}.{part}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line)["messages"] for line in file]
    wanted = min(len(rows), wanted, int(os.environ.get("PAIRS", "1000000")))
    return [rows[len(rows) * i // wanted] for i in range(wanted)]


def _table(runs: Sequence[dict[str, Any]]) -> str:
    where = ", ".join(sorted({run["machine"] for run in runs}))
    model = os.environ.get("BASE_MODEL", "the embedded SmolLM2-135M")
    lines = [f"python bench/quality.py: {model}, {where}; mean held-out loss of a reply token (nats), with the spread"]
    lines += ["(standard deviation) over seeds; after: the mean after each epoch of the run; n: seeds."]
    order = {job.name: place for place, job in reversed([*enumerate(jobs())])}
    runs = sorted(runs, key=lambda run: (order[run["name"]], run["seed"]))
    by: dict[tuple[int, str], dict[str, list[dict[str, Any]]]] = {}
    for run in runs:
        by.setdefault((-run["pairs"], run["corpus"]), {}).setdefault(run["name"], []).append(run)
    for (pairs, corpus), settings in sorted(by.items()):
        first = next(iter(settings.values()))[0]
        lines += ["", f"{corpus}, {-pairs:,} pairs, {first['held_out']} held out; stock {first['stock']:.4f}"]
        lines += [f"{'':54}{'loss':>8}{'spread':>9}{'n':>3}{'steps':>7}   after each epoch"]
        lines += [_line(name, alike) for name, alike in settings.items()]
    return "\n".join(lines)


def _line(name: str, runs: Sequence[dict[str, Any]]) -> str:
    losses = [run["loss"] for run in runs]
    spread = statistics.stdev(losses) if len(losses) > 1 else 0.0
    epochs = [statistics.mean(losses) for losses in zip(*(run["epochs"] for run in runs), strict=False)]
    after = " ".join(f"{loss:.4f}" for loss in epochs)
    return f"{name:54}{statistics.mean(losses):8.4f}{spread:9.4f}{len(runs):3d}{runs[0]['steps']:7d}   {after}"


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
