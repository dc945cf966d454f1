"""How well replies suit their prompt, against transformers' own logits."""

import random
from typing import Any

import pytest
import torch

from tests.model_fixtures import tiny_base
from training.dataset.render import IGNORED, Encoded, encode_example, encode_prompt, end_of_turn_id
from training.engine import dora
from training.engine.model import Base
from training.evaluation.voice import losses_of
from training.generate import Sampling, _tokens, complete
from training.rerank import suits

SYSTEM = {"role": "system", "content": "You are the owner of this account."}
PROMPT = [SYSTEM, {"role": "user", "content": "are you coming to the lake on friday?"}]


def nats(model: Any, encoded: Encoded) -> float:
    """A reply's own, by transformers alone."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([encoded.ids]), use_cache=False).logits[0, :-1]
    labels = torch.tensor(encoded.labels[1:])
    return float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))


def drawn(base: Base, adapter: str | None, how: Sampling) -> list[list[int]]:
    """The tokens of the replies that `how` draws, their ends too."""
    generator = torch.Generator().manual_seed(how.seed or 0)
    prompt = encode_prompt(base.tokenizer, PROMPT)
    with torch.no_grad():
        steps = [*_tokens(base, adapter, prompt, how, generator)]
    end = end_of_turn_id(base.tokenizer)
    return [list(ids[: ids.index(end) + 1] if end in ids else ids) for ids in zip(*steps, strict=True)]


@pytest.mark.parametrize("tuned", [False, True])
def test_it_is_how_much_likelier_the_prompt_makes_a_reply(smollm2_tokenizer: Any, tuned: bool) -> None:
    base = tiny_base(smollm2_tokenizer)
    name = "voice" if tuned else None
    if tuned:
        base.voices["voice"] = dora.voice(base.model, "all-linear", 8, 16, 0.0).eval()
        for _, layer in dora.layers(base.voices["voice"]):
            torch.nn.init.normal_(layer.lora_B, std=0.1)
        dora.refresh(base.voices["voice"])
    model = base.voices["voice"] if tuned else base.model
    with torch.no_grad():  # so that some replies end
        base.model.get_output_embeddings().weight[end_of_turn_id(base.tokenizer)] *= 40
    how = Sampling(n=8, max_tokens=20, seed=1, temperature=1.0, top_p=0.95, rank=True)
    found = complete(base, name, PROMPT, how).completions
    replies = drawn(base, name, how)
    assert {one.finish_reason for one in found} == {"stop", "length"}
    for ids, one in zip(replies, found, strict=True):
        assert one.tokens == len(ids) - (one.finish_reason == "stop")
        told, alone = (
            nats(model, Encoded([*prompt, *ids], [IGNORED] * len(prompt) + ids))
            for prompt in (encode_prompt(base.tokenizer, before) for before in (PROMPT, [SYSTEM]))
        )
        assert one.suits == pytest.approx(alone - told, abs=1e-3)
    assert len({round(one.suits or 0, 2) for one in found}) > 1


@pytest.mark.parametrize("messages", [PROMPT[1:], []], ids=["no system line", "nothing"])
def test_without_a_system_line_there_is_something_to_hold_it_against(
    smollm2_tokenizer: Any, messages: list[dict[str, str]]
) -> None:
    base = tiny_base(smollm2_tokenizer)
    assert len(suits(base, None, messages, [([5, 6], 9.0), ([7], 4.0)])) == 2


def test_each_example_gets_its_own_loss_whatever_the_rows(smollm2_tokenizer: Any) -> None:
    base: Base = tiny_base(smollm2_tokenizer)
    words = ["lake", "boat", "friday", "Anna", "no idea", "tomorrow then"]
    draw = random.Random(0)
    examples = [
        [
            SYSTEM,
            {"role": "user", "content": word},
            {"role": "assistant", "content": " ".join(draw.choices(words, k=n))},
        ]
        for n, word in enumerate(words, 1)
    ]
    encoded = [encode_example(base.tokenizer, one, 512) for one in examples]
    found = losses_of(base, base.model, encoded, 90)
    assert [tokens for _, tokens in found] == [one.reply_tokens for one in encoded]
    for (value, _), one in zip(found, encoded, strict=True):
        assert value == pytest.approx(nats(base.model, one), rel=1e-4)
