"""How like its owner a voice is, on real histories: the article's table by the automatic judge, and what sampling buys.

    python bench/voice.py data                        ../shared/corpora -> build/voice/*.jsonl.gz
    python bench/voice.py train irc_tdonohue 0 1 2    trains and measures a voice for each seed
    python bench/voice.py sampling irc_tdonohue 0     the same voice at other temperatures and nuclei
    python bench/voice.py table                       build/voice/*.json -> bench/results/voice.txt

`train` and `sampling` need neither the database nor the network: build/voice and the embedded model (BASE_MODEL names
another) travel to any machine. Nothing is asserted here.
"""

import asyncio
import gzip
import json
import os
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
DATA = ROOT / "build" / "voice"
OUT = Path(os.environ.get("OUT", DATA))
CORPORA = ("irc_tdonohue", "scotus_scalia", "ubuntu_actionparsnip")
TEMPERATURES, NUCLEI = (0.5, 0.7, 0.8, 0.9, 1.0), (0.9, 1.0)


def main() -> None:
    """See above."""
    what, *given = sys.argv[1:] or ["--help"]
    if what == "data":
        for name in CORPORA:
            _note(asyncio.run(_prepare(name)))
    elif what == "train":
        for seed in given[1:]:
            _train(given[0], int(seed))
    elif what == "sampling":
        _sampling(given[0], int(given[1]))
    elif what == "table":
        text = _table()
        print(text)  # noqa: T201
        (ROOT / "bench" / "results" / "voice.txt").write_text(text + "\n", encoding="utf-8")
    else:
        sys.exit(__doc__)


async def _prepare(name: str) -> str:
    from bot.history import build_dataset
    from storage.database import Database
    from storage.ingest.export import import_export
    from training.dataset.pairs import Options

    source = ROOT.parent / "shared" / "corpora" / f"{name}.result.json.gz"
    with tempfile.TemporaryDirectory() as home:
        async with Database.open(Path(home) / "history.db") as database:
            await import_export(database, source, now=datetime.now(UTC))
            # The article's sizes: 6,128 + 322 pairs.
            dataset = await build_dataset(database, Options(max_pairs_per_chat=None))
    train, validation = _cut(dataset.train, 6128), _cut(dataset.validation, 322)
    DATA.mkdir(parents=True, exist_ok=True)
    for part, rows in (("train", train), ("validation", validation)):
        with gzip.open(DATA / f"{name}.{part}.jsonl.gz", "wt", encoding="utf-8") as out:
            out.writelines(json.dumps({"messages": row.messages}, ensure_ascii=False) + "\n" for row in rows)
    return f"{name}: {len(train):,} + {len(validation):,} pairs"


