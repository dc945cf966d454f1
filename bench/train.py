"""How fast a voice is trained: the article's recipe as stock libraries run it, beside likeme's engine.

    python bench/train.py lengths    token counts of real examples (../shared) -> build/train-lengths.json
    python bench/train.py gpu        Qwen3-8B's shape with random weights, memory capped at 22 GiB
    python bench/train.py cpu        SmolLM2-135M

Same model, same examples, same 16 an optimiser step in every row of a table, timed and profiled over the same three
steps; each case in a process of its own. Further words name workloads by their beginning, ROWS=stock,nf4 rows by a
part of their names; KERNELS=1 lists kernels.
Nothing is asserted here; tests/training/engine shows that the numbers are the same ones.
"""

import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from train_meter import Meter, projection
from train_workload import CAP_GIB, PER_STEP, ROOT, SMALL_CAP_GIB, STEPS, base, batches, count_lengths, known

sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "bench" / "results"
TIMES = 4  # that the quick ones repeat the timed steps

LIKEME = "likeme: + compiled, in CUDA graphs"
GPU_CASES = {
    "stock: the article's recipe, Trainer + PEFT, 2 x 8": ("stock", {"batch": 2}),
    "stock: padded 16 at once, length-grouped": ("stock", {"batch": 16}),
    "stock: the same with Liger's kernels": ("stock", {"batch": 16, "liger": True}),
    "16 packed into rows, PEFT's model, checkpointed": ("packed", {"all_logits": True}),
    "+ logits of reply tokens alone": ("packed", {}),
    "+ fused layers, norms kept, nothing checkpointed": ("likeme", {"captured": False}),
    LIKEME: ("likeme", {"captured": True}),
    f"likeme over nf4 (qdora), at most {SMALL_CAP_GIB} GiB": ("likeme", {"captured": True, "four_bits": True}),
}
CPU_CASES = {
    "stock: Trainer + PEFT, 2 x 8": ("stock", {"batch": 2}),
    "stock: padded 16 at once, length-grouped": ("stock", {"batch": 16}),
    "stock: the same with bf16=True": ("stock", {"batch": 16, "bf16": True}),
    "likeme, all in fp32": ("likeme", {"captured": False, "fp32": True}),
    "likeme": ("likeme", {"captured": False}),
}


def main() -> None:
    """See above."""
    what = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if what == "lengths":
        print(count_lengths())  # noqa: T201
    elif what == "case":
        print(json.dumps(_CASES[sys.argv[2]](sys.argv[3], sys.argv[4], **json.loads(sys.argv[5]))))  # noqa: T201
    elif what in ("gpu", "cpu"):
        _compare(what, sys.argv[2:])
    else:
        sys.exit(__doc__)


def _compare(device: str, only: Sequence[str]) -> None:
    """`only`: how the names of workloads begin; none: all of them. What matters most runs first."""
    cases = GPU_CASES if device == "gpu" else CPU_CASES
    rows = os.environ.get("ROWS", "").split(",")
    wanted = [name for name in cases if any(row in name for row in rows) and _can_run(cases[name][1])]
    workloads = [name for name in known()["workloads"] if not only or name.startswith(tuple(only))]
    results: dict[tuple[str, str], dict[str, Any]] = {}
    for workload in workloads:
        for name in sorted(wanted, key=lambda name: (name != next(iter(cases)), not name.startswith("likeme"))):
            kind, options = cases[name]
            results[workload, name] = _in_a_process(kind, device, workload, options)
            table = "\n".join(_table(device, results, [*cases]))
            (Path(os.environ.get("OUT", RESULTS)) / f"train-{device}.txt").write_text(table + "\n", encoding="utf-8")
            print(f"{workload}: {name}: {results[workload, name]}", file=sys.stderr, flush=True)  # noqa: T201
    print(table)  # noqa: T201


def _can_run(options: dict[str, Any]) -> bool:
    return not options.get("liger") or importlib.util.find_spec("liger_kernel") is not None


def _table(device: str, results: dict[tuple[str, str], dict[str, Any]], names: Sequence[str]) -> list[str]:
    """The rows in the order in which one builds on the other."""
    lines = [_machine(device)]
    for workload in dict.fromkeys(workload for workload, _ in results):
        lines += ["", f"{workload}:", HEADER]
        first = results.get((workload, names[0]), {})
        lines += [_line(name, results[workload, name], first) for name in names if (workload, name) in results]
        found = results.get((workload, LIKEME), {})
        lines += _projected(workload, found) if "rows" in found and device == "gpu" else []
    return lines


