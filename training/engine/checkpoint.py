"""A run's state on disk, so that kill -9 costs seconds."""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from storage.durable import replacing
from training.dataset.render import Encoded
from training.engine.recipe import Recipe
from training.engine.step import Step

NAME = "checkpoint.pt"


@dataclass(slots=True)
class Progress:
    """Where a run stands."""

    step: int = 0
    tokens: int = 0
    reply_tokens: int = 0
    training_seconds: float = 0.0  # of the steps alone
    seconds: float = 0.0  # of everything, over all the times it was taken up
    smooth_loss: float | None = None
    stock_loss: float | None = None
    valid_loss: float | None = None  # the newest
    best_loss: float | None = None
    stopped_early: bool = False


def fingerprint(base_name: str, recipe: Recipe, seed: int, start: Path | None, *sets: Sequence[Encoded]) -> str:
    """What a run is: a checkpoint is taken up only by the very same one. `start`: the adapter it goes on from."""
    digest = hashlib.sha256(json.dumps([base_name, recipe.model_dump(mode="json"), seed]).encode())
    for file in sorted(start.glob("adapter_*")) if start else ():
        digest.update(file.read_bytes())
    for examples in sets:
        for example in examples:
            digest.update(repr((example.ids, example.labels)).encode())
        digest.update(b"|")
    return digest.hexdigest()


def snapshot(run: str, progress: Progress, step: Step, best: Sequence[torch.Tensor] | None) -> dict[str, Any]:
    """All that the next step depends on."""
    return {
        "run": run,
        "progress": asdict(progress),
        "parameters": _in_main_memory(list(step.parameters)),
        "optimizer": _in_main_memory(step.optimizer.state_dict()),
        "best": None if best is None else _in_main_memory(list(best)),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _in_main_memory(state: Any) -> Any:
    """A copy that takes none of the card's memory: the plan leaves none to spare."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _in_main_memory(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_in_main_memory(value) for value in state]
    return copy.deepcopy(state)


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write a snapshot in place of the one before. OSError or RuntimeError on a full disk; that one stays then."""
    with replacing(folder / NAME) as file:
        torch.save(state, file)


def load(folder: Path, run: str) -> dict[str, Any] | None:
    """The snapshot that was saved of this run; None if there is none."""
    try:
        state: dict[str, Any] = torch.load(folder / NAME, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError):
        return None
    return state if state.get("run") == run else None


def restore(state: dict[str, Any], step: Step) -> tuple[Progress, list[torch.Tensor] | None]:
    """Put a snapshot back; the caller makes the norms anew."""
    with torch.no_grad():
        for parameter, kept in zip(step.parameters, state["parameters"], strict=True):
            parameter.copy_(kept)
    rate = step.optimizer.param_groups[0]["lr"]
    step.optimizer.load_state_dict(state["optimizer"])
    for group in step.optimizer.param_groups:
        group["lr"] = rate  # a captured update reads it at its own address
    torch.set_rng_state(state["random"])
    if state["cuda_random"]:
        torch.cuda.set_rng_state_all(state["cuda_random"])
    best = state["best"]
    device = step.parameters[0].device
    return Progress(**state["progress"]), None if best is None else [p.to(device) for p in best]


def remove(folder: Path) -> None:
    """The run has ended."""
    (folder / NAME).unlink(missing_ok=True)
