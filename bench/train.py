"""How fast a voice is trained: the article's recipe as stock libraries run it, beside likeme's engine.

    python bench/train.py lengths    token counts of real examples (../shared) -> build/train-lengths.json
    python bench/train.py gpu        Qwen3-8B's shape with random weights, memory capped at 22 GiB
    python bench/train.py cpu        SmolLM2-135M on two cores

Same model, same examples, same 16 an optimiser step in every row of a table; each case in a process of its own.
Nothing is asserted here; tests/training/engine shows that the numbers are the same ones.
"""

import gc
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
LENGTHS = ROOT / "build" / "train-lengths.json"
RESULTS = ROOT / "bench" / "results"
CAP_GIB, SMALL_CAP_GIB = 22, 11  # of a card with 24 GB, and of one with 12
PER_STEP, STEPS = 16, 4  # the first step warms up; the last is profiled besides
TIMES = 4  # that the quick ones repeat the timed steps
Examples = list[tuple[int, int]]  # (tokens before the reply, tokens of the reply)

GPU_CASES = {
    "stock: the article's recipe, Trainer + PEFT, 2 x 8": ("stock", {"batch": 2}),
    "stock: padded 16 at once, length-grouped": ("stock", {"batch": 16}),
    "packed rows in PEFT's model, checkpointed": ("packed", {}),
    "likeme, uncaptured: factored norm, no logits kept": ("likeme", {"captured": False}),
    "likeme: compiled layers in CUDA graphs": ("likeme", {"captured": True}),
    f"likeme over nf4 (qdora), at most {SMALL_CAP_GIB} GiB": ("likeme", {"captured": True, "four_bits": True}),
}
CPU_CASES = {
    "stock: Trainer + PEFT, 2 x 8": ("stock", {"batch": 2}),
    "stock: padded 16 at once, length-grouped": ("stock", {"batch": 16}),
    "likeme": ("likeme", {"captured": False}),
}


def main() -> None:
    """See above."""
    what = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if what == "lengths":
        _count_lengths()
    elif what == "case":
        print(json.dumps(_CASES[sys.argv[2]](sys.argv[3], sys.argv[4], **json.loads(sys.argv[5]))))  # noqa: T201
    elif what in ("gpu", "cpu"):
        _compare(what, sys.argv[2:])
    else:
        sys.exit(__doc__)


def _compare(device: str, only: Sequence[str]) -> None:
    """`only`: names of workloads; none: all of them."""
    lines = []
    for workload in only or json.loads(LENGTHS.read_text())["workloads"]:
        lines += ["", f"{workload}:", HEADER]
        first = None
        for name, (kind, options) in (GPU_CASES if device == "gpu" else CPU_CASES).items():
            result = _in_a_process(kind, device, workload, options)
            first = first or result
            lines.append(_line(name, result, first))
            print(lines[-1], file=sys.stderr, flush=True)  # noqa: T201
    table = "\n".join([_machine(device), *lines])
    print(table)  # noqa: T201
    out = Path(os.environ.get("OUT", RESULTS))
    (out / f"train-{device}.txt").write_text(table + "\n", encoding="utf-8")


HEADER = f"{'':56}{'s/step':>8}{'ratio':>8}{'tokens/s':>10}{'busy ms':>9}{'ratio':>8}{'floor':>7}{'peak GiB':>10}"


def _line(name: str, it: dict[str, Any], first: dict[str, Any]) -> str:
    if "error" in it:
        return f"{name:56}  {it['error']}"
    ratio = f"{first['seconds'] / it['seconds']:.1f}x" if "seconds" in first else ""
    line = f"{name:56}{it['seconds']:8.3f}{ratio:>8}{it['tokens'] / it['seconds']:10,.0f}"
    if "busy" in it:
        busy = f"{first['busy'] / it['busy']:.1f}x" if "busy" in first else ""
        line += f"{it['busy']:9.1f}{busy:>8}{it['floor_ms'] / it['busy']:7.0%}{it['peak']:10.2f}"
    return line + (f"   {it['note']}" if it.get("note") else "")


def _machine(device: str) -> str:
    import peft
    import torch
    import transformers

    where = torch.cuda.get_device_name(0) if device == "gpu" else f"{torch.get_num_threads()} CPU threads"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    head = f"python bench/train.py {device}: {where}, {versions}"
    if device == "gpu":
        head += f"; Qwen3-8B's shape, random weights, at most {CAP_GIB} GiB"
    return head + (
        f"\n{PER_STEP} examples an optimiser step; floor: 4 x layer parameters x tokens at the card's own matrix "
        "rate, as a share of the busy time"
    )


