"""Decoding with memory that stays where it is: the prompt read once, its keys and values shared by all replies.

On a GPU reading a prompt and going on by one token are CUDA graphs of compiled layers, one for each padded
shape, with an attention of our own (kernels.py); on the CPU the same functions run as they are, their products with
the weights in bf16 where that is quick (model.py). Whether the layers compute what transformers computes is tried
when a model is loaded; a model of another build is decoded by transformers itself (generate.py).
"""

import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from training.engine import layers
from training.engine.attention import COARSE_ROUNDING, ROUNDING, ROUNDINGS

PROMPTS = (64, 128, 256, 512, 1024, 2048)  # a GPU pads to these: each shape is compiled and captured once
REPLIES = (1, 4, 16)
FULL = (1, 4, 8, 12, 16)  # a CPU: a product of three rows took twice the time of one of four (MKL in fp32, 2 cores)
LENGTHS = (64, 128, 256, 512)
USUAL = (250, 4, 128)  # prompt tokens, replies, their longest: what a card asks for

ATTENTION = (0, 1)  # which of layers.GROUPS the GPU's recipes adapt

log = logging.getLogger(__name__)


class Decoder:
    """One model's weights, ready to write. One request at a time."""

    def __init__(self, model: Any) -> None:
        body = model.base_model
        if getattr(body.rotary_emb, "rope_type", "default") in ("dynamic", "longrope"):
            raise ValueError("its positions depend on the length")
        self._shape = layers.shape_of(model.config)
        self._embeddings = model.get_input_embeddings()
        self._head = model.get_output_embeddings().weight
        self._norm = body.norm.weight.data
        self._device, self._dtype = self._head.device, self._head.dtype
        self.longest_prompt = min(PROMPTS[-1], model.config.max_position_embeddings - LENGTHS[0])
        positions = torch.arange(min(PROMPTS[-1] + LENGTHS[-1], model.config.max_position_embeddings))
        cos, sin = body.rotary_emb(self._norm, positions[None].to(self._device))
        self._turns = cos[0], sin[0]
        self._layers: dict[tuple[int, ...], list[layers.Layer]] = {(): []}
        for layer in body.layers:
            self._layers[()].append(layers.gather(layer))
            if self._device.type == "cuda":
                torch.cuda.empty_cache()  # else the gathered weights find no room between the holes of the old ones
        self._voice: Callable[[], Any] = lambda: None
        self._states: dict[tuple[int, int, int], _State] = {}
        self._graphs: dict[tuple[Any, ...], torch.cuda.CUDAGraph] = {}
        self._captures = False  # set once the layers have been tried
        self._attend = _kernel(self._shape) if self._device.type == "cuda" else None

    @torch.no_grad()
    def multiply_in(self, products: torch.dtype) -> None:
        """Make the products with the weights in another type, of copies of them; all else is computed as before."""
        self._states.clear()
        self._voice = lambda: None
        self._head = self._head.to(products)
        self._layers = {(): [layers.in_type(layer, products) for layer in self._layers[()]]}

    @torch.no_grad()
    def begin(self, voice: Any | None, prompt: Sequence[int], replies: int, longest: int) -> "Writing | None":
        """Read a prompt. None: this voice, or this length, is none of ours."""
        adapted = self._adapted(voice)
        if adapted is None or len(prompt) > self.longest_prompt or longest > LENGTHS[-1] or replies > REPLIES[-1]:
            return None
        if voice is not None and self._voice() is not voice:
            self._speak(voice, adapted)
        return self._begin(adapted, prompt, replies, longest)

    def _begin(self, adapted: tuple[int, ...], prompt: Sequence[int], replies: int, longest: int) -> "Writing":
        sizes = len(prompt), _up(replies, FULL), longest
        if self._device.type == "cuda":
            sizes = _up(len(prompt), PROMPTS), _up(replies, REPLIES), _up(longest, LENGTHS)
        state = self._states.get(sizes)
        if state is None:
            if self._device.type != "cuda":
                self._states.clear()
            state = self._states[sizes] = _State.empty(
                len(self._layers[()]), self._shape, self._norm, len(self._head), sizes
            )
        ids = torch.tensor([*prompt, *[0] * (sizes[0] - len(prompt))], device=self._device)
        state.prompt.copy_(self._embeddings(ids))
        state.length.fill_(len(prompt))
        state.place.zero_()
        # First what goes on from a prompt: where memory is short, that shows before a word is written.
        self._prepare("go on", adapted, sizes, lambda: self._write(self._layers[adapted], state))
        self._run("read", adapted, sizes, lambda: self._read(self._layers[adapted], state))
        return Writing(state, replies, lambda ids: self._go_on(adapted, sizes, state, ids))

    @torch.no_grad()
    def warm_up(self) -> None:
        """Compile and capture what the first cards will need: of the stock model, and of a voice as most are."""
        prompt, replies, longest = USUAL
        for adapted in ((), ATTENTION):
            self._make_room(adapted)
            writing = self._begin(adapted, [0] * prompt, replies, longest)
            writing.go_on(torch.zeros(replies, dtype=torch.long, device=self._device))

    def release(self) -> None:
        """Give the memory of all shapes back, and what lies about unused."""
        self._graphs.clear()
        self._states.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _adapted(self, voice: Any | None) -> tuple[int, ...] | None:
        """Which groups of linear layers a voice changes; None: it does not fit."""
        if voice is None:
            return ()
        groups = [layers.modules(layer) for layer in voice.base_model.layers]
        if not all(layers.fits(group) for of_layer in groups for group in of_layer):
            return None
        return tuple(i for i in range(len(layers.GROUPS)) if any(layers.adapted(of_layer[i]) for of_layer in groups))

    def _speak(self, voice: Any, adapted: tuple[int, ...]) -> None:
        self._make_room(adapted)
        for layer, module in zip(self._layers[adapted], voice.base_model.layers, strict=True):
            linears, groups = _linears(layer), layers.modules(module)
            for i in adapted:
                layers.write(linears[i], groups[i])
        self._voice = weakref.ref(voice)

    def _make_room(self, adapted: tuple[int, ...]) -> None:
        if adapted not in self._layers:
            self._layers[adapted] = [_roomy(layer, adapted) for layer in self._layers[()]]

    def _go_on(self, adapted: tuple[int, ...], sizes: tuple[int, int, int], state: "_State", ids: Tensor) -> Tensor:
        with torch.no_grad():
            state.newest[: len(ids)].copy_(self._embeddings(ids))
            self._run("go on", adapted, sizes, lambda: self._write(self._layers[adapted], state))
            state.place.add_(1)
        return state.logits[: len(ids)]

    def _run(self, what: str, adapted: tuple[int, ...], sizes: tuple[int, int, int], work: Callable[[], None]) -> None:
        if not self._captures:
            work()
            return
        self._prepare(what, adapted, sizes, work)
        self._graphs[what, adapted, sizes].replay()

    def _prepare(
        self, what: str, adapted: tuple[int, ...], sizes: tuple[int, int, int], work: Callable[[], None]
    ) -> None:
        key = (what, adapted, sizes)
        if self._captures and key not in self._graphs:
            self._graphs[key] = _captured(work, next(iter(self._graphs.values())).pool() if self._graphs else None)

    def _read(self, model: Sequence[layers.Layer], state: "_State") -> None:
        cos, sin = (turns[: len(state.prompt)] for turns in self._turns)
        x, run = state.prompt, _compiled(layers.read) if self._captures else layers.read
        for layer, (keys, values) in zip(model, state.of_prompt, strict=True):
            x = run(x, layer, self._shape, cos, sin, keys, values)
        last = x.index_select(0, state.length - 1)
        state.logits.copy_(self._to_words(last).expand_as(state.logits))

    def _write(self, model: Sequence[layers.Layer], state: "_State") -> None:
        cos, sin = (turns.index_select(0, state.length + state.place) for turns in self._turns)
        x, (enter, attend, leave) = state.newest, self._parts()
        made = enter(x, model[0], self._shape)
        for layer, following, prompt, own in zip(model, [*model[1:], None], state.of_prompt, state.own, strict=True):
            norms = layers.norms_of(layer)
            attended = attend(made, norms, (cos, sin), prompt, own, state.length, state.place, self._shape.epsilon)
            x, made = leave(x, attended, layer, following, self._shape)
        state.logits.copy_(self._to_words(x))

    def _parts(self) -> tuple[Callable[..., Any], ...]:
        """What a layer consists of when one token goes through it."""
        if not self._captures:
            return layers.enter, layers.attend, layers.leave
        return _compiled(layers.enter), self._attend or _compiled(layers.attend), _compiled(layers.leave)

    def _to_words(self, x: Tensor) -> Tensor:
        return layers.times(layers.normed(x, self._norm, self._shape.epsilon), self._head)


