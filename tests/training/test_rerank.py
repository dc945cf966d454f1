"""How well replies suit their prompt, against transformers' own logits."""

import random
from typing import Any

import pytest
import torch

from tests.model_fixtures import tiny_base
from training.dataset.render import Encoded, encode_example
from training.engine import dora
from training.engine.model import Base
from training.evaluation.voice import losses_of
from training.rerank import suits

SYSTEM = {"role": "system", "content": "You are the owner of this account."}
PROMPT = [SYSTEM, {"role": "user", "content": "are you coming to the lake on friday?"}]
REPLIES = ["yes", "no idea, ask Anna about the boat first", "ok then", "yes"]


def nats(model: Any, encoded: Encoded) -> float:
    """A reply's own, by transformers alone."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([encoded.ids]), use_cache=False).logits[0, :-1]
    labels = torch.tensor(encoded.labels[1:])
    return float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))


@pytest.mark.parametrize("tuned", [False, True])
def test_it_is_how_much_likelier_the_prompt_makes_a_reply(smollm2_tokenizer: Any, tuned: bool) -> None:
    base = tiny_base(smollm2_tokenizer)
    if tuned:
        base.voices["voice"] = dora.voice(base.model, "all-linear", 8, 16, 0.0).eval()
        for _, layer in dora.layers(base.voices["voice"]):
            torch.nn.init.normal_(layer.lora_B, std=0.1)
        dora.refresh(base.voices["voice"])
    found = suits(base, "voice" if tuned else None, PROMPT, REPLIES)
    model = base.voices["voice"] if tuned else base.model
    for text, value in zip(REPLIES, found, strict=True):
        reply = {"role": "assistant", "content": text}
        told, alone = (encode_example(base.tokenizer, [*before, reply], 512) for before in (PROMPT, [SYSTEM]))
        assert value == pytest.approx(nats(model, alone) - nats(model, told), abs=1e-3)
    assert found[0] == pytest.approx(found[3], abs=1e-4)
    assert len({round(value, 2) for value in found}) > 1


def test_without_a_system_line_there_is_something_to_hold_it_against(smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer)
    assert len(suits(base, None, PROMPT[1:], REPLIES)) == len(REPLIES)


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
