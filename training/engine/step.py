"""One optimiser step: rows through the voice, the gradient clipped, the adapter moved, its norms made anew.

On a GPU the forward and backward pass of a row is one CUDA graph for each padded shape, and the update
another, so that the card waits for nobody: with 144 adapted layers an uncaptured step spends more time in
Python than on the card.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from training.dataset.render import IGNORED
from training.engine import dora
from training.engine.attention import Segments, plan, reply_logits, segments
from training.engine.fused import fuse
from training.engine.model import Base
from training.engine.packing import Row
from training.engine.recipe import Recipe
from training.engine.reply_loss import sum_of_losses

TOKENS, REPLIES = 64, 128  # rows are padded up to multiples of these: each shape is captured once
LONGEST = (128, 256, 512, 1024)  # bounds of an attention segment: its kernels start as many blocks as the bound says


class Step(Protocol):
    """What the loop asks of either way."""

    parameters: list[torch.nn.Parameter]
    optimizer: torch.optim.Optimizer

    def prepare(self, row: Row, replies: int) -> Any:
        """What `add` takes: all the work on a row that needs no card. `replies` are the whole step's."""

    def add(self, prepared: Any) -> torch.Tensor:
        """Add the gradient of the row's summed loss / `replies`; returns that loss."""

    def update(self, rate: float) -> None:
        """Move the adapter by what was added, and begin anew."""

    def forget(self) -> None:
        """Drop what was added since the last update."""


def stepper(base: Base, voice: Any, recipe: Recipe, row_tokens: int) -> Step:
    """The fastest way that this machine has, for rows of at most `row_tokens`."""
    # A checkpointed layer draws its dropout a second time, and a capture can't be asked for the random state.
    drawn_twice = recipe.dropout > 0 and voice.is_gradient_checkpointing
    if base.device.type == "cuda" and base.packs and not drawn_twice:
        return Captured(base, voice, recipe, row_tokens)
    return Eager(base, voice, recipe)


