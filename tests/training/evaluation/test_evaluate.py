"""The whole evaluation of a tiny voice: every part is there, and the numbers add up."""

import json
from typing import Any

from bot.evaluation import lines
from tests.model_fixtures import tiny_base
from training.dataset.render import SYSTEM, Message
from training.engine import dora
from training.evaluation.evaluate import Extent, Voices, evaluate
from training.generate import Sampling


def example(number: int, said: str = "did you feed cat") -> list[Message]:
    roles, texts = ("system", "user", "assistant"), (SYSTEM, f"{said} number {number}?", f"yep, fed {number} of them")
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]


def test_every_part_is_measured_and_told_in_lines(smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer)
    base.voices["voice"] = dora.voice(base.model, "all-linear", 4, 8, 0.0).eval()
    train, held_out = [example(n) for n in range(30)], [example(n, "have you seen dog") for n in range(12)]
    parts: list[tuple[str, float]] = []
    found = evaluate(
        base,
        Voices("voice", train),
        [*held_out, train[0]],
        512,
        extent=Extent(prompts=12, drafts=20, questions=5, told=12),
        sampling=Sampling(max_tokens=8, seed=1),
        tell=lambda part, share: parts.append((part, share)),
    )
    assert (found.voice.examples, found.voice.left_out) == (12, 1)
    assert len(found.drafts) == 20
    assert set(found.ways) == {"real", "stock", "stock, told", "tuned", "tuned, told"}
    assert found.ways["stock"].over_stock.share == 0.5
    assert [share for _, share in parts] == sorted(share for _, share in parts)
    assert parts[-1] == ("judging", 1.0)
    said = "\n".join(lines(json.loads(json.dumps(found.plain()))))
    assert "the tuned voice, told the same: over stock" in said
    assert found.verifier.real_over_stock.single.n == 12
