"""How fast drafts are written: three replies of 32 tokens to a prompt of 200, as libraries do it and as likeme does.

    python bench/draft.py gpu [row …]    Qwen3-8B's shape with random weights, memory capped at 22 GiB
    python bench/draft.py cpu [row …]    SmolLM2-135M's shape with random weights

The floor is the time to read every weight that a token needs, once a token, at the rate at which this machine
reads memory just then. The last column holds our logits against transformers' (relative error), and beside it those
that transformers gives by its own cache: what rounding alone does. FP32=1 keeps a CPU's products in fp32, KERNELS=1
tells on stderr where a draft's time goes. Nothing is asserted here; tests/training/engine is where the logits are.
Models have random weights, so replies never end early.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import draft_training
from draft_workload import (
    ALL,
    ASKED,
    ATTENTION,
    CAP_GIB,
    PROMPT,
    REPLIES,
    ROOT,
    SHAPES,
    TOKENS,
    random_base,
    random_ids,
    random_voice,
)

sys.path.insert(0, str(ROOT))
from training.dataset.sampling import TEMPERATURE, TOP_P

RESULTS = ROOT / "bench" / "results"
ROWS = {
    "stock": "likeme, stock model",
    "attention": "likeme, DoRA on attention",
    "ranked": "likeme, DoRA on attention, and ranked",
    "all-linear": "likeme, DoRA on every linear layer",
    "training": "drafts while a voice is trained",
    "generate": "transformers generate, num_return_sequences=3",
    "static": "transformers generate, static cache, compiled",
    "nf4": "likeme over a base in 4 bits (nf4)",
}
TOGETHER = (("stock", "attention", "ranked", "all-linear", "training"), ("nf4",), ("generate", "static"))  # by process
ONLY_GPU = ("training", "static", "nf4")


def main() -> None:
    """See above."""
    what, *given = sys.argv[1:] or ["--help"]
    if what in SHAPES and all(row in ROWS for row in given):
        _compare(what, given or [row for row in ROWS if what == "gpu" or row not in ONLY_GPU])
    elif what == "rows":
        _rows(*given)
    else:
        sys.exit(__doc__)


def _compare(device: str, wanted: list[str]) -> None:
    """The table stands in its file after every row: a long one that is broken off takes nothing along."""
    found: dict[str, dict[str, Any]] = {row: {"error": "not measured"} for row in wanted}
    out = Path(os.environ.get("OUT", RESULTS)) / f"draft-{device}.txt"
    head, table = _head(device, wanted), ""
    for group in TOGETHER:
        for result in _in_a_process(device, [row for row in group if row in wanted]):
            found |= result
            lines = [_line(row, found[row]) for row in wanted if row != "training"]
            if "training" in wanted:
                lines += ["", *draft_training.told(found["training"])]
            table = "\n".join([*head, *lines])
            out.write_text(table + "\n", encoding="utf-8")
    print(table)  # noqa: T201


def _rows(device: str, *rows: str) -> None:
    """In a process of its own: each row as a line of JSON as soon as it is there."""
    base = random_base(device, quantised=rows == ("nf4",))
    for row in rows:
        try:
            found = _measured(device, base, row)
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:150]}
        print(json.dumps({row: found}), flush=True)  # noqa: T201


def _measured(device: str, base: Any, row: str) -> dict[str, Any]:
    if row == "training":
        return draft_training.measure(base)
    if row in ("generate", "static"):
        return _generate(device, base, {"cache_implementation": "static"} if row == "static" else {})
    targets = {"attention": ATTENTION, "ranked": ATTENTION, "all-linear": ALL}.get(row)
    return _likeme(device, base, targets, ranked=row == "ranked")


def _head(device: str, wanted: list[str]) -> list[str]:
    import torch
    import transformers

    where = f"{torch.get_num_threads()} CPU threads"
    if device == "gpu":
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]  # torch would take a part of its memory
        where = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    rows = "" if wanted == [row for row in ROWS if device == "gpu" or row not in ONLY_GPU] else f" {' '.join(wanted)}"
    shape = (
        "Qwen3-8B's shape, bf16"
        if device == "gpu"
        else "SmolLM2-135M's shape, fp32, likeme's products in bf16 where the CPU can"
    )
    cap = f", at most {CAP_GIB} GiB" if device == "gpu" else ""
    return [
        f"python bench/draft.py {device}{rows}: {where}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}; {shape}, random weights{cap}",
        f"{REPLIES} x {TOKENS} tokens from a prompt of {PROMPT}, tokenising and reading them included",
        "",
        f"{'':48}{'ms':>8}{'(worst)':>9}{'floor':>8}{'/floor':>8}{'first token':>13}{'ready':>8}{'peak GiB':>10}"
        f"{'logits':>9} (its own)",
    ]


def _line(row: str, it: dict[str, Any]) -> str:
    if "error" in it:
        return f"{ROWS[row]:48}  {it['error']}"
    peak = f"{it['peak']:10.2f}" if "peak" in it else f"{'':10}"
    first = f"{it['first']:10.0f} ms" if "first" in it else f"{'':13}"
    apart = f"{it['apart'][0]:9.1e} ({it['apart'][1]:.1e})" if "apart" in it else ""
    return (
        f"{ROWS[row]:48}{it['ms']:8.0f}{it['worst']:9.0f}{it['floor']:8.0f}{it['ms'] / it['floor']:8.2f}{first}"
        f"{it['ready']:6.0f} s{peak}{apart}"
    )


def _in_a_process(device: str, rows: list[str]) -> Iterator[dict[str, dict[str, Any]]]:
    if not rows:
        return
    yield {row: {"error": "its process died"} for row in rows}
    command = [sys.executable, __file__, "rows", device, *rows]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                print(line.strip(), file=sys.stderr, flush=True)  # noqa: T201
                yield json.loads(line)


def _generate(device: str, base: Any, options: dict[str, Any]) -> dict[str, Any]:
    """What a person writes first: transformers' own generate."""
    import torch

    prompt = torch.tensor([random_ids(PROMPT)], device=base.device)

    def draw() -> None:
        drawn = base.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            temperature=TEMPERATURE,
            top_p=TOP_P,
            num_return_sequences=REPLIES,
            max_new_tokens=TOKENS,
            min_new_tokens=TOKENS,
            pad_token_id=0,
            **options,
        )
        drawn.tolist()

    return _timed(device, draw, base.model)