@dataclass(slots=True)
class Writing:
    """Replies being written to one prompt."""

    _state: "_State"
    _replies: int
    go_on: Callable[[Tensor], Tensor]  # newest tokens (replies,) -> logits of the next (replies, vocabulary)

    @property
    def logits(self) -> Tensor:
        """Of the token that comes next: (replies, vocabulary). Overwritten by `go_on`."""
        return self._state.logits[: self._replies]


@dataclass(slots=True)
class _State:
    """Tensors of one shape; captured graphs read and write them where they are."""

    prompt: Tensor  # (prompt, hidden) embedded
    newest: Tensor  # (replies, hidden) embedded
    length: Tensor  # (1,) of the prompt, unpadded
    place: Tensor  # (1,) how many tokens of the replies went before
    of_prompt: list[tuple[Tensor, Tensor]]  # each layer's keys and values: (key heads, prompt, size)
    own: list[tuple[Tensor, Tensor]]  # (replies, key heads, longest, size)
    logits: Tensor  # (replies, vocabulary)

    @classmethod
    def empty(
        cls, depth: int, shape: layers.Shape, norm: Tensor, vocabulary: int, sizes: tuple[int, int, int]
    ) -> "_State":
        """norm (hidden,) is of the type and on the device of all that is computed."""
        prompt, replies, longest = sizes
        of_prompt = norm.new_zeros(depth, 2, shape.key_heads, prompt, shape.size)
        own = norm.new_zeros(depth, 2, replies, shape.key_heads, longest, shape.size)
        return cls(
            prompt=norm.new_zeros(prompt, len(norm)),
            newest=norm.new_zeros(replies, len(norm)),
            length=torch.zeros(1, dtype=torch.long, device=norm.device),
            place=torch.zeros(1, dtype=torch.long, device=norm.device),
            of_prompt=[(keys, values) for keys, values in of_prompt],
            own=[(keys, values) for keys, values in own],
            logits=norm.new_zeros(replies, vocabulary),
        )


