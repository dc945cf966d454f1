"""Fourteen nights on real histories: does a voice that learns every night follow its owner, and does it forget?

    python bench/nights.py data [HISTORY PER_NIGHT]   ../shared/corpora -> build/nights/*.jsonl.gz; needs the database
    python bench/nights.py run [SECONDS]   every way on every history at once, ended after SECONDS; then the table
    python bench/nights.py alone NAME      the seconds of two nights with nothing beside them
    python bench/nights.py table           build/nights/results/*.json -> bench/results/nights.txt

The corpora's days are sparse (a meeting a week, an argument a month), so a night is not a date: the newest 14 x 48
pairs, in the order of their dates, are 14 nights; the 3,072 before them are what the first voice learns from. `run`
needs neither the database nor the network: build/nights and the embedded model (BASE_MODEL) travel to any machine.
ONLY="way;way" and CORPUS=name choose, AT_ONCE says how many go together. Nothing is asserted here.
"""

import asyncio
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
DATA = ROOT / "build" / "nights"
OUT = Path(os.environ["OUT"]) if "OUT" in os.environ else DATA / "results"
CORPORA = tuple(os.environ.get("CORPUS", "irc_tdonohue scotus_scalia").split())
SMOKE = bool(os.environ.get("SMOKE"))  # a few pairs and nights: does it run at all?
HISTORY, PER_NIGHT, NIGHTS, HELD_SHARE, WEEK = 3072, 48, 14, 6, 7  # one of six replies of a night is held out
# way: (rate multiplier, replay, every how many nights, a full run every how many nights)
WAYS: dict[str, tuple[float, float, int, int]] = {
    "nightly 0.25, no replay": (0.25, 0.0, 1, 0),
    "nightly 0.5, no replay": (0.5, 0.0, 1, 0),
    "nightly 1, no replay": (1.0, 0.0, 1, 0),
    "nightly 0.25, replay": (0.25, 0.5, 1, 0),
    "nightly 0.5, replay": (0.5, 0.5, 1, 0),
    "nightly 1, replay": (1.0, 0.5, 1, 0),
    "every third night 0.5, replay": (0.5, 0.5, 3, 0),
    "nightly 0.5, replay, weekly full": (0.5, 0.5, 1, 7),
    "weekly full": (1.0, 0.0, 0, 7),
}


def main() -> None:
    """See above."""
    what, *given = sys.argv[1:] or ["--help"]
    if what == "data":
        sizes = (int(given[0]), int(given[1])) if given else (HISTORY, PER_NIGHT)
        for name in CORPORA:
            _note(asyncio.run(_prepare(name, *sizes)))
    elif what == "begin":
        _begin(given[0])
    elif what == "way":
        _live(given[0], given[1], len(_plan(given[0])[0]["nights"]))
    elif what == "alone":
        _live(given[0], "nightly 0.5, replay", 2)
    elif what == "run":
        _all(float(given[0]) if given else 3600.0)
        _write_table()
    elif what == "table":
        _write_table()
    else:
        sys.exit(__doc__)


