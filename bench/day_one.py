"""What an untrained model can be told, beside what it can learn: four ways to the same held-out replies.

    python bench/day_one.py data                      ../shared/corpora -> build/day-one.json.gz
    python bench/day_one.py [examples] [held out]     default: all, which is for a GPU; only build/ has to travel there

stock: the conversation alone. prompted: his manner and similar exchanges before it, nothing trained. tuned: trained on
`examples`, the conversation alone. tuned + retrieval: trained, and told. What is retrieved is always older than the
reply that is foretold. The verifier (character 3-5-grams, logistic regression) has learned his replies against what
others wrote to him; it says how often a way's reply is more like him than stock's. Nothing is asserted here.
"""

import asyncio
import gzip
import json
import math
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CORPUS = "irc_tdonohue"
DATA = ROOT / "build" / "day-one.json.gz"
LEARNED, HELD_OUT = 6128, 322  # the article's
LONGEST_PROMPT = 1024
Prompt = list[dict[str, str]]


def main() -> None:
    """See above."""
    if sys.argv[1:] == ["data"] or not DATA.exists():
        with tempfile.TemporaryDirectory() as home:
            DATA.write_bytes(gzip.compress(json.dumps(asyncio.run(_asked(Path(home)))).encode()))
    if sys.argv[1:] != ["data"]:
        _compare(*(int(given) if given else None for given in [*sys.argv[1:], "", ""][:2]))


def _compare(examples: int | None, held_out: int | None) -> None:
    from bot.voice import MAX_TOKENS
    from training.engine.model import load_base

    kept = json.loads(gzip.decompress(DATA.read_bytes()))
    learn, asked = kept["learn"][:examples], kept["asked"][:held_out]
    base = load_base(os.environ.get("BASE_MODEL", "smollm2"), ROOT / "build" / "models")
    voice = _trained(base, learn)
    others = [e[-2]["content"] for e in learn]
    verifier = _verifier([e[-1]["content"] for e in learn], others)
    real = [reply for _, _, reply in asked]
    ways = {
        "stock": (None, [plain for plain, _, _ in asked]),
        "prompted": (None, [told for _, told, _ in asked]),
        "tuned": (voice, [plain for plain, _, _ in asked]),
        "tuned + retrieval": (voice, [told for _, told, _ in asked]),
    }
    lines = [
        f"python bench/day_one.py: {CORPUS}, {base.name} on {base.device.type}, trained on {len(learn):,} examples, "
        f"{len(asked)} held-out prompts, replies of at most {MAX_TOKENS} tokens",
        f"{'':20}{'loss':>8}{'more like him than stock (95 %)':>34}{'words':>8}{'empty':>8}{'cut':>8}",
    ]
    drawn = {name: _draw(base, adapter, prompts) for name, (adapter, prompts) in ways.items()}
    for name, (adapter, prompts) in ways.items():
        texts = [text for text, _ in drawn[name]]
        likeness = "" if name == "stock" else _preferred(verifier, texts, [text for text, _ in drawn["stock"]])
        lines.append(_line(name, _loss(base, adapter, prompts, real), likeness, texts, drawn[name]))
    likeness = _preferred(verifier, real, [text for text, _ in drawn["stock"]])
    lines.append(_line("himself", None, likeness, real, [(text, True) for text in real]))
    table = "\n".join(lines)
    print(table)  # noqa: T201
    out = Path(os.environ.get("OUT", ROOT / "bench" / "results"))
    (out / "day-one.txt").write_text(table + "\n", encoding="utf-8")


