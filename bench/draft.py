"""How fast drafts are written: three replies of 32 tokens to a prompt of 200, as libraries do it and as likeme does.

    python bench/draft.py gpu    Qwen3-8B's shape with random weights, memory capped at 22 GiB
    python bench/draft.py cpu    SmolLM2-135M's shape with random weights

The floor is the time to read every weight that a token needs, once a token, at the rate at which this machine
reads memory just then. Each case in a process of its own. Nothing is asserted here; tests/training/engine shows that
the logits are transformers'. Models have random weights, so replies never end early.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "bench" / "results"
CAP_GIB = 22
PROMPT, REPLIES, TOKENS = 200, 3, 32
SHAPES = {
    "gpu": dict(vocab_size=151936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36,
                num_attention_heads=32, num_key_value_heads=8, head_dim=128, max_position_embeddings=40960,
                tie_word_embeddings=False),
    "cpu": dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                num_attention_heads=9, num_key_value_heads=3, head_dim=64, max_position_embeddings=8192,
                tie_word_embeddings=True),
}  # fmt: skip
ATTENTION, ALL = ("q_proj", "k_proj", "v_proj", "o_proj"), "all-linear"
CASES: dict[str, tuple[str, Any]] = {
    "transformers generate, num_return_sequences=3": ("generate", {}),
    "transformers generate, static cache, compiled": ("generate", {"cache_implementation": "static"}),
    "likeme, stock model": ("likeme", None),
    "likeme, DoRA on attention": ("likeme", ATTENTION),
    "likeme, DoRA on every linear layer": ("likeme", ALL),
}


def main() -> None:
    """See above."""
    what = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if what in SHAPES:
        _compare(what)
    elif what == "case":
        device, kind, options = sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
        print(json.dumps({"generate": _generate, "likeme": _likeme, "training": _training}[kind](device, options)))  # noqa: T201
    else:
        sys.exit(__doc__)


def _compare(device: str) -> None:
    lines = []
    for name, (kind, options) in CASES.items():
        if device == "cpu" and kind == "generate" and options:
            continue  # compiling for the CPU is another story
        lines.append(_line(name, _in_a_process(device, kind, options)))
        print(lines[-1], file=sys.stderr, flush=True)  # noqa: T201
    if device == "gpu":
        lines += ["", *_while_training(_in_a_process(device, "training", None))]
    table = "\n".join([*_head(device), *lines])
    print(table)  # noqa: T201
    (Path(os.environ.get("OUT", RESULTS)) / f"draft-{device}.txt").write_text(table + "\n", encoding="utf-8")


def _head(device: str) -> list[str]:
    import torch
    import transformers

    where = torch.cuda.get_device_name(0) if device == "gpu" else f"{torch.get_num_threads()} CPU threads"
    shape = "Qwen3-8B's shape, bf16" if device == "gpu" else "SmolLM2-135M's shape, fp32"
    cap = f", at most {CAP_GIB} GiB" if device == "gpu" else ""
    return [
        f"python bench/draft.py {device}: {where}, torch {torch.__version__}, transformers {transformers.__version__}; "
        f"{shape}, random weights{cap}",
        f"{REPLIES} x {TOKENS} tokens from a prompt of {PROMPT}, tokenising and reading them included",
        "",
        f"{'':50}{'ms':>8}{'(worst)':>9}{'floor':>8}{'/floor':>8}{'first token':>13}{'ready':>8}{'peak GiB':>10}",
    ]


def _line(name: str, it: dict[str, Any]) -> str:
    if "error" in it:
        return f"{name:50}  {it['error']}"
    peak = f"{it['peak']:10.2f}" if "peak" in it else f"{'':10}"
    first = f"{it['first']:10.0f} ms" if "first" in it else f"{'':13}"
    return (
        f"{name:50}{it['ms']:8.0f}{it['worst']:9.0f}{it['floor']:8.0f}{it['ms'] / it['floor']:8.2f}{first}"
        f"{it['ready']:6.0f} s{peak}"
    )


def _while_training(it: dict[str, Any]) -> list[str]:
    if "error" in it:
        return [f"drafts while a voice is trained: {it['error']}"]
    return [
        f"while a voice is trained (16 examples a step), {it['drafts']} drafts, one every {it['every_ms']} ms:",
        f"  a draft     p50 {it['p50']:.0f} ms, p95 {it['p95']:.0f} ms, waiting for the step before it included; "
        f"alone {it['alone']:.0f} ms",
        f"  a step      {it['step_alone']:.0f} ms alone, {it['step_with']:.0f} ms on average with the drafts between: "
        f"each draft costs the training {it['cost']:.0f} ms; peak {it['peak']:.2f} GiB",
    ]


def _in_a_process(device: str, kind: str, options: Any) -> dict[str, Any]:
    command = [sys.executable, __file__, "case", device, kind, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        sys.stderr.write(done.stderr[-3000:])
        return {"error": (done.stderr.strip().splitlines() or ["?"])[-1][:150]}
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def _generate(device: str, options: dict[str, Any]) -> dict[str, Any]:
    """What a person writes first: transformers' own generate."""
    import torch

    model = _model(device)
    prompt = torch.tensor([_prompt()], device=model.device)

    def draw() -> None:
        drawn = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            temperature=0.8,
            top_p=0.9,
            num_return_sequences=REPLIES,
            max_new_tokens=TOKENS,
            min_new_tokens=TOKENS,
            pad_token_id=0,
            **options,
        )
        drawn.tolist()

    return _timed(device, draw, model)