class Eager:
    """Operation by operation: the CPU, and models that need a way of their own."""

    def __init__(self, base: Base, voice: Any, recipe: Recipe) -> None:
        self._base, self._voice, self._recipe = base, voice, recipe
        self._fused = fuse(base, voice)
        self._head = _output_weight(base, voice)
        self.parameters = dora.parameters(voice)
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            self.parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.optimizer.register_step_post_hook(lambda *_: dora.refresh(voice))

    def prepare(self, row: Row, replies: int) -> tuple[Row, int]:
        """Nothing to prepare."""
        return row, replies

    def add(self, prepared: tuple[Row, int]) -> torch.Tensor:
        """Add the gradient of the row's summed loss / `replies`; returns that loss."""
        row, replies = prepared
        device = self._base.device
        if self._base.packs:
            states = self._reply_states(row, torch.tensor(row.keep, device=device))
            targets = torch.tensor(row.targets, device=device)
            loss = sum_of_losses(states, self._head, targets) / replies
        else:
            targets = torch.tensor(row.targets, device=device)
            logits = reply_logits(self._voice, row, device)
            loss = F.cross_entropy(logits.float(), targets, reduction="sum") / replies
        loss.backward()
        return loss.detach()

    def update(self, rate: float) -> None:
        """Move the adapter by what was added, and begin anew."""
        torch.nn.utils.clip_grad_norm_(self.parameters, self._recipe.max_gradient_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.forget()

    def forget(self) -> None:
        """Drop what was added since the last update."""
        self.optimizer.zero_grad(set_to_none=True)

    def _reply_states(self, row: Row, keep: torch.Tensor) -> torch.Tensor:
        """Hidden states at the places in `keep`: (kept, hidden)."""
        device = self._base.device
        output = self._voice.base_model(
            input_ids=torch.tensor([row.ids], device=device),
            attention_mask=_no_mask(device),
            position_ids=torch.tensor([row.positions], device=device),
            use_cache=False,
            plan=plan(row, device),
            keep=keep,
        )
        states: torch.Tensor = output.last_hidden_state[0]
        return states if self._fused else states.index_select(0, keep)


@cache
def _no_mask(device: torch.device) -> torch.Tensor:
    """What keeps transformers from making a mask: one that is ready. The row's plan stands in its place."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


@dataclass(slots=True)
class _Inputs:
    """A row as the graphs read it, padded; theirs lies on the card at fixed addresses."""

    embedded: torch.Tensor  # (1, tokens, hidden); or the ids, (1, tokens), where the embeddings lie on the card
    positions: torch.Tensor  # (1, tokens)
    keep: torch.Tensor  # (replies,)
    targets: torch.Tensor  # (replies,)
    share: torch.Tensor  # (): 1 / the step's reply tokens
    plan: Segments

    def shape(self) -> tuple[int, int, int]:
        return self.positions.shape[1], len(self.keep), self.plan.longest

    def tensors(self) -> list[torch.Tensor]:
        own = [self.embedded, self.positions, self.keep, self.targets, self.share]
        return own + [t for t in self.plan if isinstance(t, torch.Tensor)]

    def moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> "_Inputs":
        keys, query_ends, key_ends, longest = self.plan
        plan = Segments(None if keys is None else move(keys), move(query_ends), move(key_ends), longest)
        own = (self.embedded, self.positions, self.keep, self.targets, self.share)
        embedded, positions, keep, targets, share = map(move, own)
        return _Inputs(embedded, positions, keep, targets, share, plan)


class Captured:
    """CUDA graphs over compiled layers."""

    def __init__(self, base: Base, voice: Any, recipe: Recipe, row_tokens: int) -> None:
        self._base, self._voice, self._recipe, self._row_tokens = base, voice, recipe, row_tokens
        self._fused = fuse(base, voice)
        self.parameters = dora.parameters(voice)
        self._rate = torch.tensor(recipe.learning_rate, device=base.device)
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            self.parameters, lr=self._rate, weight_decay=recipe.weight_decay, fused=True, capturable=True
        )
        self.optimizer.register_step_post_hook(lambda *_: dora.refresh(voice))
        for layer in voice.base_model.layers:
            layer.compile(dynamic=True)
        self._stream = torch.cuda.Stream()
        self._rows: dict[tuple[int, int, int], tuple[torch.cuda.CUDAGraph, _Inputs, torch.Tensor]] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._update: torch.cuda.CUDAGraph | None = None
        self._gradients = [torch.zeros_like(parameter) for parameter in self.parameters]
        for parameter, gradient in zip(self.parameters, self._gradients, strict=True):
            parameter.grad = gradient

    def prepare(self, row: Row, replies: int) -> _Inputs:
        """The row padded, in pinned memory: copied to the card while it still works on the last one."""
        tokens, kept = _up(len(row.ids), TOKENS), _up(len(row.targets), REPLIES)
        embeddings = self._voice.get_input_embeddings()
        # Padding: token 0 at position 0 in a segment of its own, place 0 with no target.
        ids = torch.tensor([_filled(row.ids, tokens, 0)])
        embedded = embeddings(ids) if embeddings.weight.device.type == "cpu" else ids
        planned = segments(row, tokens, self._recipe.examples_per_step, "cpu")
        longest = next((bound for bound in LONGEST if bound >= planned.longest), _up(planned.longest, LONGEST[-1]))
        inputs = _Inputs(
            embedded,
            torch.tensor([_filled(row.positions, tokens, 0)]),
            torch.tensor(_filled(row.keep, kept, 0)),
            torch.tensor(_filled(row.targets, kept, IGNORED)),
            torch.tensor(1 / replies),
            planned._replace(longest=longest),
        )
        return inputs.moved(lambda tensor: tensor.pin_memory())

    def add(self, prepared: _Inputs) -> torch.Tensor:
        """Add the gradient of the row's summed loss / `replies`; returns that loss."""
        shape = prepared.shape()
        if not self._rows:
            self._begin(int(prepared.plan.query_ends[1]))
        if shape not in self._rows:
            self._rows[shape] = self._capture(prepared)
        graph, fixed, loss = self._rows[shape]
        for into, new in zip(fixed.tensors(), prepared.tensors(), strict=True):
            into.copy_(new, non_blocking=True)
        graph.replay()
        return loss.clone()

    def update(self, rate: float) -> None:
        """Move the adapter by what was added, and begin anew."""
        self._rate.fill_(rate)
        if self._update is not None:
            self._update.replay()
            return
        self._move()  # the first one uncaptured: it makes the optimiser's state
        self._update = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._update, stream=self._stream):
            self._move()

    def forget(self) -> None:
        """Drop what was added since the last update."""
        self.optimizer.zero_grad(set_to_none=False)

    def _move(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters, self._recipe.max_gradient_norm, foreach=True)
        self.optimizer.step()
        self.forget()

    def _begin(self, shared: int) -> None:
        """The largest row first, a made-up one: the graphs of smaller ones fit into its memory, not it into theirs.

        Before it is captured, it is tried: a capture can't wait for a compiler, nor survive running out of memory.
        """
        tokens, examples = self._row_tokens, self._recipe.examples_per_step
        kept = tokens * 3 // 4
        ends = [shared + (tokens - shared) * (i + 1) // examples for i in range(examples)]
        largest = self.prepare(Row([0] * tokens, [0] * tokens, [*range(kept)], [0] * kept, shared, ends), kept)
        self._warm_up(largest.moved(self._to_card))
        self._rows[largest.shape()] = self._capture(largest)

    def _to_card(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._base.device)

    def _capture(self, prepared: _Inputs) -> tuple[torch.cuda.CUDAGraph, _Inputs, torch.Tensor]:
        inputs = prepared.moved(self._to_card)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                loss = self._pass(inputs)
        except RuntimeError as error:  # of the capture that was broken off; what broke it stands behind
            if isinstance(error.__context__, torch.cuda.OutOfMemoryError):
                raise error.__context__ from None
            raise
        return graph, inputs, loss

    def _warm_up(self, inputs: _Inputs) -> None:
        """Compile for any shape, and fill the libraries' workspaces; what it adds to the gradient is taken back."""
        kept = [gradient.clone() for gradient in self._gradients]
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._pass(inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        torch._foreach_copy_(self._gradients, kept)

    def _pass(self, inputs: _Inputs) -> torch.Tensor:
        given = "input_ids" if inputs.embedded.dim() == 2 else "inputs_embeds"
        output = self._voice.base_model(
            **{given: inputs.embedded},
            attention_mask=_no_mask(self._base.device),
            position_ids=inputs.positions,
            use_cache=False,
            plan=inputs.plan,
            keep=inputs.keep,
        )
        states = output.last_hidden_state[0]
        states = states if self._fused else states.index_select(0, inputs.keep)
        weight = self._voice.get_output_embeddings().weight
        loss = sum_of_losses(states, weight, inputs.targets) * inputs.share
        made = torch.autograd.grad(loss, self.parameters)
        torch._foreach_add_(self._gradients, made)  # one kernel; `backward` would start one for each parameter
        return loss.detach()


def _output_weight(base: Base, voice: Any) -> torch.Tensor:
    """The output layer's, (vocabulary, hidden); on a CPU without what all rows have in common.

    A softmax does not see that, but it makes logits large and their rounding coarse: in SmolLM2 it is two thirds
    of a row, and without it the gradients' error halves. On a card the copy would cost more memory than it gives.
    """
    weight: torch.Tensor = voice.get_output_embeddings().weight.detach()
    if base.device.type == "cpu":
        weight = weight.float() - weight.float().mean(0)
    return weight.to(base.products)


def _filled(values: Sequence[int], length: int, filling: int) -> list[int]:
    return [*values, *[filling] * (length - len(values))]


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
