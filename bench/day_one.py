"""What an untrained model can be told, beside what it can learn: four ways to the same held-out replies.

    python bench/day_one.py data                      ../shared/corpora -> build/day-one.json.gz
    python bench/day_one.py [examples] [held out] [drawn]   default: all, which is for a GPU; only build/ has to travel
    python bench/day_one.py table                     what is in build/day-one/, as far as it is there

stock: the conversation alone. prompted: his manner and similar exchanges before it, nothing trained. tuned: trained on
`examples`, the conversation alone. tuned + retrieval: trained, and told. What is retrieved is always older than the
reply that is foretold. The verifier (character 3-5-grams, logistic regression) has learned his replies against what
others wrote to him; it says how often a way's reply is more like him than stock's. "one draw" is the model's first
reply as it comes; "best draft" is what the product would put first: drafting's own rounds, checks and order, except
that words of other chats are looked for in the replies that were learned. Nothing is asserted here.
"""

import asyncio
import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CORPUS = "irc_tdonohue"
DATA = ROOT / "build" / "day-one.json.gz"
MADE = ROOT / "build" / "day-one"
LEARNED, HELD_OUT = 6128, 322  # the article's
LONGEST_PROMPT = 1024
Prompt = list[dict[str, str]]


def main() -> None:
    """See above."""
    what, *given = sys.argv[1:] or ["all"]
    if what not in ("data", "train", "way", "table", "all") and not what.isdecimal():
        sys.exit(__doc__)
    if what == "data" or not DATA.exists():
        with tempfile.TemporaryDirectory() as home:
            DATA.parent.mkdir(exist_ok=True)
            DATA.write_bytes(gzip.compress(json.dumps(asyncio.run(_asked(Path(home)))).encode()))
    if what == "train":
        _train(_data(*given)[0])
    elif what == "way":
        _way(given[0], *_data(*given[1:]))
    elif what == "table":
        _table(_data()[0])
    elif what != "data":
        sizes = [] if what == "all" else [what, *given]
        _run(sizes)
        _table(_data(*sizes)[0])


def _data(examples: str = "", held_out: str = "", drawn: str = "") -> tuple[list[Any], list[Any], int]:
    kept = json.loads(gzip.decompress(DATA.read_bytes()))
    learn, asked = kept["learn"][: int(examples or LEARNED)], kept["asked"][: int(held_out or HELD_OUT)]
    return learn, asked, int(drawn or len(asked))


def _run(sizes: list[str]) -> None:
    """Each part in a process of its own; on a GPU, which one process leaves idle, side by side."""
    import torch

    shutil.rmtree(MADE, ignore_errors=True)
    MADE.mkdir(parents=True)
    for parts in ([["train"], ["way", "stock"], ["way", "prompted"]], [["way", "tuned"], ["way", "tuned + retrieval"]]):
        running = []
        for part in parts:
            running.append(subprocess.Popen([sys.executable, __file__, *part, *sizes]))
            if not torch.cuda.is_available():
                running[-1].wait()
        for process in running:
            process.wait()
        if not (MADE / "train.json").is_file():
            _note("the training failed, see above: without it there is nothing tuned")
            return


def _table(learn: list[Any]) -> None:
    from training.dataset.sampling import MAX_TOKENS, TEMPERATURE, TOP_P
    from training.evaluation.judges import Verifier

    ways = {name: json.loads(path.read_text()) for name in WAYS if (path := MADE / f"{name}.json").is_file()}
    trained = json.loads(path.read_text()) if (path := MADE / "train.json").is_file() else {}
    stock = {kind: [text for text, _ in ways["stock"][kind]] for kind in ("first", "best")}
    lines = [
        f"python bench/day_one.py: {CORPUS}, {trained.get('model')} on {trained.get('device')}, recipe "
        f"{trained.get('recipe')}, {trained.get('examples', 0):,} examples ({trained.get('seconds', 0):.0f} s); "
        f"{ways['stock']['asked']} held-out replies foreseen, {len(stock['first'])} prompts answered; "
        f"temperature {TEMPERATURE}, top-p {TOP_P}, {MAX_TOKENS} tokens",
        "",
        f"{'':18}{'':7}  {'one draw:':40}best draft:",
        f"{'':18}{'loss':>7}  {_HEAD}   {_HEAD}",
    ]
    verifier = Verifier([e[-1]["content"] for _, e in learn], [e[-2]["content"] for _, e in learn])
    for name, it in ways.items():
        columns = [_columns(verifier, it[kind], None if name == "stock" else stock[kind]) for kind in stock]
        lines.append(f"{name:18}{it['loss']:7.3f}  {'   '.join(columns)}")
    real = [(reply, True) for reply in ways["stock"]["real"]]
    lines.append(f"{'himself':18}{'':7}  {'   '.join(_columns(verifier, real, stock[kind]) for kind in stock)}")
    table = "\n".join(lines)
    print(table)  # noqa: T201
    out = Path(os.environ.get("OUT", ROOT / "bench" / "results"))
    (out / "day-one.txt").write_text(table + "\n", encoding="utf-8")


