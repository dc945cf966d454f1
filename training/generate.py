"""Decoding: several replies to one prompt, sampled with a generator of their own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from storage.errors import OutOfMemory
from training.dataset.render import Message, encode_prompt, end_of_turn_id
from training.dataset.sampling import MAX_TOKENS, TEMPERATURE, TOP_P
from training.engine.model import Base
from training.rerank import suits
from training.shortage import GPU, relieve

CANDIDATES = 256


@dataclass(frozen=True, slots=True)
class Sampling:
    """How replies are drawn. temperature 0 is greedy."""

    n: int = 1
    temperature: float = TEMPERATURE
    top_p: float = TOP_P
    max_tokens: int = MAX_TOKENS
    stop: tuple[str, ...] = ()
    seed: int | None = None
    rank: bool = False  # tell how well each reply suits the prompt


@dataclass(frozen=True, slots=True)
class Completion:
    """One reply; `finish_reason` is "stop", or "length" when max_tokens cut it. `suits`: rerank.py's nats."""

    text: str
    tokens: int
    finish_reason: str
    suits: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """All completions of one request."""

    prompt_tokens: int
    completions: tuple[Completion, ...]


@torch.no_grad()
def complete(
    base: Base,
    adapter: str | None,
    messages: Sequence[Message],
    sampling: Sampling,
    on_text: Callable[[int, str], None] | None = None,
) -> Answer:
    """Draw `sampling.n` replies of `adapter` (None: the stock model).

    The prompt is read once for all of them. `on_text(index, piece)` gets the text as it grows.
    The state of torch's global random generator is left alone.
    """
    prompt = encode_prompt(base.tokenizer, messages)
    generator = torch.Generator(device=base.device)
    generator.manual_seed(sampling.seed) if sampling.seed is not None else generator.seed()
    writers = [_Writer(base, sampling) for _ in range(sampling.n)]
    nats: list[torch.Tensor] | None = [] if sampling.rank else None
    try:
        for token_ids in _tokens(base, adapter, prompt, sampling, generator, nats):
            for index, (writer, token) in enumerate(zip(writers, token_ids, strict=True)):
                piece = writer.take(token)
                if piece and on_text is not None:
                    on_text(index, piece)
            if all(writer.done for writer in writers):
                break
    except torch.OutOfMemoryError as error:
        if base.decoder is not None:
            base.decoder.release()
        relieve()
        raise OutOfMemory(GPU) from error
    for index, writer in enumerate(writers):
        if (rest := writer.finish()) and on_text is not None:
            on_text(index, rest)
    drawn = [writer.completion() for writer in writers]
    if nats is not None:
        drawn = _ranked(base, adapter, messages, drawn, [writer.drawn for writer in writers], torch.stack(nats, 1))
    return Answer(len(prompt), tuple(drawn))


def _ranked(
    base: Base,
    adapter: str | None,
    messages: Sequence[Message],
    drawn: list[Completion],
    ids: Sequence[list[int]],
    nats: torch.Tensor,
) -> list[Completion]:
    """With how well each suits the prompt; without, where the card has no room for that now. nats (n, tokens)."""
    told = [sum(each[: len(own)]) for own, each in zip(ids, nats.tolist(), strict=True)]
    try:
        known = suits(base, adapter, messages, [*zip(ids, told, strict=True)])
    except torch.OutOfMemoryError:
        relieve()
        return drawn
    return [replace(one, suits=value) for one, value in zip(drawn, known, strict=True)]


def _tokens(
    base: Base,
    adapter: str | None,
    prompt: list[int],
    sampling: Sampling,
    generator: torch.Generator,
    nats: list[torch.Tensor] | None = None,
) -> Iterator[list[int]]:
    """Yield the next token of each of the n replies, max_tokens times; `nats` gets what each was worth: (n,).

    That is -ln p by the model itself, however it was drawn. On a GPU the step after it is on its way before a token is
    read, so that the card never waits for Python.
    """
    logits, go_on = _begun(base, adapter, prompt, sampling)
    for position in range(sampling.max_tokens):
        chosen = sample(logits.float(), sampling, generator)  # (n,)
        if nats is not None:
            nats.append(F.cross_entropy(logits.float(), chosen, reduction="none"))
        read = _reader(chosen)
        ahead = base.device.type == "cuda"
        if not ahead:
            yield read()
        if position + 1 < sampling.max_tokens:
            logits = go_on(chosen)
        if ahead:
            yield read()