def _likeme(device: str, base: Any, targets: Any, ranked: bool) -> dict[str, Any]:
    """As the model server draws; `ranked`: and as it then tells how well each reply suits the prompt."""
    from training.generate import Sampling, complete

    name = None if targets is None else "voice"
    base.voices.pop("voice", None)
    if targets is not None:
        base.voices["voice"] = random_voice(base, targets)
    how = Sampling(REPLIES, TEMPERATURE, TOP_P, TOKENS, seed=1, rank=ranked)
    seen: list[float] = []

    def draw() -> None:
        began, first = time.perf_counter(), []
        complete(base, name, ASKED, how, lambda *_: first or first.append(time.perf_counter() - began))
        seen.append(first[0])

    result = _timed(device, draw, base.model, base.products)
    if os.environ.get("KERNELS"):
        _print_kernels(draw)
    if base.decoder is not None:
        result["apart"] = _apart(base, name)
    return result | {"first": statistics.median(seen[-5:]) * 1e3}


def _apart(base: Any, name: str | None) -> tuple[float, float]:
    """Logits of a prompt's end and of three tokens more, ‖x - transformers'‖ / ‖transformers'‖: ours, and its own.

    Its own: what transformers itself gives when it reads prompt and tokens one after the other, not in one go.
    """
    import torch

    draw = random.Random(2)
    prompt, replies = random_ids(PROMPT), [[draw.randrange(1000, 40_000) for _ in range(3)] for _ in range(REPLIES)]
    given = torch.tensor([[*prompt, *reply] for reply in replies], device=base.device)
    with torch.no_grad(), base.speaking(name) as model:
        wanted = model(input_ids=given, use_cache=False).logits[:, PROMPT - 1 :].float()
        writing = base.decoder.begin(None if name is None else model, prompt, REPLIES, TOKENS)
        ours = [writing.logits.float().clone()]
        ours += [writing.go_on(ids).float().clone() for ids in given[:, PROMPT:].unbind(1)]
        read = model(input_ids=given[:, :PROMPT], use_cache=True, logits_to_keep=1)
        its_own = [read.logits[:, -1].float()]
        for ids in given[:, PROMPT:].unbind(1):
            more = model(input_ids=ids[:, None], past_key_values=read.past_key_values, use_cache=True)
            its_own.append(more.logits[:, -1].float())
        apart = [float((torch.stack(one, 1) - wanted).norm() / wanted.norm()) for one in (ours, its_own)]
    return apart[0], apart[1]


def _timed(device: str, draw: Callable[[], None], model: Any, products: Any = None) -> dict[str, Any]:
    """Milliseconds of a draw, the first one (which compiles) apart; the floor measured beside it.

    products: the type in which the weights are read, where it is not the model's.
    """
    import torch

    ready = _seconds(draw)
    draw()
    if device == "gpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    taken = [_seconds(draw) * 1e3 for _ in range(5)]
    result = {"ms": statistics.median(taken), "worst": max(taken), "ready": ready}
    if device == "gpu":
        result["peak"] = torch.cuda.max_memory_reserved() / 2**30
    size = _weights_read(model) * (1 if products is None else products.itemsize / model.dtype.itemsize)
    return result | {"floor": TOKENS * size / _bandwidth(model.device) * 1e3}


def _print_kernels(draw: Callable[[], None]) -> None:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        draw()
    events = sorted(seen.key_averages(), key=lambda e: -e.self_device_time_total)
    for e in events[:25]:
        print(f"{e.self_device_time_total / 1e3:8.2f} ms {e.count:6d} {e.key[:110]}", file=sys.stderr)  # noqa: T201


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _weights_read(model: Any) -> int:
    """Bytes that one token needs: everything but the embeddings, of which it needs a row."""
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    return int(size - (0 if embeddings is head else embeddings.numel() * embeddings.element_size()))


def _bandwidth(device: Any) -> float:
    """Bytes a second that this machine moves at best: reading, or copying (both ways counted)."""
    import torch

    size = 2**30 if device.type == "cuda" else 2**27
    numbers = torch.ones(size // 4, dtype=torch.int32, device=device)
    copy = torch.empty_like(numbers)
    reading = size / min(_seconds_on(device, numbers.max) for _ in range(10))
    return max(reading, 2 * size / min(_seconds_on(device, lambda: copy.copy_(numbers)) for _ in range(10)))


def _seconds_on(device: Any, work: Callable[[], Any]) -> float:
    """Of the card's own clock, so that launches do not count."""
    import torch

    if device.type != "cuda":
        return _seconds(work)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


if __name__ == "__main__":
    main()
