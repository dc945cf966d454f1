"""The training loop: examples in, an adapter in PEFT's format out. Reads from the top down.

Loss of an optimiser step = sum over its reply tokens / their number, whatever rows they are packed in.
The weight norm in DoRA is PEFT's: a constant in the backward pass (arXiv 2402.09353, section 4.3).
"""

import json
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch

from storage.errors import BadInput, ModelError, OutOfMemory
from training.dataset.render import Encoded, Message, encode_example
from training.engine import checkpoint, dora, parallel
from training.engine.checkpoint import Progress
from training.engine.model import Base
from training.engine.packing import shared_beginning, steps
from training.engine.plan import Plan, choose, needed
from training.engine.recipe import Recipe
from training.engine.step import Step, stepper
from training.evaluation.voice import loss_of

Event = dict[str, Any]
Wish = Literal["go on", "pause", "cancel"]
MOVING_AVERAGE = 0.9
CHECKPOINT_STEPS, CHECKPOINT_SECONDS = 50, 60.0  # whichever comes first

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gave. `adapter` is a folder in PEFT's format, or None when the run was paused or cancelled."""

    adapter: Path | None
    steps: int
    tokens: int  # of the examples that went through the model, prompts included
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
    between_steps: Callable[[], Wish],
    seed: int = 0,
    start: Path | None = None,
) -> Result:
    """Train a voice of `base`, which is left as and where it was; take up the run where `out` has a checkpoint of it.

    `start` is the folder of an adapter to go on from: of this base, and of the recipe's shape.
    `on_event` gets {"step", "total_steps", "train_loss", …} after each step and {"valid_loss", …} after
    each evaluation. `between_steps` is called before each step: the caller may use the model there.
    On "pause" the run is left to be taken up, on "cancel" it is forgotten; at its end the checkpoint stays until the
    caller has the adapter where it belongs (checkpoint.remove). ModelError when it can't go on.
    """
    if not examples:
        raise BadInput("The training file holds no example: import a history with replies of yours first.")
    if parallel.rank() == 0:
        parallel.agree((recipe, examples, validation, out, seed, start))  # what `follow` waits for
    run: _Run | None = None
    try:
        run = _Run(base, recipe, examples, validation, out, on_event, seed, start)
        wish = run.go(between_steps)
        return run.result(run.save() if wish == "go on" else None)
    finally:
        if run is not None:
            run.leave_card()
        _embeddings_back(base)


def _embeddings_back(base: Base) -> None:
    """A plan may have moved them: drafts look their tokens up where they did before."""
    try:
        base.host_embeddings(False)
    except torch.OutOfMemoryError:
        log.warning("the embeddings stay in the CPU's memory until another training ends: the card is full")


def follow(base: Base) -> None:
    """Train along with process 0, whatever it trains, until it ends (parallel.py)."""

    def along(recipe: Recipe, examples: Any, validation: Any, out: Path, seed: int, start: Path | None) -> None:
        train(base, recipe, examples, validation, out, lambda _: None, lambda: "go on", seed, start)

    parallel.follow(along)


