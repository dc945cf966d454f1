"""How well each of several replies suits its prompt: by how much likelier the prompt makes it.

ln p(reply | prompt) - ln p(reply | no prompt), the mutual information that Li et al. 2016 (arXiv 1510.03055) rank
by: what would do as an answer to anything comes last. bench/results/voice.txt shows what it buys.
"""

from collections.abc import Sequence

from training.dataset.render import Message, encode_example
from training.engine.model import Base
from training.evaluation.voice import losses_of

MOST_TOKENS = 4096  # of a prompt with its reply, and of a row of them


def suits(base: Base, adapter: str | None, messages: Sequence[Message], replies: Sequence[str]) -> list[float]:
    """Nats, one for each reply. What stays where there is no prompt is its system line; without one, silence."""
    bare = [messages[0]] if messages[0]["role"] == "system" else [{"role": "user", "content": ""}]
    turns = [{"role": "assistant", "content": text} for text in replies]
    told, alone = (
        [encode_example(base.tokenizer, [*prompt, turn], MOST_TOKENS) for turn in turns] for prompt in (messages, bare)
    )
    with base.speaking(adapter) as model:
        with_prompt, without = (losses_of(base, model, encoded, MOST_TOKENS) for encoded in (told, alone))
    return [nats - nats_told for (nats_told, _), (nats, _) in zip(with_prompt, without, strict=True)]