def _in_a_process(kind: str, device: str, workload: str, options: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "case", kind, device, workload, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["?"])[-1][:150]}
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def _stock(device: str, workload: str, batch: int) -> dict[str, Any]:
    """transformers' Trainer over PEFT's DoRA, the article's settings."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from training.engine import recipe

    article = recipe.load("article" if device == "gpu" else "embedded")
    base = _base(device)
    model = base.model
    model.set_attn_implementation("sdpa")
    targets = article.targets if isinstance(article.targets, str) else list(article.targets)
    dropout = article.dropout
    wrapped = get_peft_model(
        model,
        LoraConfig(
            r=16, lora_alpha=32, lora_dropout=dropout, use_dora=True, target_modules=targets, task_type="CAUSAL_LM"
        ),
    )
    batches = _batches(base, workload)
    count = STEPS + (device == "gpu")
    chosen = [*batches, batches[-1]][:count]
    if batch == PER_STEP:
        chosen = [sorted(step, key=lambda e: len(e.ids)) for step in chosen]
    flat = [{"input_ids": e.ids, "labels": e.labels} for step in chosen for e in step]
    meter = _Meter(device)

    class Measure(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            meter.begin(profiled=state.global_step == STEPS)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            meter.end()

    class InOrder(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(flat)

    arguments = TrainingArguments(
        output_dir="/tmp/likeme-bench",
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=PER_STEP // batch,
        max_steps=count,
        learning_rate=2e-4,
        bf16=device == "gpu",
        gradient_checkpointing=device == "gpu",
        gradient_checkpointing_kwargs={"use_reentrant": False},
        optim="adamw_torch_fused",
        save_strategy="no",
        report_to=[],
        use_cpu=device == "cpu",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=device == "gpu",
    )
    wrapped.enable_input_require_grads()
    InOrder(wrapped, arguments, train_dataset=flat, data_collator=_padded, callbacks=[Measure()]).train()
    return meter.result([sum(len(e.ids) for e in step) for step in chosen], skip=1)


def _padded(examples: list[dict[str, list[int]]]) -> dict[str, Any]:
    import torch

    longest = max(len(e["input_ids"]) for e in examples)

    def filled(values: list[int], filling: int) -> list[int]:
        return values + [filling] * (longest - len(values))

    return {
        "input_ids": torch.tensor([filled(e["input_ids"], 0) for e in examples]),
        "labels": torch.tensor([filled(e["labels"], -100) for e in examples]),
        "attention_mask": torch.tensor([filled([1] * len(e["input_ids"]), 0) for e in examples]),
    }


def _packed(device: str, workload: str) -> dict[str, Any]:
    """PEFT's model, fed packed rows; reply tokens' logits only."""
    import torch
    import torch.nn.functional as F
    from peft import LoraConfig, get_peft_model

    from training.engine.attention import reply_logits

    base = _base(device)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    model = get_peft_model(base.model, LoraConfig(r=16, lora_alpha=32, use_dora=True, target_modules=targets)).train()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-4, fused=True)

    def step(batch: Sequence[Any], _: Sequence[Any]) -> None:
        rows = base.rows(batch, 4096, 0)
        for row in rows:
            logits = reply_logits(model, row, base.device)
            F.cross_entropy(logits.float(), torch.tensor(row.targets, device=base.device)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return _measured(device, step, _batches(base, workload), 1)


def _likeme(device: str, workload: str, captured: bool, four_bits: bool = False) -> dict[str, Any]:
    """The engine as training runs it."""
    from training.engine import dora, recipe
    from training.engine.packing import shared_beginning
    from training.engine.plan import choose, needed
    from training.engine.step import Captured, Eager

    base = _base(device, four_bits)
    chosen = recipe.load("qdora" if four_bits else "fast" if device == "gpu" else "embedded")
    batches = _batches(base, workload)
    shared = shared_beginning(list(itertools.chain(*batches)))
    cap = (SMALL_CAP_GIB if four_bits else CAP_GIB) * 2**30
    plan = next(choose(base.model, chosen, cap if device == "gpu" else None))
    base.host_embeddings(plan.host_embeddings)
    voice = dora.voice(base.model, chosen.targets, chosen.rank, chosen.alpha, chosen.dropout).train()
    dora.checkpoint_layers(voice, plan.checkpointed)
    way = Captured(base, voice, chosen) if captured else Eager(base, voice, chosen)

    def prepared(batch: Sequence[Any]) -> list[Any]:
        rows = base.rows(batch, plan.row_tokens, shared)
        replies = sum(len(row.targets) for row in rows)
        return [way.prepare(row, replies) for row in rows]

    waiting: list[Any] = []

    def step(batch: Sequence[Any], following: Sequence[Any]) -> None:
        losses = [way.add(row) for row in waiting or prepared(batch)]
        way.update(1e-4)
        waiting[:] = prepared(following)  # as the loop does
        float(sum(losses))

    began = time.monotonic()
    result = _measured(device, step, batches, TIMES if device == "gpu" else 1)
    if device == "gpu":
        memory = needed(base.model, chosen, plan)
        result["note"] = f"planned {memory.total / 2**30:.1f} GiB, {plan}; all of it {time.monotonic() - began:.0f} s"
    return result


Step = Callable[[Any, Any], None]  # given a step's examples and those of the next


def _measured(device: str, step: Step, batches: Sequence[Any], times: int) -> dict[str, Any]:
    meter = _Meter(device)
    timed = [*batches[1:]] * times
    order = [*batches, *timed, batches[-1], batches[0]]
    for number, (batch, following) in enumerate(itertools.pairwise(order)):
        if number < len(batches):  # every shape is compiled and captured here
            step(batch, following)
            meter.reset_peak()
        elif device == "gpu" or number < len(batches) + len(timed):
            meter.begin(profiled=number == len(batches) + len(timed))
            step(batch, following)
            meter.end()
    return meter.result([sum(len(e.ids) for e in batch) for batch in timed], skip=0)


class _Meter:
    """Wall time of each step; for a profiled one the sum of its kernels' times."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._seconds: list[float] = []
        self._busy = 0.0
        self._profile: Any = None

    def reset_peak(self) -> None:
        if self._device == "gpu":
            import torch

            torch.cuda.reset_peak_memory_stats()

    def begin(self, profiled: bool) -> None:
        self._synchronize()
        if profiled and self._device == "gpu":
            from torch.profiler import ProfilerActivity, profile

            self._profile = profile(activities=[ProfilerActivity.CUDA])
            self._profile.__enter__()
        self._began = time.monotonic()

    def end(self) -> None:
        self._synchronize()
        seconds = time.monotonic() - self._began
        if self._profile is None:
            self._seconds.append(seconds)
            return
        self._profile.__exit__(None, None, None)
        events = self._profile.key_averages()
        self._busy = sum(e.self_device_time_total for e in events) / 1e3
        if os.environ.get("KERNELS"):
            for e in sorted(events, key=lambda e: -e.self_device_time_total)[:25]:
                print(f"{e.self_device_time_total / 1e3:8.2f} ms {e.count:5d} {e.key[:110]}", file=sys.stderr)  # noqa: T201
        self._profile = None

    def result(self, tokens: Sequence[int], skip: int) -> dict[str, Any]:
        """`tokens` of each timed step; the first `skip` were warm-up."""
        result: dict[str, Any] = {
            "seconds": statistics.mean(self._seconds[skip:]),
            "tokens": statistics.mean(tokens[skip : len(self._seconds)]),
        }
        if self._device == "gpu":
            import torch

            rate = _matrix_rate()
            floor = 4 * LAYER_PARAMETERS * tokens[-1] / rate * 1e3
            peak = torch.cuda.max_memory_reserved() / 2**30
            result |= {"busy": self._busy, "floor_ms": floor, "peak": peak, "rate": rate}
        return result

    def _synchronize(self) -> None:
        if self._device == "gpu":
            import torch

            torch.cuda.synchronize()


