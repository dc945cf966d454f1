"""What bench/train.py reads off: seconds, the card's busy time, memory, and what they mean for another card."""

import gc
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

LAYER_PARAMETERS = 6_946_071_552  # of Qwen3-8B's 36 layers
ADAPTED, HEAD, TRAINED = 1_509_949_440, 622_329_856, 15_335_424  # q, k, v, o; the output layer; A, B and m of rank 16
KEPT = 36 * 54_000  # numbers that the layers keep of a token from the forward to the backward pass (plan.py)
PAIRS, EPOCHS, DOLLARS_AN_HOUR = 6128, 3, 0.30  # the article's
PEAKS = {"H100": (989e12, 3.35e12), "H200": (989e12, 4.8e12)}  # nominal bf16 FLOP/s, bytes/s
RTX_3090 = (71e12, 936e9)


class Meter:
    """Wall time of each step; for profiled ones the sum of their kernels' times."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._seconds: list[float] = []
        self._busy: list[float] = []
        self._kernels: Counter[str] = Counter()
        self._profile: Any = None

    def reset_peak(self) -> None:
        """Forget the memory that warming up took."""
        if self._device == "gpu":
            import torch

            torch.cuda.reset_peak_memory_stats()

    def begin(self, profiled: bool) -> None:
        """A step begins."""
        self._synchronize()
        if profiled and self._device == "gpu":
            from torch.profiler import ProfilerActivity, profile

            self._profile = profile(activities=[ProfilerActivity.CUDA])
            self._profile.__enter__()
        self._began = time.monotonic()

    def end(self) -> None:
        """It has ended."""
        self._synchronize()
        seconds = time.monotonic() - self._began
        if self._profile is None:
            self._seconds.append(seconds)
            return
        from torch.autograd import DeviceType

        self._profile.__exit__(None, None, None)
        events = self._profile.profiler.kineto_results.events()
        on_card = [e for e in events if e.device_type() == DeviceType.CUDA and not e.is_user_annotation()]
        self._busy.append(sum(e.duration_ns() for e in on_card) / 1e6)
        for e in on_card:
            self._kernels[e.name()] += e.duration_ns()
        self._profile = None

    def result(self, tokens: Sequence[int], skip: int) -> dict[str, Any]:
        """`tokens` of each timed step; the first `skip` were warm-up."""
        result: dict[str, Any] = {
            "seconds": statistics.mean(self._seconds[skip:]),
            "tokens": statistics.mean(tokens[skip : len(self._seconds)]),
        }
        if self._device == "gpu":
            import torch

            if os.environ.get("KERNELS"):
                for name, spent in self._kernels.most_common(40):
                    print(f"{spent / 1e6 / len(self._busy):8.2f} ms {name[:120]}", file=sys.stderr)  # noqa: T201
            floor = 4 * LAYER_PARAMETERS * result["tokens"] / _matrix_rate() * 1e3
            peak = torch.cuda.max_memory_reserved() / 2**30
            result |= {"busy": statistics.mean(self._busy), "floor_ms": floor, "peak": peak}
        return result

    def _synchronize(self) -> None:
        if self._device == "gpu":
            import torch

            torch.cuda.synchronize()


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


def projection(card: str, seconds: float, tokens: float, replies: float, rows: float) -> list[str]:
    """The article's run on its own card, from what a step counts and how near this card came to its own floor."""
    here = next((peaks for name, peaks in PEAKS.items() if name in card), None)
    if here is None:
        return [f"No projection: the nominal rates of a {card} are not written down in bench/train_meter.py."]
    flop = 4 * LAYER_PARAMETERS * tokens + 4 * HEAD * replies + 6 * TRAINED * tokens
    read = rows * 2 * 2 * LAYER_PARAMETERS + 2 * 2 * HEAD + 2 * ADAPTED + 2 * 2 * KEPT * tokens + 7 * 4 * TRAINED
    floor, there = (max(flop / rate, read / width) for rate, width in (here, RTX_3090))
    share = floor / seconds
    steps = PAIRS * EPOCHS / 16
    minutes = there / share * steps / 60
    return [
        f"On an RTX 3090, {PAIRS:,} pairs x {EPOCHS} epochs: {minutes:.1f} minutes, "
        f"${minutes / 60 * DOLLARS_AN_HOUR:.2f} at ${DOLLARS_AN_HOUR:.2f} an hour (projected, not measured).",
        f"  Counted a step: {flop / 1e12:.1f} TFLOP (4 x layers x {tokens:.0f} tokens, 4 x output layer x "
        f"{replies:.0f} reply tokens, adapter), {read / 1e9:.0f} GB (weights twice a row, norms, what is kept, Adam).",
        f"  Floor here {floor * 1e3:.1f} ms at the nominal {here[0] / 1e12:.0f} TFLOP/s and {here[1] / 1e12:.2f} TB/s: "
        f"{share:.0%} of it reached, by wall time. Floor there {there * 1e3:.0f} ms at 71 TFLOP/s and 0.936 TB/s;",
        "  assumed: the same share of it is reached there (its matrix units are slower beside its memory, which helps;",
        "  it has fewer bytes of cache, which does not), and 22 GiB of its 24 are free.",
    ]
