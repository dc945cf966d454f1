"""Replies drawn in batches."""

from typing import Any

from tests.model_fixtures import tiny_base
from training.evaluation import replies
from training.generate import Sampling, complete

PROMPTS = [[{"role": "user", "content": "hi " * n}] for n in (1, 40, 3, 12, 7)]


def test_a_batch_gives_each_prompt_the_reply_it_gets_alone(smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer)
    how = Sampling(temperature=0, max_tokens=9)
    together = replies.complete(base, None, PROMPTS, how)
    assert together == [complete(base, None, prompt, how).completions[0] for prompt in PROMPTS]


def test_replies_that_end_leave_the_batch_and_the_others_go_on(smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer)
    how = Sampling(temperature=0, max_tokens=9)
    alone = [complete(base, None, prompt, how).completions[0] for prompt in PROMPTS]
    ends = base.tokenizer.convert_tokens_to_ids("<|im_end|>")
    model, calls = base.model, []

    class Ending(type(model)):  # type: ignore[misc]
        """At each step, the first two rows of a batch of more than two are at their end."""

        def forward(self, *given: Any, **named: Any) -> Any:
            output = super().forward(*given, **named)
            rows = output.logits.shape[0]
            calls.append(rows)
            if rows > 2:
                output.logits[:2, -1, ends] = 1e9
            return output

    model.__class__ = Ending
    found = replies.complete(base, None, PROMPTS, how)
    assert calls[:3] == [5, 3, 1]
    assert [one.finish_reason for one in found] == ["length", "stop", "stop", "stop", "stop"]
    assert found[0] == alone[0], "the shortest prompt stands last"