def _way(name: str, learn: list[Any], asked: list[Any], drawn: int) -> None:
    """What a way foresees and writes, to build/day-one/."""
    plain, told, real, chats = (list(column) for column in zip(*asked, strict=True))
    base, elsewhere = _base(), _elsewhere(learn)
    adapter, prompts = None, told if WAYS[name].told else plain
    if WAYS[name].tuned:
        adapter = "tuned"
        base.load(adapter, MADE / "run" / "adapter")
    made = {"asked": len(asked), "real": real[:drawn], "loss": _loss(base, adapter, prompts, real)}
    if adapter is not None:
        _merge(base, adapter)
    _note(f"{name}: loss {made['loss']:.3f}")
    for first, best in _drawn(base, prompts[:drawn], lambda text, i: elsewhere(text, chats[i])):
        made |= {"first": [(d.text, d.whole) for d in first], "best": [(d.text, d.whole) for d in best]}
        (MADE / f"{name}.json").write_text(json.dumps(made))
        _note(f"{name}: another round is drawn")


def _merge(base: Any, adapter: str) -> None:
    """The voice's weights into the base of this process: drawn in batches, its thin products would cost the most."""
    import torch

    from training.engine import dora

    with torch.no_grad():
        for name, one in dora.layers(base.voices[adapter]):
            weight = base.model.get_submodule(name).weight
            gain = (one.magnitude * one.inverse_norm)[:, None]
            weight.copy_(gain * (weight.float() + one.scaling * one.lora_B @ one.lora_A))


def _base() -> Any:
    from training.engine.model import load_base

    return load_base(os.environ.get("BASE_MODEL", "smollm2"), ROOT / "build" / "models")


@dataclass(frozen=True)
class Way:
    """What a way has of the owner."""

    tuned: bool
    told: bool


WAYS = {
    "stock": Way(False, False),
    "prompted": Way(False, True),
    "tuned": Way(True, False),
    "tuned + retrieval": Way(True, True),
}
_HEAD = f"{'over stock (95 %)':>20}{'words':>7}{'empty':>7}{'cut':>6}"


async def _nobody(_: str) -> None:
    """Whom nothing has to be told: there is no voice here that could be damaged."""


async def _asked(home: Path) -> dict[str, Any]:
    """What is learned, and (plain prompt, told prompt, real reply, chat) of what is held out; each in a drawn order."""
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
        drafting, asked = Drafting(database, Voice("http://127.0.0.1", ""), _nobody), []
        for example in chosen:
            *plain, reply = example.messages
            context = tuple(Turn(m["role"], m["content"]) for m in plain if m["role"] != "system")
            said = await history.messages(database, example.chat_id)
            when = next(m.date for m in said if m.message_id == example.message_id)
            told = await drafting.introduced(context, example.chat_id, before=when)
            asked.append((list(plain), told, reply["content"], example.chat_id))
    return {"learn": [(example.chat_id, list(example.messages)) for example in learn], "asked": asked}


def _train(learn: list[Any]) -> None:
    """By the base model's own recipe, whatever the device."""
    from training.engine import loop, recipe
    from training.engine.model import EMBEDDED
    from training.fine_tuning import default_recipe

    base = _base()
    name = os.environ.get("RECIPE") or ("embedded" if base.name == EMBEDDED else default_recipe(base))
    examples = [example for _, example in learn]
    result = loop.train(base, recipe.load(name), examples, [], MADE / "run", _told, lambda: "go on", 0)
    made = {"model": base.name, "device": base.device.type, "recipe": name, "examples": len(learn)}
    (MADE / "train.json").write_text(json.dumps(made | {"seconds": result.seconds}))


def _told(event: dict[str, Any]) -> None:
    if event.get("step", 1) % 50 == 0 and "train_loss" in event:
        _note(f"step {event['step']} of {event['total_steps']}, about {event['eta_seconds']:.0f} s to go")


