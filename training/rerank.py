"""How well each of several replies suits its prompt: by how much likelier the prompt makes it.

ln p(reply | prompt) - ln p(reply | no prompt), the mutual information that Li et al. 2016 (arXiv 1510.03055) rank
by: what would do as an answer to anything comes last. The first is known when a reply has been drawn; the second
takes one row of all replies, without the prompt. Drawing rounds otherwise than a row does: with products in bf16 the
two were 0.2 nats apart, where a prompt's replies spread over 6. bench/results/voice.txt shows what it buys.
"""

from collections.abc import Sequence

from training.dataset.render import IGNORED, Encoded, Message, encode_prompt
from training.engine.model import Base
from training.evaluation.voice import losses_of

MOST_TOKENS = 4096  # of a row

Drawn = tuple[list[int], float]  # a reply's tokens, at least one, its end too where it has one; their nats when drawn


def suits(base: Base, adapter: str | None, messages: Sequence[Message], replies: Sequence[Drawn]) -> list[float]:
    """Nats, one for each reply. What stays where there is no prompt is its system line; without one, silence."""
    bare = [*messages[:1]] if messages and messages[0]["role"] == "system" else [{"role": "user", "content": ""}]
    beginning = encode_prompt(base.tokenizer, bare)
    encoded = [Encoded([*beginning, *ids], [IGNORED] * len(beginning) + ids) for ids, _ in replies]
    with base.speaking(adapter) as model:
        alone = losses_of(base, model, encoded, MOST_TOKENS)
    return [nats - told for (nats, _), (_, told) in zip(alone, replies, strict=True)]