async def _prepare(name: str, history: int, per_night: int) -> str:
    from bot.history import found_pairs
    from storage.database import Database
    from storage.ingest.export import import_export
    from training.dataset.choose import Seen, identity
    from training.dataset.pairs import Options
    from training.dataset.split import assemble

    source = ROOT.parent / "shared" / "corpora" / f"{name}.result.json.gz"
    options = Options(max_pairs_per_chat=None, validation_share=0.1)
    with tempfile.TemporaryDirectory() as home:
        async with Database.open(Path(home) / "history.db") as database:
            await import_export(database, source, now=datetime.now(UTC))
            chats = await found_pairs(database, options)
    pairs = sorted((pair for chat in chats for pair in chat.pairs), key=lambda p: (p.date, *identity(p)))
    tail = pairs[-NIGHTS * per_night :]
    first = pairs[-history - len(tail)].date

    def until(moment: datetime) -> list[Any]:
        return [replace(c, pairs=tuple(p for p in c.pairs if first <= p.date <= moment)) for c in chats]

    pool: dict[tuple[int, int], Any] = {}

    def numbers(examples: Any) -> list[int]:
        for example in examples:
            pool[example.chat_id, example.message_id] = example
        places = {key: place for place, key in enumerate(pool)}
        return [places[example.chat_id, example.message_id] for example in examples]

    last = pairs[-len(tail) - 1].date
    begun = assemble(until(last), options)
    fixed = {(e.chat_id, e.message_id) for e in begun.validation}
    plan: dict[str, Any] = {"history": numbers(begun.train), "fixed": [], "nights": []}
    plan["sizes"] = f"{history:,} replies before, {NIGHTS} nights of {per_night} (one of {HELD_SHARE} held out)"
    held: set[tuple[int, int]] = set()
    for night in range(NIGHTS):
        slice_ = tail[night * per_night : (night + 1) * per_night]
        tonight = {identity(pair) for pair in slice_[::HELD_SHARE]}
        held |= tonight
        seen = Seen(frozenset(fixed | held), last)
        known = until(slice_[-1].date)
        nothing_more = replace(options, validation_share=0.0)
        some, whole = (assemble(known, nothing_more, seen, replay) for replay in (0.5, None))
        new = [e for e in some.train if e.date > last]
        plan["nights"].append(
            {
                "date": slice_[-1].date.isoformat(),
                "new": numbers(new),
                "replay": numbers([e for e in some.train if e.date <= last]),
                "full": numbers(whole.train),
                "held": numbers([e for e in whole.validation if (e.chat_id, e.message_id) in tonight]),
            }
        )
        last = slice_[-1].date
        plan["fixed"] = numbers([e for e in whole.validation if (e.chat_id, e.message_id) in fixed])
    DATA.mkdir(parents=True, exist_ok=True)
    with gzip.open(DATA / f"{name}.jsonl.gz", "wt", encoding="utf-8") as out:
        out.write(json.dumps(plan) + "\n")
        out.writelines(json.dumps(e.messages, ensure_ascii=False) + "\n" for e in pool.values())
    each = [len(night["new"]) for night in plan["nights"]]
    return (
        f"{name}: {len(plan['history'])} pairs, {len(plan['fixed'])} held out; then {NIGHTS} nights to {last:%Y-%m-%d} "
        f"from {first:%Y-%m-%d}, {min(each)} to {max(each)} new pairs each"
    )


