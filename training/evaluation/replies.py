"""Replies to many prompts, drawn in batches: what the automatic judges read."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from training.dataset.render import Message, encode_prompt, end_of_turn_id
from training.engine.model import Base
from training.generate import Completion, Sampling, sample

LEFT = 0.8  # of a batch still running: the others are dropped
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
    model there. Drawn as drafts are: the same nucleus, a generator of its own.
    """
    encoded = [encode_prompt(base.tokenizer, prompt) for prompt in prompts]
    found = [Completion("", 0, "stop")] * len(encoded)
    generator = torch.Generator(device=base.device)
    generator.manual_seed(sampling.seed or 0)
    with base.speaking(adapter) as model:
        for batch in _batches(encoded, *AT_ONCE[base.device.type]):
            before(len(batch))
            drawn = _generate(model, base, [encoded[i] for i in batch], sampling, generator)
            for index, (ids, ended) in zip(batch, drawn, strict=True):
                text = base.tokenizer.decode(ids, skip_special_tokens=True).strip()
                found[index] = Completion(text, len(ids), "stop" if ended else "length")
    return found


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


def _generate(
    model: Any, base: Base, prompts: Sequence[list[int]], sampling: Sampling, generator: torch.Generator
) -> list[tuple[list[int], bool]]:
    """The ids behind each prompt, and whether that reply ended by itself. Prompts are padded on the left.

    Replies that have ended leave the batch now and then: most are far shorter than the longest.
    """
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts], device=base.device)
    seen = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=base.device)
    places = (seen.cumsum(1) - 1).clamp_min(0)
    output = model(input_ids=ids, attention_mask=seen, position_ids=places, use_cache=True, logits_to_keep=1)
    place, cache = places[:, -1:], output.past_key_values
    ends = torch.tensor([end_of_turn_id(base.tokenizer), base.tokenizer.pad_token_id], device=base.device)
    rows, running = list(range(len(prompts))), [True] * len(prompts)
    found: list[tuple[list[int], bool]] = [([], False) for _ in prompts]
    for number in range(sampling.max_tokens):
        chosen = sample(output.logits[:, -1].float(), sampling, generator)  # (rows,)
        for at, (token, ended) in enumerate(zip(chosen.tolist(), torch.isin(chosen, ends).tolist(), strict=True)):
            if running[at] and ended:
                running[at], found[rows[at]] = False, (found[rows[at]][0], True)
            elif running[at]:
                found[rows[at]][0].append(token)
        if not any(running) or number + 1 == sampling.max_tokens:
            break
        if sum(running) <= len(rows) * LEFT:
            left = torch.tensor([at for at, runs in enumerate(running) if runs], device=base.device)
            cache.batch_select_indices(left)
            seen, place, chosen = seen[left], place[left], chosen[left]
            rows, running = [row for row, runs in zip(rows, running, strict=True) if runs], [True] * len(left)
        seen = torch.cat((seen, seen.new_ones(len(rows), 1)), 1)
        place = place + 1
        output = model(
            input_ids=chosen[:, None], attention_mask=seen, position_ids=place, past_key_values=cache, use_cache=True
        )
    return found