LAYER_PARAMETERS = 6_946_071_552  # of Qwen3-8B's 36 layers


def _matrix_rate() -> float:
    """FLOP/s of a large bf16 product, measured here and now."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    began = time.monotonic()
    for _ in range(10):
        a @ a
    torch.cuda.synchronize()
    return 10 * 2 * 8192**3 / (time.monotonic() - began)


def _base(device: str, four_bits: bool = False) -> Any:
    import torch

    from training.engine.model import load_base

    if device == "cpu":
        return load_base("smollm2", ROOT / "build" / "models", "cpu")
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((SMALL_CAP_GIB if four_bits else CAP_GIB) * 2**30 / total)
    return _random_base(json.loads(LENGTHS.read_text())["config"], four_bits)


def _random_base(config: dict[str, Any], four_bits: bool) -> Any:
    """Qwen3-8B's shape with random weights, written straight into the card's memory."""
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


def _batches(base: Any, workload: str) -> list[list[Any]]:
    from training.dataset.render import IGNORED, Encoded

    known = json.loads(LENGTHS.read_text())["workloads"][workload]
    draw = random.Random(0)
    beginning = [draw.randrange(1000, 40_000) for _ in range(known["shared"])]
    chosen = draw.sample(known["lengths"], PER_STEP * STEPS)

    def example(prompt: int, reply: int) -> Any:
        ids = [*beginning, *(draw.randrange(1000, 40_000) for _ in range(prompt + reply - len(beginning)))]
        return Encoded(ids, [IGNORED] * prompt + ids[prompt:])

    examples = [example(*lengths) for lengths in chosen]
    return [examples[i : i + PER_STEP] for i in range(0, len(examples), PER_STEP)]


def _count_lengths() -> None:
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
    for name, workload in workloads.items():
        mean = statistics.mean(map(sum, workload["lengths"]))
        print(f"{name}: {len(workload['lengths']):,} examples, mean {mean:.1f} tokens, {workload['shared']} shared")  # noqa: T201


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


_CASES: dict[str, Callable[..., dict[str, Any]]] = {"stock": _stock, "packed": _packed, "likeme": _likeme}

if __name__ == "__main__":
    main()