def _plan(name: str) -> tuple[dict[str, Any], list[Any]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        plan = json.loads(next(file))
        pool = [json.loads(line) for line in file]
    if SMOKE:
        plan["history"], plan["fixed"] = plan["history"][:32], plan["fixed"][:12]
        plan["nights"] = [{**n, "full": n["full"][-40:]} for n in plan["nights"][:3]]
    return plan, pool


def _base() -> Any:
    from training.engine.model import load_base

    return load_base(os.environ.get("BASE_MODEL", "smollm2"), ROOT / "build" / "models")


def _train(base: Any, name: str, rows: list[Any], valid: list[Any], rate: float, start: Path | None, seed: int) -> Path:
    from training.engine import loop, recipe
    from training.engine.step import Eager

    loop.stepper = lambda *given: Eager(*given[:3])  # a night has some ten steps: compiling would take longer
    chosen = recipe.load(os.environ.get("RECIPE", "embedded"), row_tokens=4096)
    chosen = chosen.model_copy(update={"learning_rate": chosen.learning_rate * rate})
    out = DATA / "voices" / name / str(time.monotonic_ns())
    taught = loop.train(base, chosen, rows, valid, out, lambda e: None, lambda: "go on", seed, start)
    assert taught.adapter is not None
    return taught.adapter


def _begin(name: str) -> None:
    """The voice that all ways begin with, and what it measures: the way «never»."""
    base, (plan, pool) = _base(), _plan(name)
    began = time.monotonic()
    rows, valid = ([pool[i] for i in plan[part]] for part in ("history", "fixed"))
    adapter = _train(base, f"{name} begun", rows, valid, 1.0, None, 0)
    seconds = time.monotonic() - began
    (DATA / "voices" / f"{name}.first").write_text(str(adapter))
    at = _Life(base, name, plan, pool, adapter)
    nights = [{**at.measured(night), "seconds": 0.0} for night in range(len(plan["nights"]))]
    general = at.general()
    for night in (WEEK, NIGHTS):
        nights[min(night, len(nights)) - 1] |= general
    stock = at.loss(None, plan["fixed"])
    _keep(name, "never", nights, {"sizes": plan["sizes"], "first_seconds": seconds, **general, "stock_fixed": stock})


def _live(name: str, way: str, nights: int) -> None:
    rate, replay, every, full = WAYS[way]
    base, (plan, pool) = _base(), _plan(name)
    first = Path((DATA / "voices" / f"{name}.first").read_text())
    at, told = _Life(base, name, plan, pool, first), []
    waiting: list[int] = []  # since the last training
    for night in range(nights):
        tonight, began = plan["nights"][night], time.monotonic()
        waiting += tonight["new"] + (tonight["replay"] if replay else [])
        trains = every and (night + 1) % every == 0
        anew = full and (night + 1) % full == 0
        promoted = None
        if trains or anew:
            rows = tonight["full"] if anew else waiting
            valid = at.held_out(night)
            start, speed = (None, 1.0) if anew else (at.adapter, rate)
            texts = [pool[i] for i in rows], [pool[i] for i in valid]
            promoted = at.gate(_train(base, f"{name} {way}", *texts, speed, start, night), valid)
            waiting = []
        row = {**at.measured(night), "seconds": time.monotonic() - began, "promoted": promoted}
        if (night + 1) % WEEK == 0 or night == nights - 1:
            row |= at.general()
        told.append(row)
        _keep(name, way, told, {})
        _note(f"{name} {way} {night + 1}: {json.dumps(row)}")


class _Life:
    """A voice from night to night, and what is measured of it."""

    def __init__(self, base: Any, name: str, plan: dict[str, Any], pool: list[Any], adapter: Path) -> None:
        self._base, self._plan, self._pool = base, plan, pool
        self.adapter = adapter
        self._stock: list[str] = []

    def held_out(self, night: int) -> list[int]:
        """The fixed set and what each night so far has held out."""
        return self._plan["fixed"] + [i for n in self._plan["nights"][: night + 1] for i in n["held"]]

    def gate(self, candidate: Path, valid: list[int]) -> bool:
        """Let it speak unless it foresees the held-out replies worse, beyond chance: the gate's own rule."""
        from training.evaluation.intervals import ratio

        new, old = (self._losses(adapter, valid) for adapter in (candidate, self.adapter))
        apart = ratio([a - b for (a, _), (b, _) in zip(new, old, strict=True)], [n for _, n in new], seed=0)
        if apart.low > 0:
            return False
        self.adapter = candidate
        return True

    def measured(self, night: int) -> dict[str, float | None]:
        """Losses after the night: on the fixed set, on the newest week's held-out replies, on all of tomorrow's."""
        nights = self._plan["nights"]
        week = [i for n in nights[max(0, night + 1 - WEEK) : night + 1] for i in n["held"]]
        ahead = nights[night + 1]["new"] + nights[night + 1]["held"] if night + 1 < len(nights) else []
        fixed, newest = self.loss(self.adapter, self._plan["fixed"]), self.loss(self.adapter, week)
        return {"fixed": fixed, "week": newest, "tomorrow": self.loss(self.adapter, ahead) if ahead else None}

    def loss(self, adapter: Path | None, examples: list[int]) -> float:
        from training.evaluation.voice import total

        return total(self._losses(adapter, examples)).loss

    def general(self) -> dict[str, Any]:
        """Forgetting: the general questions, answered by the stock model and by the voice."""
        from training.evaluation import forgetting, replies
        from training.generate import Sampling

        asked = forgetting.items(12 if SMOKE else int(os.environ.get("QUESTIONS", 0)) or None)
        prompts = [[{"role": "user", "content": item.question}] for item in asked]
        self._base.load(str(self.adapter), self.adapter)
        how = Sampling(temperature=0, max_tokens=32)
        self._stock = self._stock or replies.draw(self._base, None, prompts, how)
        found = forgetting.compare(asked, self._stock, replies.draw(self._base, str(self.adapter), prompts, how))
        return {"right": found.tuned.picks, "stock_right": found.stock.picks, "asked": len(asked), "p": found.p}

    def _losses(self, adapter: Path | None, examples: list[int]) -> Any:
        from training.dataset.render import encode_example
        from training.evaluation.voice import losses_of

        encoded = [encode_example(self._base.tokenizer, self._pool[i], 512) for i in examples]
        if adapter is not None:
            self._base.load(str(adapter), adapter)
        with self._base.speaking(str(adapter) if adapter else None) as model:
            return losses_of(self._base, model, encoded, 4096 if self._base.device.type == "cuda" else 512)


def _all(limit: float) -> None:
    """First the voices that all begin with, then every way of every history at once; the slow ones first."""
    ends = time.monotonic() + limit
    _base()  # converted once, before many want it
    for name in CORPORA:
        (DATA / "voices" / f"{name}.first").unlink(missing_ok=True)
    _together([["begin", name] for name in CORPORA], ends)
    for name in CORPORA:
        if not (DATA / "voices" / f"{name}.first").is_file():
            sys.exit(f"{name}: the first training did not end, so there is no voice to live on.")
    wanted = os.environ["ONLY"].split(";") if "ONLY" in os.environ else list(WAYS)
    slow_first = sorted(wanted, key=lambda way: -WAYS[way][3])
    _together([["way", name, way] for way in slow_first for name in CORPORA], ends)


def _together(jobs: list[list[str]], ends: float) -> None:
    at_once = int(os.environ.get("AT_ONCE", 2 * (os.cpu_count() or 1)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    running: list[subprocess.Popen[bytes]] = []
    while (jobs or running) and time.monotonic() < ends:
        while jobs and len(running) < at_once:
            running.append(subprocess.Popen([sys.executable, __file__, *jobs.pop(0)], env=environment))
        time.sleep(0.2)
        running = [process for process in running if process.poll() is None]
    for process in running:
        process.kill()


def _keep(name: str, way: str, nights: list[Any], more: dict[str, Any]) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    found = {"corpus": name, "way": way, "machine": _machine(), "nights": nights, **more}
    part = OUT / f"{name}-{way.replace(' ', '_').replace(',', '')}.json"
    part.with_suffix(".part").write_text(json.dumps(found, indent=1))
    part.with_suffix(".part").replace(part)


def _write_table() -> None:
    runs = [json.loads(path.read_text()) for path in sorted(OUT.glob("*.json"))]
    text = "\n".join(_table(runs))
    print(text)  # noqa: T201
    target = ROOT / "bench" / "results" if OUT == DATA / "results" and not SMOKE else OUT
    (target / "nights.txt").write_text(text + "\n", encoding="utf-8")


def _table(runs: list[dict[str, Any]]) -> list[str]:
    order = ["never", *WAYS]
    lines = [
        f"python bench/nights.py run: {runs[0]['machine']}; SmolLM2-135M, recipe embedded",
        next((run["sizes"] for run in runs if "sizes" in run), "?"),
        "held-out loss in nats a token. fixed: the same replies, older than all nights; week: those held out of the",
        "last 7 nights; tomorrow: all of the next night's, mean over the nights; general: general questions right",
        "promoted: nights whose voice the gate let speak; s: a night's median seconds, all ways at once on one machine",
    ]
    for name in CORPORA:
        own = sorted((run for run in runs if run["corpus"] == name), key=lambda run: order.index(run["way"]))
        if not own:
            continue
        never = own[0]
        stock = f"; stock {never['stock_fixed']:.3f}, first training {never['first_seconds']:.0f} s"
        lines += ["", name + (stock if never["way"] == "never" else "")]
        lines.append(f"  {'':34}{'fixed: night 1':>14}{'7':>7}{'14':>7}{'week: 7':>9}{'14':>7}{'tomorrow':>10}"
                     f"{'general: 7':>12}{'14':>5}{'promoted':>10}{'s':>6}")  # fmt: skip
        lines += [_row(run) for run in own]
        if never["way"] == "never":
            lines.append(f"  general questions of the stock model: {never['stock_right']} of {never['asked']} right")
    return [*lines, "", *_differences({(run["corpus"], run["way"]): run["nights"] for run in runs})]


COMPARED = (
    ("nightly 0.5, replay, weekly full", "never"),
    ("nightly 0.5, replay", "never"),
    ("weekly full", "never"),
    ("nightly 0.5, replay, weekly full", "nightly 0.5, replay"),
    ("nightly 0.5, replay, weekly full", "weekly full"),
    ("every third night 0.5, replay", "nightly 0.5, replay"),
    ("nightly 0.25, replay", "nightly 0.5, replay"),
    ("nightly 1, replay", "nightly 0.5, replay"),
    ("nightly 0.5, no replay", "nightly 0.5, replay"),
)


def _differences(nights: dict[tuple[str, str], list[Any]]) -> list[str]:
    from training.evaluation.intervals import mean

    lines = ["tomorrow: this way minus that one, mean over the nights, 95 % interval (nights drawn again)"]
    for one, other in COMPARED:
        if not all((name, way) in nights for name in CORPORA for way in (one, other)):
            continue
        each = [
            [a["tomorrow"] - b["tomorrow"] for a, b in zip(nights[name, one], nights[name, other], strict=True)
             if a["tomorrow"] is not None]
            for name in CORPORA
        ]  # fmt: skip
        found = [mean(apart, 0) for apart in (*each, [*chain(*each)])]
        told = "  ".join(f"{it.value:+.4f} ({it.low:+.4f} to {it.high:+.4f})" for it in found)
        lines.append(f"  {one + ' - ' + other:56}{told}")
    return [lines[0] + f": {', '.join(CORPORA)}, all", *lines[1:]]


def _row(run: dict[str, Any]) -> str:
    nights = run["nights"]

    def at(night: int, what: str) -> str:
        value = nights[night - 1].get(what) if len(nights) >= night else None
        return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)

    ahead = [night["tomorrow"] for night in nights if night["tomorrow"] is not None]
    trained = [night for night in nights if night.get("promoted") is not None]
    promoted = f"{sum(night['promoted'] for night in trained)} of {len(trained)}" if trained else "–"
    seconds = sorted(night["seconds"] for night in trained)
    return (
        f"  {run['way']:34}{at(1, 'fixed'):>14}{at(WEEK, 'fixed'):>7}{at(NIGHTS, 'fixed'):>7}"
        f"{at(WEEK, 'week'):>9}{at(NIGHTS, 'week'):>7}{sum(ahead) / max(1, len(ahead)):>10.3f}"
        f"{at(WEEK, 'right'):>12}{at(NIGHTS, 'right'):>5}{promoted:>10}"
        f"{seconds[len(seconds) // 2] if seconds else 0:>6.0f}"
    )


def _machine() -> str:
    import torch

    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return f"{name}, torch {torch.__version__}"


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