def _drawn(
    base: Any, prompts: Sequence[Prompt], elsewhere: Callable[[str, int], bool]
) -> Iterator[tuple[list[Any], list[Any]]]:
    """Each prompt's first reply as it comes, and the draft that would stand first on its card; "" where none is fit.

    After every round of drafting, as far as it is then.
    """
    from bot.suitable import DRAFTS, SPARE, TRIES, Drawn, different, suitable
    from training.dataset.render import Turn
    from training.evaluation.replies import complete
    from training.generate import Sampling

    contexts = [[Turn(m["role"], m["content"]) for m in prompt if m["role"] != "system"] for prompt in prompts]
    fit: list[list[Drawn]] = [[] for _ in prompts]
    first: list[Drawn] = []
    source: dict[tuple[int, str], Drawn] = {}
    for attempt in range(TRIES):
        missing = [DRAFTS - len(different(found, DRAFTS)) for found in fit]
        wanted = [i for i, number in enumerate(missing) for _ in range(number + SPARE) if number]
        asked = complete(base, None, [prompts[i] for i in wanted], Sampling(seed=attempt))
        drawn = [Drawn(one.text, one.finish_reason == "stop") for one in asked]
        if not attempt:
            first = drawn[:: DRAFTS + SPARE]
        for i, one in zip(wanted, drawn, strict=True):
            text = suitable(one, contexts[i])
            if text is not None and not elsewhere(text, i):
                fit[i].append(Drawn(text, suits=_suits(base, prompts[i], one.text)))
                source[i, text] = one
        best = [next(iter(different(found, DRAFTS)), "") for found in fit]
        yield first, [Drawn(text, not text or _ends_whole(source[i, text], text)) for i, text in enumerate(best)]


def _suits(base: Any, prompt: Prompt, text: str) -> float:
    """As a card's drafts are told it, of a reply that was drawn among many prompts' at once."""
    from training.dataset.render import IGNORED, encode_example
    from training.evaluation.voice import losses_of
    from training.rerank import MOST_TOKENS, suits

    told = encode_example(base.tokenizer, [*prompt, {"role": "assistant", "content": text}], MOST_TOKENS)
    with base.speaking(None) as model:
        ((nats, _),) = losses_of(base, model, [told], MOST_TOKENS)
    (value,) = suits(base, None, prompt, [([label for label in told.labels if label != IGNORED], nats)])
    return value


def _ends_whole(drawn: Any, shown: str) -> bool:
    """Whether what is shown of a reply ends where the reply, a line or a sentence of it does."""
    line = shown.splitlines()[-1]
    lines = [one.strip() for one in drawn.text.splitlines()]
    return drawn.whole or line in lines[:-1] or line.endswith((".", "!", "?", "…", ")"))


def _elsewhere(learn: Sequence[tuple[int, Prompt]]) -> Callable[[str, int], bool]:
    """Whether a text repeats a long run of words of a reply that was learned from another chat."""
    from bot.suitable import RUN_WORDS
    from training.dataset.copies import normalised

    def runs(text: str) -> list[tuple[str, ...]]:
        words = normalised(text).split()
        return [tuple(words[i : i + RUN_WORDS]) for i in range(len(words) - RUN_WORDS + 1)]

    chats: defaultdict[tuple[str, ...], set[int]] = defaultdict(set)
    for chat, example in learn:
        for run in runs(example[-1]["content"]):
            chats[run].add(chat)
    return lambda text, chat: any(chats.get(run, {chat}) - {chat} for run in runs(text))


def _loss(base: Any, adapter: str | None, prompts: Sequence[Prompt], real: Sequence[str]) -> float:
    from training.dataset.render import encode_example
    from training.evaluation.voice import loss_of

    examples = [[*prompt, {"role": "assistant", "content": reply}] for prompt, reply in zip(prompts, real, strict=True)]
    encoded = [encode_example(base.tokenizer, example, LONGEST_PROMPT) for example in examples]
    with base.speaking(adapter) as model:
        return float(loss_of(base, model, encoded, LONGEST_PROMPT).loss)


def _columns(verifier: Any, drawn: Sequence[tuple[str, bool]], stock: Sequence[str] | None) -> str:
    """How often more like him than stock (Wilson's interval), mean words of what is said, shares of silent and cut."""
    texts, won = [text for text, _ in drawn], ""
    if stock is not None:
        it = verifier.compare(texts, stock).single
        won = f"{it.share:.0%} ({it.low:.0%}–{it.high:.0%})"
    words = mean([len(text.split()) for text in texts if text.strip()] or [0])
    empty, cut = mean(not text.strip() for text in texts), mean(not whole for _, whole in drawn)
    return f"{won:>20}{words:7.1f}{empty:7.1%}{cut:6.0%}"


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
