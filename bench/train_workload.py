"""What bench/train.py trains on: real examples' lengths with drawn ids, and the models that they go through."""

import itertools
import json
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LENGTHS = ROOT / "build" / "train-lengths.json"
CAP_GIB, SMALL_CAP_GIB = 22, 11  # of a card with 24 GB, and of one with 12
PER_STEP, STEPS = 16, 4  # the first step only warms up


def known() -> dict[str, Any]:
    """Qwen3-8B's configuration, and each workload's (tokens before the reply, tokens of the reply)."""
    if not LENGTHS.is_file():
        sys.exit(f"{LENGTHS.relative_to(ROOT)} is missing: python bench/train.py lengths writes it.")
    found: dict[str, Any] = json.loads(LENGTHS.read_text())
    return found


def batches(workload: str) -> list[list[Any]]:
    """Steps of examples as long as the workload's, from the shortest to the longest in equal shares, in mixed order."""
    from training.dataset.render import IGNORED, Encoded

    lengths = known()["workloads"][workload]
    draw = random.Random(0)
    beginning = [draw.randrange(1000, 40_000) for _ in range(lengths["shared"])]
    ordered = sorted(lengths["lengths"], key=lambda pair: (sum(pair), pair))
    number = PER_STEP * STEPS
    chosen = [ordered[(2 * i + 1) * len(ordered) // (2 * number)] for i in range(number)]
    draw.shuffle(chosen)

    def example(prompt: int, reply: int) -> Any:
        ids = [*beginning, *(draw.randrange(1000, 40_000) for _ in range(prompt + reply - len(beginning)))]
        return Encoded(ids, [IGNORED] * prompt + ids[prompt:])

    examples = [example(*pair) for pair in chosen]
    return [examples[i : i + PER_STEP] for i in range(0, number, PER_STEP)]


def base(device: str, four_bits: bool = False) -> Any:
    """The embedded model on the CPU; Qwen3-8B's shape on a card, which then gives no more than the cap."""
    import torch

    from training.engine.model import load_base

    if device == "cpu":
        return load_base("smollm2", ROOT / "build" / "models", "cpu")
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((SMALL_CAP_GIB if four_bits else CAP_GIB) * 2**30 / total)
    return _random_base(known()["config"], four_bits)


def _random_base(config: dict[str, Any], four_bits: bool) -> Any:
    """Random weights, written straight into the card's memory."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from training.engine.model import prepared

    shape = Qwen3Config(**config)
    with torch.device("meta"):
        model = Qwen3ForCausalLM(shape).to(torch.bfloat16)
    if four_bits:
        _quantise(model.model.layers)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.device.type != "meta":
                continue
            weight = torch.empty(parameter.shape, dtype=torch.bfloat16, device="cuda")
            weight.normal_(0, 0.02) if weight.dim() > 1 else weight.fill_(1)
            setattr(module, name, torch.nn.Parameter(weight, requires_grad=False))
    model.model.rotary_emb = type(model.model.rotary_emb)(shape, device="cuda")
    return prepared("Qwen3-8B's shape", model, _Ids())


def _quantise(layers: Any) -> None:
    """Random nf4 weights in place of the layers' linear ones, as transformers loads them."""
    import bitsandbytes
    import torch

    for name, linear in list(layers.named_modules()):
        if isinstance(linear, torch.nn.Linear):
            rows, columns = linear.weight.shape
            new = bitsandbytes.nn.Linear4bit(
                columns, rows, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4", device="meta"
            )
            weight = torch.empty(rows, columns, dtype=torch.bfloat16, device="cuda").normal_(0, 0.02)
            new.weight = bitsandbytes.nn.Params4bit(weight, requires_grad=False, quant_type="nf4").to("cuda")
            layers.set_submodule(name, new)


class _Ids:
    """What `prepared` asks of a tokenizer; the benchmark has ids only."""

    unk_token_id, pad_token_id, chat_template, eos_token = None, 151_643, "given", "<|im_end|>"

    def convert_tokens_to_ids(self, _: str) -> int:
        return 151_645


def count_lengths() -> str:
    """Real examples' token counts, by Qwen3's tokenizer; no word leaves ../shared."""
    import asyncio
    import tempfile

    from transformers import AutoTokenizer

    from training.dataset.pairs import Options

    shared = ROOT.parent / "shared"
    tokenizer = AutoTokenizer.from_pretrained(str(shared / "qwen3"))
    with tempfile.TemporaryDirectory() as folder:
        chats = asyncio.run(_imported(shared / "corpora" / "irc_tdonohue.result.json.gz", Path(folder)))
    own = Options(max_pairs_per_chat=None)
    workloads = {
        "one message, one reply (irc_tdonohue)": _lengths(tokenizer, _single_messages(chats)),
        "likeme's examples: up to four turns (irc_tdonohue)": _lengths(tokenizer, _examples(chats, own)),
    }
    config = json.loads((shared / "qwen3" / "config.json").read_text())
    LENGTHS.parent.mkdir(exist_ok=True)
    LENGTHS.write_text(json.dumps({"config": config, "workloads": workloads}))
    means = {name: statistics.mean(map(sum, workload["lengths"])) for name, workload in workloads.items()}
    return "\n".join(
        f"{name}: {len(it['lengths']):,} examples, mean {means[name]:.1f} tokens, {it['shared']} shared"
        for name, it in workloads.items()
    )


async def _imported(path: Path, home: Path) -> list[tuple[Any, Any]]:
    from datetime import UTC, datetime

    from storage import history
    from storage.database import Database
    from storage.ingest.export import import_export

    async with Database.open(home / "history.db") as database:
        await import_export(database, path, me=None, now=datetime.now(UTC))
        return [(chat, await history.messages(database, chat.chat_id)) for chat in await history.chats(database)]


def _single_messages(chats: Sequence[tuple[Any, Any]]) -> Iterator[list[dict[str, str]]]:
    for chat, messages in chats:
        spoken = [m for m in messages if m.text and chat.kind.value == "personal"]
        for asked, answer in itertools.pairwise(spoken):
            if answer.is_own and not asked.is_own:
                yield [{"role": "user", "content": asked.text}, {"role": "assistant", "content": answer.text}]


def _examples(chats: Sequence[tuple[Any, Any]], options: Any) -> Iterator[list[dict[str, str]]]:
    from training.dataset.pairs import pairs_of
    from training.dataset.split import assemble

    for example in assemble((pairs_of(chat, messages, options) for chat, messages in chats), options).train:
        yield list(example.messages)


def _lengths(tokenizer: Any, conversations: Iterator[list[dict[str, str]]]) -> dict[str, Any]:
    from training.dataset.render import encode_example
    from training.engine.packing import shared_beginning

    encoded = [encode_example(tokenizer, messages, 1024) for messages in conversations]
    lengths = [(len(e.ids) - e.reply_tokens, e.reply_tokens) for e in encoded]
    return {"shared": shared_beginning(encoded), "lengths": lengths}
