"""Replies to many prompts, drawn in batches: what the automatic judges read."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from training.dataset.render import Message, encode_prompt, end_of_turn_id
from training.engine.model import Base
from training.generate import Completion, Sampling

AT_ONCE = {"cpu": (32, 4096), "cuda": (256, 65_536)}  # replies in one batch, and tokens of their prompts, padded


def draw(
    base: Base,
    adapter: str | None,
    prompts: Sequence[Sequence[Message]],
    sampling: Sampling,
    before: Callable[[int], None] = lambda replies: None,
) -> list[str]:
    """One reply of `adapter` (None: the stock model) to each prompt, in their order; "" where it stays silent."""
    return [one.text for one in complete(base, adapter, prompts, sampling, before)]


@torch.inference_mode()
def complete(
    base: Base,
    adapter: str | None,
    prompts: Sequence[Sequence[Message]],
    sampling: Sampling,
    before: Callable[[int], None] = lambda replies: None,
) -> list[Completion]:
    """The same, and whether each ended by itself.

    `before` is called before each batch with the number of its replies: the caller may let others at the
    model there. The state of torch's global random generator is left alone.
    """
    encoded = [encode_prompt(base.tokenizer, prompt) for prompt in prompts]
    found = [Completion("", 0, "stop")] * len(encoded)
    devices = [base.device] if base.device.type == "cuda" else []
    with base.speaking(adapter) as model, torch.random.fork_rng(devices):
        torch.manual_seed(sampling.seed or 0)
        for batch in _batches(encoded, *AT_ONCE[base.device.type]):
            before(len(batch))
            drawn = _generate(model, base, [encoded[i] for i in batch], sampling)
            for index, ids in zip(batch, drawn, strict=True):
                found[index] = _completion(base, ids)
    return found


def _completion(base: Base, ids: Sequence[int]) -> Completion:
    ends = {base.tokenizer.pad_token_id, end_of_turn_id(base.tokenizer)}
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    text = base.tokenizer.decode(ids[:end], skip_special_tokens=True).strip()
    return Completion(text, len(ids[:end]), "length" if end is None else "stop")


def _batches(encoded: Sequence[Sequence[int]], most: int, tokens: int) -> list[list[int]]:
    """Indices, the long prompts together: little padding."""
    batches: list[list[int]] = []
    for index in sorted(range(len(encoded)), key=lambda i: -len(encoded[i])):
        longest = len(encoded[batches[-1][0]]) if batches else 0
        room = min(most, max(1, tokens // max(1, longest)))
        if not batches or len(batches[-1]) >= room:
            batches.append([])
        batches[-1].append(index)
    return batches


def _generate(model: torch.nn.Module, base: Base, prompts: Sequence[list[int]], sampling: Sampling) -> list[list[int]]:
    """transformers' own batched decoding, padded on the left; the ids behind each prompt."""
    longest = max(map(len, prompts))
    padding = base.tokenizer.pad_token_id
    ids = torch.tensor([[padding] * (longest - len(p)) + p for p in prompts], device=base.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=base.device)
    how: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if sampling.temperature > 0:
        how = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    drawn = model.generate(  # type: ignore[operator]
        input_ids=ids, attention_mask=mask, max_new_tokens=sampling.max_tokens, repetition_penalty=1.0, **how
    )
    replies: list[list[int]] = drawn[:, longest:].tolist()
    return replies
