"""Decoding."""

from typing import Any

import pytest
import torch

from storage.errors import OutOfMemory
from tests.model_fixtures import tiny_base
from training.dataset.render import encode_prompt
from training.generate import Sampling, complete

MESSAGES = [{"role": "user", "content": "hi"}]


def test_greedy_decoding_is_what_transformers_generates(smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer)
    prompt = torch.tensor([encode_prompt(base.tokenizer, MESSAGES)])
    expected = base.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=10, pad_token_id=0
    )[0, prompt.shape[1] :]
    answer = complete(base, None, MESSAGES, Sampling(temperature=0, max_tokens=10))
    text = base.tokenizer.decode(expected, skip_special_tokens=True).strip()
    assert answer.completions[0].text == text


def test_candidates_share_one_prefill_and_equal_single_greedy_ones(smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer)
    read: list[int] = []
    base.model.get_input_embeddings().register_forward_pre_hook(lambda module, ids: read.append(ids[0].numel()))
    many = complete(base, None, MESSAGES, Sampling(n=3, temperature=0, max_tokens=6))
    assert read == [len(encode_prompt(base.tokenizer, MESSAGES)), 3, 3, 3, 3, 3]
    one = complete(base, None, MESSAGES, Sampling(temperature=0, max_tokens=6))
    assert {c.text for c in many.completions} == {one.completions[0].text}


def test_sampling_leaves_torch_s_own_generator_alone(smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    complete(base, None, MESSAGES, Sampling(max_tokens=4, seed=9))
    assert torch.equal(torch.rand(3), expected)


def test_nothing_outside_the_nucleus_is_drawn(smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer)
    greedy = complete(base, None, MESSAGES, Sampling(temperature=0, max_tokens=5)).completions[0].text
    narrow = complete(base, None, MESSAGES, Sampling(temperature=1, top_p=1e-6, max_tokens=5, seed=3))
    assert narrow.completions[0].text == greedy


def test_streamed_pieces_hold_no_broken_characters(smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer, seed=2)
    pieces: list[str] = []
    sampling = Sampling(max_tokens=60, temperature=1.5, seed=1)
    answer = complete(base, None, MESSAGES, sampling, lambda _, text: pieces.append(text))
    assert "".join(pieces).strip() == answer.completions[0].text


@pytest.mark.parametrize(("failures", "drawn"), [(1, True), (2, False)])
def test_a_card_without_room_is_tried_again_without_the_graphs_of_other_shapes(
    failures: int, drawn: bool, smollm2_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base(smollm2_tokenizer)
    greedy = Sampling(temperature=0, max_tokens=5)
    wanted = complete(base, None, MESSAGES, greedy)
    assert base.decoder is not None
    begin, left, released = base.decoder.begin, [failures], []

    def full(*asked: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError
        return begin(*asked)

    monkeypatch.setattr(base.decoder, "begin", full)
    monkeypatch.setattr(base.decoder, "release", lambda: released.append(True))
    if drawn:
        assert complete(base, None, MESSAGES, greedy) == wanted
    else:
        with pytest.raises(OutOfMemory, match="memory is full"):
            complete(base, None, MESSAGES, greedy)
    assert released