def _likeme(device: str, targets: Any) -> dict[str, Any]:
    """As the model server draws."""
    from training.generate import Sampling, complete

    base = _base(device)
    if targets is not None:
        base.voices["voice"] = _voice(base, targets)
    seen: list[float] = []

    def draw() -> None:
        began, first = time.perf_counter(), []
        sampling = Sampling(n=REPLIES, max_tokens=TOKENS, seed=1, temperature=0.8, top_p=0.9)
        complete(
            base,
            None if targets is None else "voice",
            [],
            sampling,
            lambda *_: first or first.append(time.perf_counter() - began),
        )
        seen.append(first[0])

    result = _timed(device, draw, base.model)
    if os.environ.get("KERNELS"):
        _print_kernels(draw)
    return result | {"first": statistics.median(seen[-5:]) * 1e3}


def _training(device: str, _: Any) -> dict[str, Any]:
    """Steps and drafts take turns at the accelerator, as in the model server."""
    import torch

    from training.engine import recipe
    from training.engine.plan import choose
    from training.engine.step import Captured
    from training.generate import Sampling, complete
    from training.jobs import Accelerator

    base = _base(device)
    base.voices["voice"] = _voice(base, ATTENTION)
    chosen = recipe.load("fast")
    plan = next(choose(base.model, chosen, CAP_GIB * 2**30))
    base.host_embeddings(plan.host_embeddings)
    from training.engine import dora

    trained = dora.voice(base.model, chosen.targets, chosen.rank, chosen.alpha, chosen.dropout).train()
    way = Captured(base, trained, chosen)
    rows = base.rows(_examples(), plan.row_tokens, 0)
    replies = sum(len(row.targets) for row in rows)

    def step() -> None:
        losses = [way.add(way.prepare(row, replies)) for row in rows]
        way.update(1e-4)
        float(sum(losses))

    def draft() -> float:
        began = time.perf_counter()
        with accelerator.hold():
            complete(base, "voice", [], Sampling(n=REPLIES, max_tokens=TOKENS, temperature=0.8, top_p=0.9))
        return (time.perf_counter() - began) * 1e3

    accelerator = Accelerator()
    for _ in range(3):
        step()
        draft()
    alone = [draft() for _ in range(5)]
    steps_alone = [_seconds(step) for _ in range(20)]
    drafts: list[float] = []
    over = threading.Event()

    def friends() -> None:
        while not over.wait(EVERY_MS / 1e3):
            drafts.append(draft())

    asking = threading.Thread(target=friends)
    began, count = time.perf_counter(), 0
    with accelerator.hold():
        asking.start()
        while time.perf_counter() - began < 20:
            step()
            count += 1
            accelerator.hand_over()
    elapsed = time.perf_counter() - began
    over.set()
    asking.join()
    step_alone, step_with = statistics.mean(steps_alone) * 1e3, elapsed / count * 1e3
    ordered = sorted(drafts)
    return {
        "every_ms": EVERY_MS,
        "drafts": len(drafts),
        "p50": ordered[len(ordered) // 2],
        "p95": ordered[int(len(ordered) * 0.95)],
        "alone": statistics.median(alone),
        "step_alone": step_alone,
        "step_with": step_with,
        "cost": (step_with - step_alone) * count / len(drafts),
        "peak": torch.cuda.max_memory_reserved() / 2**30,
    }


EVERY_MS = 500


def _examples() -> list[Any]:
    from training.dataset.render import IGNORED, Encoded

    draw = random.Random(0)
    examples = []
    for _ in range(16):
        ids = [draw.randrange(1000, 40_000) for _ in range(draw.randint(30, 82))]
        examples.append(Encoded(ids, [IGNORED] * (len(ids) - 15) + ids[-15:]))
    return examples


def _timed(device: str, draw: Callable[[], None], model: Any) -> dict[str, Any]:
    """Milliseconds of a draw, the first one (which compiles) apart; the floor measured beside it."""
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
    return result | {"floor": TOKENS * _weights_read(model) / _bandwidth(model.device) * 1e3}


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
    """Bytes a second that this machine reads."""
    import torch

    numbers = torch.ones(2**30 if device.type == "cuda" else 2**27, dtype=torch.int8, device=device).view(torch.int32)

    def read() -> None:
        numbers.max().item()

    read()
    return numbers.numel() * 4 / min(_seconds(read) for _ in range(10))


def _prompt() -> list[int]:
    draw = random.Random(0)
    return [draw.randrange(1000, 40_000) for _ in range(PROMPT)]


def _voice(base: Any, targets: Any) -> Any:
    import torch

    from training.engine import dora

    voice = dora.voice(base.model, targets, 16, 32, 0.0)
    with torch.no_grad():
        for _, layer in dora.layers(voice):
            layer.lora_B.normal_(0, 0.01)
    dora.refresh(voice)
    return voice.eval().requires_grad_(False)


def _base(device: str) -> Any:
    from training.engine.model import prepared

    return prepared("random", _model(device), _Ids())


def _model(device: str) -> Any:
    """Random weights, written straight into the memory of the device."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    where, dtype = ("cuda", torch.bfloat16) if device == "gpu" else ("cpu", torch.float32)
    if device == "gpu":
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(CAP_GIB * 2**30 / total)
    shape = Qwen3Config(**SHAPES[device])
    with torch.device("meta"):
        model = Qwen3ForCausalLM(shape).to(dtype)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            weight = torch.empty(parameter.shape, dtype=dtype, device=where)
            weight.normal_(0, 0.02) if weight.dim() > 1 else weight.fill_(1)
            setattr(module, name, torch.nn.Parameter(weight, requires_grad=False))
    if shape.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    with torch.device(where):
        model.model.rotary_emb = type(model.model.rotary_emb)(shape)
    return model.eval()


class _Ids:
    """A tokenizer for ids that mean nothing: whatever is asked, the prompt is the same 200 tokens."""

    unk_token_id, pad_token_id, chat_template, eos_token = None, 151_643, "given", "<|im_end|>"

    def convert_tokens_to_ids(self, _: str) -> int:
        return 151_645

    def apply_chat_template(self, *_: Any, **__: Any) -> str:
        return ""

    def encode(self, *_: Any, **__: Any) -> list[int]:
        return _prompt()

    def decode(self, ids: list[int], **_: Any) -> str:
        return "x" * len(ids)


if __name__ == "__main__":
    main()
