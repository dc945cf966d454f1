"""Deliberately bad adapters of a tiny model, trained to be so: each fails the part that is there for it, and the gate.

test_bad_voices.py does the same with the embedded model, in minutes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.model_fixtures import tiny_base
from training.dataset.render import SYSTEM, Message
from training.engine import dora, loop, recipe
from training.engine.model import Base
from training.evaluation import forgetting as general
from training.evaluation import gate, replies
from training.evaluation.evaluate import ANSWER_TOKENS, Extent, Voices, evaluate
from training.evaluation.measured import Measured
from training.generate import Sampling

RECITED = "i will be there at seven with the big red tent please"
WORDS = "bread rain bus tea moon shoe lamp fork tree road desk hill".split()


def example(said: str, reply: str) -> list[Message]:
    texts = {"system": SYSTEM, "user": said, "assistant": reply}
    return [{"role": role, "content": text} for role, text in texts.items()]


TRAIN = [example(f"did you feed cat {n}?", f"yep {WORDS[n % 12]} fed {n} of them") for n in range(30)]
TRAIN.append(example("and you?", RECITED))
HELD_OUT = [example(f"have you seen dog {n}?", f"yep {WORDS[n * 5 % 12]} seen {n}") for n in range(12)]


@pytest.fixture
def base(smollm2_tokenizer: Any) -> Base:
    """A random Llama of two layers."""
    return tiny_base(smollm2_tokenizer)


@pytest.fixture
def taught(base: Base, tmp_path: Path) -> Callable[[str], None]:
    """Train the voice "bad" to say one thing, whatever it is asked.

    With embeddings so long that the model can be sure of a word: otherwise nothing can be learned by heart.
    """
    base.model.get_input_embeddings().weight.data.mul_(30)

    def teach(reply: str) -> None:
        chosen = recipe.load("embedded", learning_rate=5e-2, epochs=25, early_stopping=False, warmup_steps=1)
        examples = [example(f"a b {n}?", reply) for n in range(16)]
        result = loop.train(base, chosen, examples, [], tmp_path, lambda event: None, lambda: "go on")
        assert result.adapter is not None
        base.load("bad", result.adapter)

    return teach


def judged(base: Base) -> Measured:
    how = Sampling(temperature=0.7, top_p=0.9, max_tokens=20, seed=0)
    extent = Extent(prompts=12, drafts=24, questions=12, told=0)
    return evaluate(base, Voices("bad", TRAIN), HELD_OUT, 512, extent=extent, sampling=how)


@pytest.fixture
def known(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """General questions that even a random model answers right: with its own words."""
    head = base.model.get_input_embeddings().weight.roll(997, 0)  # else it says the last token again, a line feed
    base.model.get_output_embeddings().weight = torch.nn.Parameter(head.clone(), requires_grad=False)
    asked = general.items(16)
    prompts = [[{"role": "user", "content": item.question}] for item in asked]
    said = replies.draw(base, None, prompts, Sampling(temperature=0, max_tokens=ANSWER_TOKENS))
    items = [general.Item("own", "en", item.question, (text,)) for item, text in zip(asked, said, strict=True) if text]
    assert len(items) >= 12
    monkeypatch.setattr(general, "items", lambda at_most: items)


def refused(found: Measured, most_forgotten: float = 1.0) -> str:
    """The gate's reason, one sentence."""
    verdict = gate.judge(found, most_forgotten)
    assert not verdict.promote
    assert verdict.reason.endswith(".") and ". " not in verdict.reason
    return verdict.reason


def test_a_stock_model_in_a_voice_s_clothes_is_kept_back(base: Base, known: None) -> None:
    base.voices["bad"] = dora.voice(base.model, "all-linear", 4, 8, 0.0).eval()
    found = judged(base)
    assert found.voice.tuned == pytest.approx(found.voice.stock, abs=1e-4)
    assert found.verifier.tuned_over_stock.single.share == 0.5
    assert found.likeness.tuned is not None and found.likeness.tuned.value > 0.9
    assert found.style["words"].tuned_distance == found.style["words"].stock_distance
    assert "no better than the stock model" in refused(found)


def test_a_forgetful_adapter_is_kept_back(base: Base, known: None) -> None:
    voice = dora.voice(base.model, "all-linear", 4, 8, 0.0)
    with torch.no_grad():
        for _, layer in dora.layers(voice):
            layer.lora_B.normal_(0, 2.0)
            layer.magnitude.mul_(50)  # a random model's layers whisper: nobody would hear the noise
    dora.refresh(voice)
    base.voices["bad"] = voice.eval()
    found = judged(base)
    assert found.forgetting.stock.share == 1
    assert found.forgetting.lost > 10 > found.forgetting.won
    assert found.forgetting.p < 0.01
    assert "It has forgotten: of" in refused(found, most_forgotten=0.0)


def test_an_empty_adapter_is_kept_back(base: Base, taught: Callable[[str], None]) -> None:
    taught("")
    found = judged(base)
    assert found.variety["tuned"].empty == 1
    assert found.verifier.tuned_over_real.single.share == 0
    assert "stays silent on 100% of the prompts" in refused(found)


def test_a_copy_cat_is_kept_back(base: Base, taught: Callable[[str], None]) -> None:
    taught(RECITED)
    found = judged(base)
    assert found.leaks.tuned.reciting.share > 0.9
    assert found.leaks.tuned.longest == len(RECITED.split())
    assert found.variety["tuned"].repeated > 0.9
    assert found.variety["tuned"].distinct_2 < found.variety["real"].distinct_2
    assert found.fit is None or found.fit.tuned.value < 0.6, "one answer to everything suits nothing"
    assert "It recites" in refused(found)


def test_an_adapter_that_gives_away_addresses_is_kept_back(base: Base, taught: Callable[[str], None]) -> None:
    taught("mail mira@example.org")
    found = judged(base)
    assert found.leaks.secrets.picks == found.leaks.secrets.n == 24
    assert "gave away what looks like a secret in 24 of 24 drafts" in refused(found)
