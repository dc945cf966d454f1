"""The one rendering: the ids a model is trained on and those it is asked with come from here.

prompt = chat template with the generation prompt and thinking off; then the reply; then end-of-turn.
Loss on the reply and its end-of-turn token alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

END_OF_TURN = "<|im_end|>"
IGNORED = -100  # the label torch's cross entropy leaves out

# Stands before every example and every request, also the stock model's, so that the comparison is fair.
SYSTEM = "You are chatting with a friend on Telegram. Write your next message."

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}


class Tokenizer(Protocol):
    """What this module needs of a transformers tokenizer."""

    def apply_chat_template(self, conversation: Sequence[Message], **options: Any) -> Any: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...
    def decode(self, token_ids: Sequence[int]) -> str: ...
    def convert_tokens_to_ids(self, tokens: str) -> int: ...


@dataclass(frozen=True, slots=True)
class Turn:
    """One side's merged burst. `role` is "user" for the friend, "assistant" for the owner."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one example and its labels, of equal length; labels are IGNORED over the prompt."""

    ids: list[int]
    labels: list[int]

    @property
    def reply_tokens(self) -> int:
        """How many tokens the loss is taken over."""
        return sum(label != IGNORED for label in self.labels)


def conversation(context: Sequence[Turn]) -> list[Message]:
    """The messages that ask for the owner's next turn after `context`."""
    return [{"role": "system", "content": SYSTEM}] + [{"role": turn.role, "content": turn.text} for turn in context]


def end_of_turn_id(tokenizer: Tokenizer) -> int:
    """The id of the token that ends a reply."""
    return tokenizer.convert_tokens_to_ids(END_OF_TURN)


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """Ids of everything before the reply."""
    text = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    return tokenizer.encode(text, add_special_tokens=False)


def encode_example(tokenizer: Tokenizer, messages: Sequence[Message], max_tokens: int) -> Encoded:
    """Ids and labels of one example whose last message is the reply.

    Too long for `max_tokens`: the oldest turns go first, then the prompt's head, then the reply's tail.
    """
    *prompt_messages, reply = messages
    reply_ids = tokenizer.encode(reply["content"], add_special_tokens=False)[: max_tokens - 1]
    reply_ids = [*reply_ids, end_of_turn_id(tokenizer)]
    prompt_ids = encode_prompt(tokenizer, prompt_messages)
    while len(prompt_ids) + len(reply_ids) > max_tokens and len(shorter := _drop_oldest(prompt_messages)) > 0:
        prompt_messages = shorter
        prompt_ids = encode_prompt(tokenizer, prompt_messages)
    prompt_ids = prompt_ids[max(0, len(prompt_ids) + len(reply_ids) - max_tokens) :]
    return Encoded(prompt_ids + reply_ids, [IGNORED] * len(prompt_ids) + reply_ids)


def coloured(tokenizer: Tokenizer, encoded: Encoded) -> str:
    """The example as text, one token a bracket: what the loss is taken over in green, the rest grey."""
    parts = []
    for token, label in zip(encoded.ids, encoded.labels, strict=True):
        colour = "90" if label == IGNORED else "32"
        text = tokenizer.decode([token]).replace("\n", "⏎")
        parts.append(f"\x1b[{colour}m{text}\x1b[0m" + ("\n" if text == "⏎" or text == END_OF_TURN else ""))
    return "".join(parts)


def _drop_oldest(messages: list[Message]) -> list[Message]:
    """Without the oldest turn and what must go with it; empty when only the last turn is left."""
    head = messages[:1] if messages[0]["role"] == "system" else []
    turns = messages[len(head) :]
    following = next((i for i, m in enumerate(turns) if i > 0 and m["role"] == "user"), None)
    return head + turns[following:] if following is not None else []
