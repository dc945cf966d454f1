"""What a model is asked with before it is trained: the owner's manner, and how he answered the like before."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.dataset.manner import Manner, describe
from training.dataset.render import SYSTEM, Message, Turn


@dataclass(frozen=True, slots=True)
class Exchange:
    """What somebody wrote, and the owner's reply."""

    said: str
    reply: str


def prompted(context: Sequence[Turn], manner: Manner | None, exchanges: Sequence[Exchange]) -> list[Message]:
    """The messages that ask for the owner's next turn after `context`; the most similar exchange stands last."""
    parts = [SYSTEM]
    if manner is not None:
        parts.append(describe(manner))
    if exchanges:
        shown = "\n\n".join(f"They: {one.said}\nYou: {one.reply}" for one in exchanges)
        parts.append(f"How you answered before, for the manner alone:\n\n{shown}")
    if len(parts) > 1:
        parts.append("Write the next message as you would, in the language of the conversation, and nothing else.")
    system = {"role": "system", "content": "\n\n".join(parts)}
    return [system, *({"role": turn.role, "content": turn.text} for turn in context)]