def _begun(
    base: Base, adapter: str | None, prompt: list[int], sampling: Sampling
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """The first token's logits (n, vocabulary), and what turns newest tokens (n,) into the next ones' logits."""
    with base.speaking(adapter) as model:
        if base.decoder is not None:
            voice = None if adapter is None else model
            try:
                writing = base.decoder.begin(voice, prompt, sampling.n, sampling.max_tokens)
            except torch.OutOfMemoryError:  # a training may have taken what was free; other shapes' graphs make room
                base.decoder.release()
                writing = base.decoder.begin(voice, prompt, sampling.n, sampling.max_tokens)
            if writing is not None:
                return writing.logits, writing.go_on
    output = model(input_ids=torch.tensor([prompt], device=base.device), use_cache=True, logits_to_keep=1)
    cache = output.past_key_values
    cache.batch_repeat_interleave(sampling.n)

    def go_on(chosen: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(input_ids=chosen[:, None], past_key_values=cache, use_cache=True).logits[:, -1]
        return logits

    return output.logits[:, -1].expand(sampling.n, -1), go_on


def _reader(chosen: torch.Tensor) -> Callable[[], list[int]]:
    """Begin to bring tokens from the card; the result waits for them, and for nothing that was queued behind."""
    if not chosen.is_cuda:
        return chosen.tolist
    here = torch.empty(chosen.shape, dtype=chosen.dtype, pin_memory=True)
    here.copy_(chosen, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def read() -> list[int]:
        arrived.synchronize()
        ids: list[int] = here.tolist()
        return ids

    return read


def sample(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> torch.Tensor:
    """(n, vocabulary) -> (n,): nucleus sampling; what lies outside the nucleus is never drawn.

    A nucleus has at most CANDIDATES tokens: sorting a whole vocabulary costs a tenth of a step on a GPU. Drawn
    by the race of exponentials, which torch.multinomial runs too, but not without waiting for the card.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits / sampling.temperature, -1)
    ids = None
    if sampling.top_p < 1:
        probabilities, ids = probabilities.topk(min(CANDIDATES, logits.shape[-1]), -1)
        probabilities = probabilities.where(probabilities.cumsum(-1) - probabilities < sampling.top_p, 0)
    race = torch.empty_like(probabilities).exponential_(generator=generator)
    winner = (probabilities / race).argmax(-1)
    return winner if ids is None else ids.gather(-1, winner[:, None])[:, 0]


class _Writer:
    """One reply's text as it grows: whole characters only, nothing at or after a stop string."""

    def __init__(self, base: Base, sampling: Sampling) -> None:
        self._tokenizer = base.tokenizer
        self._end = end_of_turn_id(base.tokenizer)
        self._stop = sampling.stop
        self._ids: list[int] = []
        self.drawn: list[int] = []  # the same, and the end where it came
        self._shown = 0
        self._text = ""
        self.reason: str | None = None

    @property
    def done(self) -> bool:
        return self.reason is not None

    def take(self, token: int) -> str:
        """Add a token; returns the text that became certain with it."""
        if self.done:
            return ""
        self.drawn.append(token)
        if token == self._end or token == self._tokenizer.pad_token_id:
            self.reason = "stop"
            return ""
        self._ids.append(token)
        self._text = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        for stop in self._stop:
            if (at := self._text.find(stop)) >= 0:
                self._text, self.reason = self._text[:at], "stop"
        if self.done:
            return ""
        held = max((len(stop) - 1 for stop in self._stop), default=0)
        certain = len(self._text.rstrip("\ufffd")) - held
        return self._show(certain)

    def finish(self) -> str:
        """The rest, once no token comes any more."""
        self.reason = self.reason or "length"
        return self._show(len(self._text))

    def completion(self) -> Completion:
        return Completion(self._text.strip(), len(self._ids), self.reason or "length")

    def _show(self, until: int) -> str:
        piece = self._text[self._shown : until] if until > self._shown else ""
        self._shown = max(self._shown, until)
        return piece