def _cut(rows: Any, n: int) -> list[Any]:
    n = min(n, len(rows))
    return [rows[len(rows) * i // n] for i in range(n)]


def _rows(name: str, part: str) -> list[Any]:
    with gzip.open(DATA / f"{name}.{part}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["messages"] for line in file]


def _base() -> Any:
    from training.engine.model import load_base

    return load_base(os.environ.get("BASE_MODEL", "smollm2"), ROOT / "build" / "models")


def _recipe() -> Any:
    from training.engine import recipe

    changes = json.loads(os.environ.get("RECIPE_CHANGES", "{}"))
    return recipe.load(os.environ.get("RECIPE", "embedded"), **changes)


def _train(name: str, seed: int) -> None:
    from training.engine import loop
    from training.evaluation.evaluate import Voices, evaluate
    from training.generate import Sampling

    base, chosen = _base(), _recipe()
    train, held_out = _rows(name, "train"), _rows(name, "validation")
    folder = DATA / f"{name}-{seed}"
    _note(f"{name}, seed {seed}: {len(train)} + {len(held_out)} pairs on {base.device}")
    taught = loop.train(base, chosen, train, held_out, folder, _progress, lambda: "go on", seed)
    assert taught.adapter is not None
    voice = f"{name}-{seed}"
    base.load(voice, taught.adapter)
    how = Sampling(temperature=float(os.environ.get("TEMPERATURE", "0.8")), top_p=0.9, max_tokens=64, seed=seed)
    found = evaluate(
        base, Voices(voice, train), held_out, chosen.row_tokens, sampling=how, tell=lambda p, s: _note(f"{p} {s:.0%}")
    ).plain(chosen.most_forgotten)
    found["training_seconds"] = taught.seconds
    for private in ("drafts", "samples"):  # the words of real people stay where they are
        del found[private]
    (OUT / f"{voice}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def _sampling(name: str, seed: int) -> None:
    """One voice, many ways to draw: how well is it told from the owner, and how well does it fit?"""
    from training.evaluation import fit, judges, replies, style
    from training.generate import Sampling

    base = _base()
    train, held_out = _rows(name, "train"), _rows(name, "validation")
    base.load("voice", DATA / f"{name}-{seed}" / "adapter")
    prompts, real = [one[:-1] for one in held_out], [one[-1]["content"] for one in held_out]
    lines = [one[-2]["content"] for one in held_out]
    others = sorted({m["content"] for one in train for m in one if m["role"] == "user"})
    verifier = judges.Verifier([one[-1]["content"] for one in train], others)
    own = fit.fit(lines, real) if fit.is_there() else None
    rows = []
    for temperature in TEMPERATURES:
        for top_p in NUCLEI:
            how = Sampling(temperature=temperature, top_p=top_p, max_tokens=64, seed=seed)
            stock, tuned = (replies.draw(base, adapter, prompts, how) for adapter in (None, "voice"))
            apart = judges.distinguishable(real, tuned)
            row = {
                "temperature": temperature,
                "top_p": top_p,
                "tuned_over_stock": asdict(verifier.compare(tuned, stock).single),
                "tuned_over_real": asdict(verifier.compare(tuned, real).single),
                "auc": asdict(apart) if apart else None,
                "fit": fit.of_the_owners(fit.fit(lines, tuned), own) if own else None,
                "variety": asdict(style.variety(tuned)),
            }
            rows.append(row)
            _note(json.dumps(row))
    (OUT / f"{name}-{seed}.sampling.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _table() -> str:
    runs = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(DATA.glob("*-?.json"))}
    lines = ["python bench/voice.py; judged by the letter verifier and the fresh classifier on held-out prompts", ""]
    for name, it in runs.items():
        v, verified, likeness, general = it["voice"], it["verifier"], it["likeness"], it["forgetting"]
        lines += [
            f"{name} ({it['base_model']}, temperature {it['sampling']['temperature']}, {it['training_seconds']:.0f} s)",
            f"  held-out loss         tuned {v['tuned']:.3f}, stock {v['stock']:.3f}, n = {v['examples']}",
            f"  tuned over stock      {_share(verified['tuned_over_stock']['single'])}",
            f"  in bundles of 16      {_share(verified['tuned_over_stock']['bundles'])}",
            f"  real over stock       {_share(verified['real_over_stock']['single'])}  (the ceiling)",
            f"  tuned over real       {_share(verified['tuned_over_real']['single'])}",
            f"  real against tuned    AUC {_number(likeness['tuned'])}; stock {_number(likeness['stock'])}; "
            f"real against older real {_number(likeness['owner'])}",
            f"  fit above chance      {it['fit']['of_the_owners']:.0%} of the owner's" if it["fit"] else "  fit: none",
            f"  general questions     tuned {_share(general['tuned'])}, stock {_share(general['stock'])}, "
            f"lost {general['lost']}, won {general['won']}, p = {general['p']:.1g}",
            f"  reciting 8+ words     tuned {_share(it['leaks']['tuned']['reciting'])}, "
            f"real {_share(it['leaks']['real']['reciting'])}, longest {it['leaks']['tuned']['longest']}",
            f"  gate                  {'passes' if it['gate']['promote'] else 'kept back'}: {it['gate']['reason']}",
            "",
        ]
    for path in sorted(DATA.glob("*.sampling.json")):
        lines += [f"{path.stem}: what sampling buys", "  temp  top-p  over stock  over real   AUC    fit  pairs  loops"]
        for row in json.loads(path.read_text(encoding="utf-8")):
            fit = f"{row['fit']:5.0%}" if row["fit"] is not None else "    –"
            auc = f"{row['auc']['value']:.3f}" if row["auc"] else "    –"
            lines.append(
                f"  {row['temperature']:4.1f}  {row['top_p']:5.2f}  {row['tuned_over_stock']['share']:10.1%}"
                f"  {row['tuned_over_real']['share']:9.1%}  {auc}  {fit}  {row['variety']['distinct_2']:5.2f}"
                f"  {row['variety']['looping']:5.1%}"
            )
        lines.append("")
    return "\n".join(lines)


def _share(it: dict[str, Any]) -> str:
    return f"{it['share']:6.1%} ({it['picks']} of {it['n']}; {it['low']:.1%}–{it['high']:.1%})"


def _number(it: dict[str, Any] | None) -> str:
    return f"{it['value']:.3f} ({it['low']:.3f}–{it['high']:.3f})" if it else "–"


def _progress(event: dict[str, Any]) -> None:
    if event["step"] % 25 == 0 or "valid_loss" in event or "stock_valid_loss" in event:
        _note(json.dumps({k: round(v, 3) for k, v in event.items() if isinstance(v, int | float)}))


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
