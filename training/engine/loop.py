"""The training loop: examples in, an adapter in PEFT's format out. Reads from the top down.

Loss of an optimiser step = sum over its reply tokens / their number, whatever rows they are packed in.
The weight norm in DoRA is PEFT's: a constant in the backward pass (arXiv 2402.09353, section 4.3).
"""

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig

from storage.errors import BadInput, ModelError
from training.dataset.render import Message, encode_example
from training.engine import dora
from training.engine.attention import reply_logits
from training.engine.model import Base
from training.engine.packing import Row, steps
from training.engine.recipe import Recipe
from training.evaluation.voice import held_out_loss

Event = dict[str, Any]
ADAPTER = "candidate"  # its name beside the base while it is being trained
MOVING_AVERAGE = 0.9


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gave. `adapter` is a folder in PEFT's format, or None when the run was cancelled."""

    adapter: Path | None
    steps: int
    tokens: int  # that went through the model, prompts included
    reply_tokens: int
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)


def train(
    base: Base,
    recipe: Recipe,
    examples: Sequence[Sequence[Message]],
    validation: Sequence[Sequence[Message]],
    out: Path,
    on_event: Callable[[Event], None],
    between_steps: Callable[[], bool],
    seed: int = 0,
) -> Result:
    """Train an adapter for `base`, which is left as it was.

    `on_event` gets {"step", "total_steps", "train_loss", …} after each step and {"valid_loss", …} after
    each evaluation. `between_steps` is called before each step: the caller may use the model there;
    it returns True to cancel.
    """
    if not examples:
        raise BadInput("The training file holds no example: import a history with replies of yours first.")
    torch.manual_seed(seed)
    encoded = [encode_example(base.tokenizer, messages, recipe.max_tokens) for messages in examples]
    held_out = [encode_example(base.tokenizer, messages, recipe.max_tokens) for messages in validation]
    total = recipe.epochs * math.ceil(len(encoded) / recipe.examples_per_step)
    warmup = min(recipe.warmup_steps, max(1, total // 10))  # short runs warm up shorter
    metrics_file = _MetricsFile(out / "metrics.jsonl", on_event)
    started = time.monotonic()
    stock = held_out_loss(base, None, held_out, recipe.row_tokens) if held_out else None
    if stock:
        metrics_file.write({"step": 0, "total_steps": total, "stock_valid_loss": stock.loss})
    try:
        parameters, optimizer = _begin(base, recipe)
        order = random.Random(seed)
        step = tokens = reply_tokens = 0
        smooth = valid = None
        clock, training_seconds = time.monotonic(), 0.0
        for epoch in range(recipe.epochs):
            indices = list(range(len(encoded)))
            order.shuffle(indices)
            for chosen in steps(indices, recipe.examples_per_step):
                if between_steps():
                    return Result(None, step, tokens, reply_tokens, time.monotonic() - started)
                batch = [encoded[i] for i in chosen]
                rate = recipe.learning_rate * _schedule(step, warmup, total)
                began = time.monotonic()
                loss = _step(base, recipe, base.rows(batch, recipe.row_tokens), parameters, optimizer, rate)
                training_seconds += time.monotonic() - began
                step += 1
                tokens += sum(len(example.ids) for example in batch)
                reply_tokens += sum(example.reply_tokens for example in batch)
                smooth = loss if smooth is None else MOVING_AVERAGE * smooth + (1 - MOVING_AVERAGE) * loss
                metrics_file.write(
                    {
                        "step": step,
                        "total_steps": total,
                        "epoch": epoch + 1,
                        "train_loss": loss,
                        "smooth_loss": smooth,
                        "learning_rate": rate,
                        "tokens_per_second": tokens / training_seconds,
                        "eta_seconds": (time.monotonic() - clock) / step * (total - step),
                    }
                )
            if held_out:
                valid = held_out_loss(base, ADAPTER, held_out, recipe.row_tokens)
                metrics_file.write({"step": step, "total_steps": total, "valid_loss": valid.loss})
        summary = {"train_loss": smooth or 0.0}
        if stock and valid:
            summary |= {"valid_loss": valid.loss, "stock_valid_loss": stock.loss}
        return Result(_save(base, out), step, tokens, reply_tokens, time.monotonic() - started, summary)
    finally:
        _checkpointing(base, False)
        base.drop(ADAPTER)


def _begin(base: Base, recipe: Recipe) -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
    """Put a fresh adapter beside the base; returns its parameters and their optimiser."""
    base.add(ADAPTER, _lora(recipe))
    assert base.wrapped is not None
    _checkpointing(base, recipe.gradient_checkpointing)
    parameters = [p for name, p in base.wrapped.named_parameters() if f".{ADAPTER}." in name]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    dora.watch(optimizer, base.wrapped, ADAPTER)
    return parameters, optimizer


def _save(base: Base, out: Path) -> Path:
    """Write the adapter as PEFT does; returns its folder."""
    assert base.wrapped is not None
    base.wrapped.peft_config[ADAPTER].base_model_name_or_path = base.name  # not this machine's path
    base.wrapped.save_pretrained(str(out / "adapter"), selected_adapters=[ADAPTER], save_embedding_layers=False)
    return out / "adapter" / ADAPTER  # PEFT puts every adapter but "default" into a folder of its name


def _step(
    base: Base,
    recipe: Recipe,
    packed: Sequence[Row],
    parameters: Sequence[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    rate: float,
) -> float:
    """One optimiser step over all rows; returns the mean loss of its reply tokens."""
    assert base.wrapped is not None
    base.wrapped.set_adapter(ADAPTER)  # a draft may have been given between the steps
    base.wrapped.train()
    count = sum(len(row.targets) for row in packed)
    total = 0.0
    for row in packed:
        logits = reply_logits(base.wrapped, row, base.device)  # (reply tokens, vocabulary)
        targets = torch.tensor(row.targets, device=base.device)
        loss = F.cross_entropy(logits.float(), targets, reduction="sum") / count
        loss.backward()
        total += loss.item()
    if not math.isfinite(total):
        raise ModelError("The training diverged (its loss is no number any more): lower the recipe's learning_rate.")
    torch.nn.utils.clip_grad_norm_(parameters, recipe.max_gradient_norm)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def _schedule(step: int, warmup: int, total: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _lora(recipe: Recipe) -> LoraConfig:
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        use_dora=True,
        target_modules=recipe.targets if isinstance(recipe.targets, str) else list(recipe.targets),
        task_type="CAUSAL_LM",
    )


def _checkpointing(base: Base, wanted: bool) -> None:
    """Recompute activations in the backward pass, or not; drafts between the steps never do."""
    if wanted:
        base.model.enable_input_require_grads()
        base.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        base.model.gradient_checkpointing_disable()
        base.model.disable_input_require_grads()


class _MetricsFile:
    """Each event to the run's metrics.jsonl and to the caller."""

    def __init__(self, path: Path, on_event: Callable[[Event], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._on_event = on_event

    def write(self, event: Event) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
        self._on_event(event)