HEADER = f"{'':52}{'s/step':>8}{'ratio':>8}{'tokens/s':>10}{'busy ms':>9}{'ratio':>8}{'floor':>7}{'peak GiB':>10}"


def _line(name: str, it: dict[str, Any], first: dict[str, Any]) -> str:
    if "error" in it:
        return f"{name:52}  {it['error']}"
    ratio = f"{first['seconds'] / it['seconds']:.1f}x" if "seconds" in first else ""
    line = f"{name:52}{it['seconds']:8.3f}{ratio:>8}{it['tokens'] / it['seconds']:10,.0f}"
    if "busy" in it:
        busy = f"{first['busy'] / it['busy']:.1f}x" if "busy" in first else ""
        line += f"{it['busy']:9.1f}{busy:>8}{it['floor_ms'] / it['busy']:7.0%}{it['peak']:10.2f}"
    return line + (f"   {it['note']}" if it.get("note") else "")


def _projected(workload: str, result: dict[str, Any]) -> list[str]:
    import torch

    steps = batches(workload)[1:]
    shared = known()["workloads"][workload]["shared"]
    through = statistics.mean(sum(len(e.ids) - shared for e in step) for step in steps) + shared * result["rows"]
    replies = statistics.mean(sum(e.reply_tokens for e in step) for step in steps)
    lines = projection(torch.cuda.get_device_name(0), result["seconds"], through, replies, result["rows"])
    return [f"    {line}" for line in lines]


def _machine(device: str) -> str:
    import peft
    import torch
    import transformers

    where = torch.cuda.get_device_name(0) if device == "gpu" else f"{torch.get_num_threads()} CPU threads"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    head = f"python bench/train.py {device}: {where}, {versions}"
    steps = f"{PER_STEP} examples an optimiser step, means of {STEPS - 1} steps, the same in every row."
    if device == "gpu":
        return (
            f"{head}; Qwen3-8B's shape, random weights, at most {CAP_GIB} GiB\n{steps} Busy: its kernels together. "
            "Floor:\n4 x layer parameters x tokens at the matrix rate measured here, as a share of the busy time."
        )
    return (
        f"{head}; SmolLM2-135M, recipe `embedded`\n{steps} likeme multiplies by the frozen\nweights in bf16 where the "
        "CPU can; sums, norms, attention, adapter and optimiser are fp32."
    )


