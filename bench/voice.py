"""How like its owner a voice is, on real histories: the article's table by the automatic judge, and what sampling buys.

    python bench/voice.py data     ../shared/corpora -> build/voice/*.jsonl.gz
    python bench/voice.py draw     trains voices and draws their replies, for a GPU -> build/voice/drawn-*.tar
    python bench/voice.py judge    build/voice/drawn-*.tar -> build/voice/judged.json, on any machine
    python bench/voice.py table    build/voice/judged.json -> bench/results/voice.txt

`draw` needs neither the database nor the network: build/voice and the embedded model (BASE_MODEL names another)
travel to any machine, and what it wrote travels back. Nothing is asserted here.
"""

import asyncio
import gzip
import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import voice_draw
from voice_worker import DATA, MAIN, OTHERS, ROOT

OUT = Path(os.environ.get("OUT", DATA))
LEARNED, HELD_OUT = 6128, 322  # the article's


def main() -> None:
    """See above."""
    what = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if what == "data":
        for name in (MAIN, *OTHERS):
            print(asyncio.run(_prepare(name)))  # noqa: T201
    elif what == "draw":
        with tempfile.TemporaryDirectory() as scratch:
            voice_draw.main(Path(scratch), OUT)
    elif what == "judge":
        import voice_judge

        voice_judge.main()
    elif what == "table":
        import voice_table

        text = voice_table.table(json.loads((DATA / "judged.json").read_text(encoding="utf-8")))
        print(text)  # noqa: T201
        (ROOT / "bench" / "results" / "voice.txt").write_text(text + "\n", encoding="utf-8")
    else:
        sys.exit(__doc__)


async def _prepare(name: str) -> str:
    """The newest pairs to learn from: people change, and what is held out is the newest of each chat."""
    from bot.history import build_dataset
    from storage.database import Database
    from storage.ingest.export import import_export
    from training.dataset.pairs import Options

    source = ROOT.parent / "shared" / "corpora" / f"{name}.result.json.gz"
    with tempfile.TemporaryDirectory() as home:
        async with Database.open(Path(home) / "history.db") as database:
            await import_export(database, source, now=datetime.now(UTC))
            dataset = await build_dataset(database, Options(max_pairs_per_chat=None))
    held_out = dataset.validation
    few = [held_out[len(held_out) * i // HELD_OUT] for i in range(HELD_OUT)] if len(held_out) > HELD_OUT else held_out
    train = dataset.train[-LEARNED:]
    DATA.mkdir(parents=True, exist_ok=True)
    for part, rows in (("train", train), ("validation", few)):
        with gzip.open(DATA / f"{name}.{part}.jsonl.gz", "wt", encoding="utf-8") as out:
            out.writelines(json.dumps({"messages": row.messages}, ensure_ascii=False) + "\n" for row in rows)
    return f"{name}: {len(train):,} + {len(few):,} pairs"


if __name__ == "__main__":
    main()