def decoder(model: Any) -> Decoder | None:
    """A Decoder where `model` is of the build that ours computes, else None. Tried, not assumed."""
    try:
        made = Decoder(model)
        apart, rounding = _apart(made, model)
    except Exception as error:  # a model's own code may raise anything; there is a slower way that always works
        log.info("%s is decoded by transformers (%s)", type(model).__name__, type(error).__name__)
        return None
    if apart > max(ROUNDING.get(made._dtype, COARSE_ROUNDING), ROUNDINGS * rounding):
        log.warning("%s is decoded by transformers: our logits are %.1e apart", type(model).__name__, apart)
        return None
    return made


@torch.no_grad()
def _apart(made: Decoder, model: Any) -> tuple[float, float]:
    """Logits after a short prompt and after one more token: how far ours lie from transformers' (relative error).

    And how far those lie that transformers gives by its own cache: in bf16 a deep model's rounding alone may be more
    than any fixed bound.
    """
    ids, following = list(range(20, 52)), 60
    given = torch.tensor([[*ids, following]], device=model.device)
    expected = model(input_ids=given, use_cache=False).logits[0, -2:].float()
    read = model(input_ids=given[:, :-1], use_cache=True)
    more = model(input_ids=given[:, -1:], past_key_values=read.past_key_values, use_cache=True)
    again = torch.stack((read.logits[0, -1], more.logits[0, -1])).float()
    writing = made.begin(None, ids, 1, 2)
    assert writing is not None
    first = writing.logits.float().clone()
    found = torch.cat((first, writing.go_on(given[0, -1:]).float()))
    made.release()
    made._captures = made._device.type == "cuda"
    apart, rounding = (float((one - expected).norm() / expected.norm()) for one in (found, again))
    return apart, rounding


def _captured(work: Callable[[], None], pool: Any) -> torch.cuda.CUDAGraph:
    """`work` as a graph in the memory of its sisters; it runs for real before, which compiles and fills workspaces."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside), torch._dynamo.config.patch(recompile_limit=64):
        work()
        work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, pool=pool):
            work()
    except RuntimeError as error:  # of the capture that was broken off; what broke it stands behind
        if isinstance(error.__context__, torch.OutOfMemoryError):
            raise error.__context__ from None
        raise
    return graph


def _kernel(shape: layers.Shape) -> Callable[..., Tensor] | None:
    """Attention as one kernel, where there is Triton to compile it and it takes such heads."""
    try:
        from training.engine import kernels
    except ImportError:
        return None
    return kernels.attend if kernels.suits(shape.heads, shape.key_heads, shape.size) else None


@cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(function, dynamic=False)


def _roomy(layer: layers.Layer, adapted: tuple[int, ...]) -> layers.Layer:
    qkv, out, gate_up, down = (
        layers.room(linear) if i in adapted else linear for i, linear in enumerate(_linears(layer))
    )
    return layer._replace(qkv=qkv, out=out, gate_up=gate_up, down=down)


def _linears(layer: layers.Layer) -> tuple[layers.Linear, ...]:
    return layer.qkv, layer.out, layer.gate_up, layer.down


def _up(number: int, sizes: Sequence[int]) -> int:
    return next(size for size in sizes if size >= number)
