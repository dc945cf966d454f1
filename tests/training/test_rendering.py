"""What the model is trained on and what it is asked with: golden masks as coloured text."""

import os
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from training.dataset.render import (
    IGNORED,
    Turn,
    coloured,
    conversation,
    encode_example,
    encode_prompt,
    end_of_turn_id,
)

GOLDEN = Path(__file__).parent / "golden"
QWEN3 = Path(__file__).resolve().parents[3] / "shared" / "qwen3"
CONTEXT = (Turn("user", "Are you coming?"), Turn("assistant", "hm\nwhen"), Turn("user", "At eight. Bring 🍰!"))
REPLY = "yep yep\nbringing it 🙃"
MESSAGES = [*conversation(CONTEXT), {"role": "assistant", "content": REPLY}]


@pytest.fixture(scope="session")
def qwen3_tokenizer() -> Any:
    if not QWEN3.is_dir():
        pytest.skip("Qwen3's tokenizer is not beside the project (../shared/qwen3)")
    return AutoTokenizer.from_pretrained(QWEN3)


@pytest.mark.parametrize("name", ["qwen3", "smollm2"])
def test_the_mask_covers_the_reply_and_its_end_of_turn_alone(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(f"{name}_tokenizer")
    encoded = encode_example(tokenizer, MESSAGES, 512)
    shown = coloured(tokenizer, encoded)
    golden = GOLDEN / f"mask_{name}.ansi"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(shown, encoding="utf-8")
    assert shown == golden.read_text(encoding="utf-8")
    learned = [token for token, label in zip(encoded.ids, encoded.labels, strict=True) if label != IGNORED]
    assert learned == [*tokenizer.encode(REPLY, add_special_tokens=False), end_of_turn_id(tokenizer)]
    assert tokenizer.decode(learned) == REPLY + "<|im_end|>"


@pytest.mark.parametrize("name", ["qwen3", "smollm2"])
def test_training_and_asking_share_one_prompt(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(f"{name}_tokenizer")
    prompt = encode_prompt(tokenizer, conversation(CONTEXT))
    encoded = encode_example(tokenizer, MESSAGES, 512)
    assert encoded.ids[: len(prompt)] == prompt
    assert set(encoded.labels[: len(prompt)]) == {IGNORED}


def test_qwen3_is_asked_with_its_thinking_closed(qwen3_tokenizer: Any) -> None:
    text = qwen3_tokenizer.decode(encode_prompt(qwen3_tokenizer, conversation(CONTEXT)))
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_the_embedded_model_s_own_system_line_is_not_added(smollm2_tokenizer: Any) -> None:
    text = smollm2_tokenizer.decode(encode_prompt(smollm2_tokenizer, conversation(CONTEXT)))
    assert text.count("<|im_start|>system") == 1
    assert "SmolLM" not in text


def test_a_long_example_loses_its_oldest_turns_and_never_its_end(smollm2_tokenizer: Any) -> None:
    turns = [Turn("assistant" if i % 2 else "user", f"turn {i} " + "word " * 30) for i in range(9)]
    messages = [*conversation(turns), {"role": "assistant", "content": REPLY}]
    encoded = encode_example(smollm2_tokenizer, messages, 120)
    text = smollm2_tokenizer.decode(encoded.ids)
    assert len(encoded.ids) <= 120
    assert text.endswith(REPLY + "<|im_end|>")
    assert "turn 8" in text
    assert "turn 0" not in text
    assert text.startswith("<|im_start|>system")