def _in_a_process(kind: str, device: str, workload: str, options: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "case", kind, device, workload, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if os.environ.get("KERNELS"):
        print(done.stderr, file=sys.stderr)  # noqa: T201
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["?"])[-1][:120]}
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def _stock(device: str, workload: str, batch: int, liger: bool = False, bf16: bool = False) -> dict[str, Any]:
    """transformers' Trainer over PEFT's DoRA, the article's settings."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from training.engine import recipe

    chosen = recipe.load("article" if device == "gpu" else "embedded")
    model = base(device).model
    model.set_attn_implementation("sdpa")
    wrapped = get_peft_model(
        model,
        LoraConfig(
            r=16,
            lora_alpha=32,
            lora_dropout=chosen.dropout,
            use_dora=True,
            target_modules=chosen.targets if isinstance(chosen.targets, str) else list(chosen.targets),
            task_type="CAUSAL_LM",
        ),
    )
    steps = batches(workload)
    order = [*steps, *steps[1:]] if device == "gpu" else steps
    if batch == PER_STEP:
        order = [sorted(step, key=lambda e: len(e.ids)) for step in order]
    flat = [{"input_ids": e.ids, "labels": e.labels} for step in order for e in step]
    meter = Meter(device)

    class Measure(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            meter.begin(profiled=state.global_step >= STEPS)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            meter.end()

    class InOrder(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(flat)

    arguments = TrainingArguments(
        output_dir="/tmp/likeme-bench",
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=PER_STEP // batch,
        max_steps=len(order),
        learning_rate=2e-4,
        bf16=bf16 or device == "gpu",
        gradient_checkpointing=device == "gpu",
        gradient_checkpointing_kwargs={"use_reentrant": False},
        optim="adamw_torch_fused",
        use_liger_kernel=liger,
        save_strategy="no",
        report_to=[],
        use_cpu=device == "cpu",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=device == "gpu",
    )
    if device == "gpu":
        wrapped.enable_input_require_grads()
    InOrder(wrapped, arguments, train_dataset=flat, data_collator=_padded, callbacks=[Measure()]).train()
    return meter.result([sum(len(e.ids) for e in step) for step in order], skip=1)


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


def _packed(device: str, workload: str, all_logits: bool = False) -> dict[str, Any]:
    """PEFT's model, fed packed rows."""
    import torch
    import torch.nn.functional as F
    from peft import LoraConfig, get_peft_model

    from training.engine.attention import plan, reply_logits

    ours = base(device)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    model = get_peft_model(ours.model, LoraConfig(r=16, lora_alpha=32, use_dora=True, target_modules=targets)).train()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-4, fused=True)

    def logits(row: Any) -> torch.Tensor:
        if not all_logits:
            return reply_logits(model, row, ours.device)
        ids, positions = (torch.tensor([values], device=ours.device) for values in (row.ids, row.positions))
        output = model(input_ids=ids, position_ids=positions, use_cache=False, plan=plan(row, ours.device))
        return output.logits[0, torch.tensor(row.keep, device=ours.device)]

    def step(batch: Sequence[Any], _: Sequence[Any]) -> None:
        for row in ours.rows(batch, 4096, 0):
            F.cross_entropy(logits(row).float(), torch.tensor(row.targets, device=ours.device)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return _measured(device, step, batches(workload), 1)


def _likeme(device: str, workload: str, captured: bool, four_bits: bool = False, fp32: bool = False) -> dict[str, Any]:
    """The engine as training runs it: by the first plan that really fits."""
    import torch

    from training.engine import recipe
    from training.engine.plan import choose, needed

    ours = base(device, four_bits)
    if fp32:
        ours.products = torch.float32
    chosen = recipe.load("qdora" if four_bits else "fast" if device == "gpu" else "embedded")
    cap = (SMALL_CAP_GIB if four_bits else CAP_GIB) * 2**30 if device == "gpu" else None
    began = time.monotonic()
    for plan in choose(ours.model, chosen, cap):
        try:
            result = _by_plan(ours, chosen, plan, device, workload, captured)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            continue
        if device == "gpu":
            took, planned = time.monotonic() - began, needed(ours.model, chosen, plan).total / 2**30
            result["note"] = (
                f"{result['rows']:.1f} rows of {plan.row_tokens}, planned {planned:.1f}, all of it {took:.0f} s"
            )
        return result
    return {"error": "out of memory"}


def _by_plan(ours: Any, chosen: Any, plan: Any, device: str, workload: str, captured: bool) -> dict[str, Any]:
    from training.engine import dora
    from training.engine.packing import shared_beginning
    from training.engine.step import Captured, Eager

    steps = batches(workload)
    shared = shared_beginning(list(itertools.chain(*steps)))
    ours.host_embeddings(plan.host_embeddings)
    voice = dora.voice(ours.model, chosen.targets, chosen.rank, chosen.alpha, chosen.dropout).train()
    dora.checkpoint_layers(voice, plan.checkpointed)
    way = Captured(ours, voice, chosen, plan.row_tokens) if captured else Eager(ours, voice, chosen)

    def prepared(batch: Sequence[Any]) -> list[Any]:
        rows = ours.rows(batch, plan.row_tokens, shared)
        replies = sum(len(row.targets) for row in rows)
        return [way.prepare(row, replies) for row in rows]

    waiting: list[Any] = []

    def step(batch: Sequence[Any], following: Sequence[Any]) -> None:
        losses = [way.add(row) for row in waiting or prepared(batch)]
        way.update(1e-4)
        waiting[:] = prepared(following)  # as the loop does
        float(sum(losses))

    result = _measured(device, step, steps, TIMES if device == "gpu" else 1)
    result["rows"] = statistics.mean(len(ours.rows(batch, plan.row_tokens, shared)) for batch in steps[1:])
    return result


Step = Callable[[Any, Any], None]  # given a step's examples and those of the next


def _measured(device: str, step: Step, steps: Sequence[Any], times: int) -> dict[str, Any]:
    meter = Meter(device)
    timed = [*steps[1:]] * times
    profiled = steps[1:] if device == "gpu" else []
    order = [*steps, *timed, *profiled, steps[0]]
    for number, (batch, following) in enumerate(itertools.pairwise(order)):
        if number < len(steps):  # every shape is compiled and captured here
            step(batch, following)
            meter.reset_peak()
        else:
            meter.begin(profiled=number >= len(steps) + len(timed))
            step(batch, following)
            meter.end()
    return meter.result([sum(len(e.ids) for e in batch) for batch in timed], skip=0)


_CASES: dict[str, Callable[..., dict[str, Any]]] = {"stock": _stock, "packed": _packed, "likeme": _likeme}

if __name__ == "__main__":
    main()