async def _asked(home: Path) -> dict[str, Any]:
    """What is learned, and (plain prompt, told prompt, real reply) of what is held out; each in a drawn order."""
    from bot.drafting import Drafting
    from bot.history import build_dataset
    from bot.voice import Voice
    from storage import history
    from storage.database import Database
    from storage.ingest.export import import_export
    from training.dataset.pairs import Options
    from training.dataset.render import Turn

    draw = random.Random(0)
    async with Database.open(home / "history.db") as database:
        source = ROOT.parent / "shared" / "corpora" / f"{CORPUS}.result.json.gz"
        await import_export(database, source, me=None, now=datetime.now(UTC))
        dataset = await build_dataset(database, Options(max_pairs_per_chat=None))
        learn = draw.sample(dataset.train, min(LEARNED, len(dataset.train)))
        chosen = draw.sample(dataset.validation, min(HELD_OUT, len(dataset.validation)))
        drafting, asked = Drafting(database, Voice("http://127.0.0.1", "")), []
        for example in chosen:
            *plain, reply = example.messages
            context = tuple(Turn(m["role"], m["content"]) for m in plain if m["role"] != "system")
            said = await history.messages(database, example.chat_id)
            when = next(m.date for m in said if m.message_id == example.message_id)
            told = await drafting.introduced(context, example.chat_id, before=when)
            asked.append((list(plain), told, reply["content"]))
    return {"learn": [list(example.messages) for example in learn], "asked": asked}


def _trained(base: Any, learn: Sequence[Prompt]) -> str:
    from training.engine import loop, recipe
    from training.jobs import default_recipe

    chosen = recipe.load(default_recipe(base))
    with tempfile.TemporaryDirectory() as folder:
        result = loop.train(base, chosen, [list(e) for e in learn], [], Path(folder), _told, lambda: "go on", 0)
        assert result.adapter is not None
        base.load("tuned", result.adapter)
    return "tuned"


def _told(event: dict[str, Any]) -> None:
    if event.get("step", 1) % 5 == 0 and "train_loss" in event:
        print(f"step {event['step']} of {event['total_steps']}", file=sys.stderr, flush=True)  # noqa: T201


def _draw(base: Any, adapter: str | None, prompts: Sequence[Prompt]) -> list[tuple[str, bool]]:
    """(reply, whether it ended by itself), as a draft is drawn but not chosen."""
    from bot.voice import MAX_TOKENS, TEMPERATURE, TOP_P
    from training.generate import Sampling, complete

    drawn = []
    for number, prompt in enumerate(prompts):
        sampling = Sampling(temperature=TEMPERATURE, top_p=TOP_P, max_tokens=MAX_TOKENS, seed=number)
        reply = complete(base, adapter, prompt, sampling).completions[0]
        drawn.append((reply.text, reply.finish_reason == "stop"))
    return drawn


def _loss(base: Any, adapter: str | None, prompts: Sequence[Prompt], real: Sequence[str]) -> float:
    from training.dataset.render import encode_example
    from training.evaluation.voice import held_out_loss

    examples = [[*prompt, {"role": "assistant", "content": reply}] for prompt, reply in zip(prompts, real, strict=True)]
    encoded = [encode_example(base.tokenizer, example, LONGEST_PROMPT) for example in examples]
    return float(held_out_loss(base, adapter, encoded, LONGEST_PROMPT).loss)


def _verifier(own: Sequence[str], others: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    vectors = TfidfVectorizer(analyzer="char", ngram_range=(3, 5), min_df=2, sublinear_tf=True)
    judge = make_pipeline(vectors, LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000))
    return judge.fit([*own, *others], [1] * len(own) + [0] * len(others))


def _preferred(verifier: Any, texts: Sequence[str], stock: Sequence[str]) -> str:
    """How often, with Wilson's interval."""
    ours, theirs = verifier.decision_function(list(texts)), verifier.decision_function(list(stock))
    n, wins = len(texts), sum(a > b for a, b in zip(ours, theirs, strict=True))
    share, z = wins / n, 1.96
    middle, spread = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)
    return f"{share:.0%} of {n} ({low:.0%}–{high:.0%})"


def _line(name: str, loss: float | None, likeness: str, texts: Sequence[str], drawn: Sequence[tuple[str, bool]]) -> str:
    words = statistics.mean(len(text.split()) for text in texts)
    empty = sum(not text.strip() for text in texts) / len(texts)
    cut = sum(not whole for _, whole in drawn) / len(drawn)
    shown = f"{loss:.3f}" if loss is not None else ""
    return f"{name:20}{shown:>8}{likeness:>34}{words:8.1f}{empty:8.0%}{cut:8.0%}"


if __name__ == "__main__":
    main()