class _Run:
    """One run: what it works on, and where it stands."""

    def __init__(
        self,
        base: Base,
        recipe: Recipe,
        examples: Sequence[Sequence[Message]],
        validation: Sequence[Sequence[Message]],
        out: Path,
        on_event: Callable[[Event], None],
        seed: int,
        start: Path | None,
    ) -> None:
        torch.manual_seed(seed)
        self._base, self._recipe, self._out, self._seed, self._start = base, recipe, out, seed, start
        self._examples = [encode_example(base.tokenizer, messages, recipe.max_tokens) for messages in examples]
        self._held_out = [encode_example(base.tokenizer, messages, recipe.max_tokens) for messages in validation]
        self._shared = shared_beginning(self._examples)
        self._identity = checkpoint.fingerprint(base.name, recipe, seed, start, self._examples, self._held_out)
        self._events = _Events(out / "metrics.jsonl", on_event)
        self._per_epoch = math.ceil(len(self._examples) / recipe.examples_per_step)
        self.total = recipe.epochs * self._per_epoch
        self._plans = choose(base.model, recipe, _free_bytes(base))
        self._plan = next(self._plans)
        self._begin()

    def _begin(self) -> None:
        """A fresh voice or the one to go on from, or the one that the checkpoint has."""
        base, recipe = self._base, self._recipe
        self._voice = dora.voice(base.model, recipe.targets, recipe.rank, recipe.alpha, recipe.dropout)
        if self._start is not None:
            _go_on(self._voice, self._start, recipe)
        self._voice.train()
        self._step = self._ready()
        self._prepared: list[Any] = []
        self._progress = Progress()
        self._best: list[torch.Tensor] | None = None
        state = checkpoint.load(self._out, self._identity)
        if state is not None:
            self._restore(state)
            log.info("going on from step %d of %d", self._progress.step, self.total)
        self._started = self._saved = time.monotonic()
        self._seconds_before = self._progress.seconds

    def go(self, between_steps: Callable[[], Wish]) -> Wish:
        """Train to the end, or until the caller wishes otherwise."""
        if self._progress.step == 0 and self._held_out:
            self._progress.stock_loss = self._measured(self._base.model)
            self._tell(stock_valid_loss=self._progress.stock_loss)
        for batch, following in pairwise([*self._batches(), None]):
            assert batch is not None
            wish = parallel.agree(between_steps())
            if wish == "pause":
                self._checkpoint()
            elif wish == "cancel":
                checkpoint.remove(self._out)
            if wish != "go on":
                return wish
            self._train_on(batch, following)
            if self._progress.step % self._per_epoch == 0:
                self._end_epoch()
                if self._progress.stopped_early:
                    break
            self._checkpoint_when_due()
        return "go on"

    def save(self) -> Path:
        """Write the adapter as PEFT does; returns its folder."""
        if self._best is not None:
            with torch.no_grad():
                for parameter, best in zip(dora.parameters(self._voice), self._best, strict=True):
                    parameter.copy_(best)
        folder = self._out / "adapter"
        dora.save(self._voice, folder, self._base.name, self._recipe.targets)
        return folder

    def leave_card(self) -> None:
        """Free what it holds there, whoever still knows the run: an error's traceback does. Nothing can follow."""
        self._prepared, self._best = [], None
        self.__dict__.pop("_step", None)  # backing off may have left none
        if self._base.device.type == "cuda":
            torch.cuda.empty_cache()

    def result(self, adapter: Path | None) -> Result:
        """The run in numbers."""
        at = self._progress
        metrics = {"train_loss": at.smooth_loss or 0.0}
        if at.stock_loss is not None and at.valid_loss is not None:
            valid = at.best_loss if self._best is not None and at.best_loss is not None else at.valid_loss
            metrics |= {"valid_loss": valid, "stock_valid_loss": at.stock_loss}
        if at.training_seconds:
            metrics["tokens_per_second"] = round(at.tokens / at.training_seconds, 1)
        if self._base.device.type == "cuda":
            metrics["gpu_hours"] = round(self._seconds() / 3600 * parallel.size(), 4)
        return Result(adapter, at.step, at.tokens, at.reply_tokens, self._seconds(), metrics)

    def _batches(self) -> Iterator[list[Encoded]]:
        """The optimiser steps' examples from where the run stands. An epoch's order is the seed's alone."""
        order = random.Random(self._seed)
        number = 0
        for _ in range(self._recipe.epochs):
            indices = list(range(len(self._examples)))
            order.shuffle(indices)
            for chosen in steps(indices, self._recipe.examples_per_step):
                number += 1
                if number > self._progress.step:
                    yield [self._examples[i] for i in chosen]

    def _train_on(self, batch: Sequence[Encoded], following: Sequence[Encoded] | None) -> None:
        began = time.monotonic()
        rate = self._recipe.learning_rate * self._schedule(self._progress.step)
        loss = self._one_step(batch, following, rate)
        at = self._progress  # only now: backing off puts another in its place
        at.training_seconds += time.monotonic() - began
        if not math.isfinite(loss):
            raise ModelError("The training diverged (its loss is no number any more): lower the recipe's rate.")
        at.step += 1
        at.tokens += sum(len(example.ids) for example in batch)
        at.reply_tokens += sum(example.reply_tokens for example in batch)
        before = at.smooth_loss
        at.smooth_loss = loss if before is None else MOVING_AVERAGE * before + (1 - MOVING_AVERAGE) * loss
        self._tell(
            epoch=math.ceil(at.step / self._per_epoch),
            train_loss=loss,
            smooth_loss=at.smooth_loss,
            learning_rate=rate,
            tokens_per_second=at.tokens / at.training_seconds,
            eta_seconds=self._seconds() / at.step * (self.total - at.step),
        )

    def _one_step(self, batch: Sequence[Encoded], following: Sequence[Encoded] | None, rate: float) -> float:
        """The mean loss of the batch's reply tokens. Out of memory, it is done again a rung lower."""
        while True:
            try:
                losses = [self._step.add(row) for row in self._prepared or self._rows_of(batch)]
                loss = parallel.sum_up(self._step.parameters, losses, self._base.device)
                self._step.update(rate)
                self._prepared = self._rows_of(following or ())
                return float(loss)  # only now does the host wait for the card
            except torch.cuda.OutOfMemoryError:
                self._back_off()

    def _rows_of(self, batch: Sequence[Encoded]) -> list[Any]:
        """This process's rows of a step, ready for the card."""
        replies = sum(example.reply_tokens for example in batch)
        packed = self._base.rows(parallel.share(batch), self._plan.row_tokens, self._shared)
        return [self._step.prepare(row, replies) for row in packed]

    def _back_off(self) -> None:
        plan = next(self._plans, None)
        if plan is None:
            raise OutOfMemory(
                f"Even the smallest plan for {self._base.name} does not fit the card's free memory: "
                "close what else uses it, or choose a smaller BASE_MODEL."
            )
        self._prepared = []
        self._step.forget()
        state = checkpoint.snapshot(self._identity, self._progress, self._step, self._best)
        del self._step  # its graphs hold memory
        torch.cuda.empty_cache()
        self._plan = plan
        self._step = self._ready()
        self._restore(state)
        self._tell(message=f"Out of GPU memory: going on from step {self._progress.step} with {_words(plan)}.")

    def _ready(self) -> Step:
        """The voice made ready for the plan."""
        dora.checkpoint_layers(self._voice, self._plan.checkpointed)
        self._base.host_embeddings(self._plan.host_embeddings)
        log.info("planned %s: %s", _words(self._plan), needed(self._base.model, self._recipe, self._plan))
        return stepper(self._base, self._voice, self._recipe, self._plan.row_tokens)

    def _restore(self, state: dict[str, Any]) -> None:
        self._progress, self._best = checkpoint.restore(state, self._step)
        dora.refresh(self._voice)

    def _end_epoch(self) -> None:
        if not self._held_out:
            return
        at = self._progress
        before, at.valid_loss = at.valid_loss, self._measured(self._voice)
        self._tell(valid_loss=at.valid_loss)
        if not self._recipe.early_stopping:
            return
        if at.best_loss is None or at.valid_loss < at.best_loss:
            at.best_loss = at.valid_loss
            self._best = [p.detach().clone() for p in self._step.parameters]
        at.stopped_early = before is not None and at.valid_loss > before

    def _measured(self, model: Any) -> float:
        """The held-out loss of a model, without compiling its layers a second time for it."""
        loss = 0.0
        if parallel.rank() == 0:
            model.eval()
            with torch.compiler.set_stance("force_eager"):
                loss = loss_of(self._base, model, self._held_out, self._plan.row_tokens).loss
            self._voice.train()
        return parallel.agree(loss)

    def _schedule(self, step: int) -> float:
        """Linear warm-up, then a cosine to zero. Short runs warm up shorter."""
        warmup = min(self._recipe.warmup_steps, max(1, self.total // 10))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.total - warmup)))

    def _checkpoint_when_due(self) -> None:
        due = self._progress.step % CHECKPOINT_STEPS == 0 or time.monotonic() - self._saved > CHECKPOINT_SECONDS
        if due and self._progress.step < self.total:
            try:
                self._checkpoint()
            except (OSError, RuntimeError) as error:  # a full disk: the one before still stands
                log.warning("no checkpoint at step %d: %s", self._progress.step, type(error).__name__)
                self._saved = time.monotonic()

    def _checkpoint(self) -> None:
        self._progress.seconds = self._seconds()
        if parallel.rank() == 0:
            checkpoint.save(self._out, checkpoint.snapshot(self._identity, self._progress, self._step, self._best))
        self._saved = time.monotonic()

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _tell(self, **event: Any) -> None:
        if parallel.rank() == 0:
            self._events.write({"step": self._progress.step, "total_steps": self.total, **event})


def _go_on(voice: Any, start: Path, recipe: Recipe) -> None:
    try:
        dora.go_on_from(voice, start)
    except dora.LOAD_ERRORS as error:
        raise ModelError(
            f"The voice in {start.name} can't be gone on from by recipe {recipe.name} ({error}): "
            "train from the base model."
        ) from error


def _free_bytes(base: Base) -> int | None:
    """What the card has for this process, what it already holds included; None without a card."""
    if base.device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(base.device)
    allowed = int(total * torch.cuda.get_per_process_memory_fraction(base.device))
    return min(allowed, free + torch.cuda.memory_reserved(base.device))


def _words(plan: Plan) -> str:
    words = [f"rows of {plan.row_tokens} tokens"]
    words += [f"{plan.checkpointed} layers checkpointed"] if plan.checkpointed else []
    words += ["the embeddings on the CPU"] if plan.host_embeddings else []
    return ", ".join(words)


class _Events:
    """Each event to the run's metrics.jsonl and to the caller."""

    def __init__(self, path: Path, on_event: Callable[[Event], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._on_event = on_event

    def write(self, event: Event) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
        except OSError as error:  # a record for people: the run does not hang on it
            log.warning("metrics not written: %s", error.strerror)
        self._on_event(event)
