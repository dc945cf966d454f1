"""One chat's messages -> reply pairs: what the other side said, and what the owner answered.

Messages of one author in a row are one turn (a burst), its lines kept. A pair is the other side's
turn and the owner's next one inside the same session; sessions end at a long silence. Nothing
crosses a chat. What is left out is counted by reason.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from storage.records import Chat, ChatKind, Message, MessageKind
from training.dataset.render import Turn

_LINK_ONLY = re.compile(r"(?:(?:https?://|www\.|t\.me/)\S+\s*)+", re.IGNORECASE)
_GROUPS = (ChatKind.GROUP, ChatKind.SUPERGROUP)


@dataclass(frozen=True, slots=True)
class Options:
    """How a history becomes examples. The defaults are the article's where it gives a number."""

    gap_seconds: int = 6 * 3600  # a longer silence starts a new session
    burst_seconds: int = 15 * 60  # a later line of the owner's own is no longer the same reply
    context_turns: int = 4
    context_characters: int = 600
    max_reply_characters: int = 1000
    max_pairs_per_chat: int | None = 12
    validation_share: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Pair:
    """`context` ends with the other side's turn; `reply` is the owner's whole next turn."""

    chat_id: int
    message_id: int  # the first message of the reply
    date: datetime
    context: tuple[Turn, ...]
    reply: str


@dataclass(frozen=True, slots=True)
class ChatPairs:
    """What one chat gave: its pairs in time's order, and counts of what it did not give."""

    chat_id: int
    messages: int
    pairs: tuple[Pair, ...]
    left_out: Mapping[str, int]


@dataclass(slots=True)
class _Turn:
    is_own: bool
    messages: list[Message] = field(default_factory=list)

    @property
    def last(self) -> datetime:
        return self.messages[-1].date


def pairs_of(chat: Chat, messages: Sequence[Message], options: Options) -> ChatPairs:
    """The pairs of one chat. `messages` in the order of their ids."""
    left_out: Counter[str] = Counter()
    refusal = _chat_refusal(chat)
    if refusal:
        return ChatPairs(chat.chat_id, len(messages), (), {refusal: len(messages)} if messages else {})
    usable = list(_usable(sorted(messages, key=lambda m: (m.date, m.message_id)), left_out))
    find = _group_pairs if chat.kind in _GROUPS else _personal_pairs
    pairs = tuple(find(usable, options, left_out))
    return ChatPairs(chat.chat_id, len(messages), pairs, dict(sorted(left_out.items())))


def _chat_refusal(chat: Chat) -> str | None:
    if chat.included is False:
        return "chat switched off"
    if chat.kind is ChatKind.PERSONAL or (chat.included and chat.kind in _GROUPS):
        return None
    return f"chat is no personal one ({chat.kind.value})"


def _usable(messages: Sequence[Message], left_out: Counter[str]) -> Iterator[Message]:
    """Words by their own author. A foreign message of the owner's stays as a break, without words."""
    for message in messages:
        reason = _message_refusal(message)
        if reason is None:
            yield message
        else:
            left_out[reason] += 1


def _message_refusal(message: Message) -> str | None:
    if message.deleted_at is not None:
        return "deleted"
    if message.kind is MessageKind.SERVICE:
        return "service message"
    if message.kind is MessageKind.OTHER:
        return "unknown kind"
    if not _context_words(message) and not _is_foreign(message):
        return "no words"
    return None


def _is_foreign(message: Message) -> bool:
    return message.forwarded_from is not None or message.via_bot is not None


def _context_words(message: Message) -> str:
    """What the other side sees: words, a sticker's emoji, or the name of a medium without words."""
    if message.text.strip():
        return message.text.strip()
    if message.kind is MessageKind.STICKER:
        return message.emoji
    return "" if message.kind is MessageKind.TEXT else f"[{message.kind.value.replace('_', ' ')}]"


def _personal_pairs(messages: Sequence[Message], options: Options, left_out: Counter[str]) -> Iterator[Pair]:
    for session in _sessions(messages, options):
        turns = _turns(session, options)
        for index, turn in enumerate(turns):
            if not turn.is_own:
                continue
            if index == 0 or turns[index - 1].is_own:
                left_out["nothing to answer"] += len(turn.messages)
                continue
            pair = _pair(turns[:index], turn, options, left_out)
            if pair is not None:
                yield pair


def _sessions(messages: Sequence[Message], options: Options) -> Iterator[list[Message]]:
    session: list[Message] = []
    for message in messages:
        if session and (message.date - session[-1].date).total_seconds() > options.gap_seconds:
            yield session
            session = []
        session.append(message)
    if session:
        yield session


def _turns(session: Sequence[Message], options: Options) -> list[_Turn]:
    """Bursts. The owner's turn also ends at a pause and at a message that is not his own words."""
    turns: list[_Turn] = []
    for message in session:
        if turns and turns[-1].is_own == message.is_own and not _breaks(turns[-1], message, options):
            turns[-1].messages.append(message)
        else:
            turns.append(_Turn(message.is_own, [message]))
    return turns


def _breaks(turn: _Turn, message: Message, options: Options) -> bool:
    if not turn.is_own:
        return False
    pause = (message.date - turn.last).total_seconds() > options.burst_seconds
    return pause or _is_foreign(message) or _is_foreign(turn.messages[-1])


def _pair(before: Sequence[_Turn], turn: _Turn, options: Options, left_out: Counter[str]) -> Pair | None:
    reply, reason = _reply(turn.messages, options)
    context = _context(before, options) if reason is None else ()
    if reason is None and not context:
        reason = "nothing to answer"
    if reason is not None:
        left_out[reason] += len(turn.messages)
        return None
    first = turn.messages[0]
    return Pair(first.chat_id, first.message_id, first.date, context, reply)


def _reply(messages: Sequence[Message], options: Options) -> tuple[str, str | None]:
    """The reply's words, or the reason why there is none."""
    if any(message.forwarded_from is not None for message in messages):
        return "", "forwarded"
    if any(message.via_bot is not None for message in messages):
        return "", "via bot"
    text = "\n".join(message.text.strip() for message in messages if message.text.strip())
    if not text:
        return "", "reply without words"
    if _LINK_ONLY.fullmatch(text):
        return "", "link only"
    if text.startswith("/") and "\n" not in text and re.fullmatch(r"/\w+(@\w+)?( .*)?", text):
        return "", "command to a bot"
    if len(text) > options.max_reply_characters:
        return "", "reply too long"
    return text, None


def _context(before: Sequence[_Turn], options: Options) -> tuple[Turn, ...]:
    """The last turns, the newest last, starting with the other side's; () when it says nothing."""
    turns: list[Turn] = []
    characters = 0
    for turn in reversed(before):
        words = [_context_words(message) for message in turn.messages if not _is_foreign(message)]
        text = "\n".join(word for word in words if word)
        if not turns and (turn.is_own or not text):
            return ()
        full = len(turns) == options.context_turns or characters + len(text) > options.context_characters
        if turns and full:
            break
        if text:
            characters += len(text)
            turns.append(Turn("assistant" if turn.is_own else "user", text[-options.context_characters :]))
    while turns and turns[-1].role == "assistant":
        turns.pop()
    return _merged(reversed(turns))


def _merged(turns: Iterator[Turn]) -> tuple[Turn, ...]:
    """Neighbours of one role joined (a pause or a forward may have cut them apart)."""
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1].role == turn.role:
            merged[-1] = Turn(turn.role, merged[-1].text + "\n" + turn.text)
        else:
            merged.append(turn)
    return tuple(merged)


def _group_pairs(messages: Sequence[Message], options: Options, left_out: Counter[str]) -> Iterator[Pair]:
    """In groups only an explicit reply says who is answered."""
    by_id = {message.message_id: message for message in messages}
    for message in messages:
        if not message.is_own:
            continue
        asked = by_id.get(message.reply_to) if message.reply_to is not None else None
        if asked is None or asked.is_own:
            left_out["group: no reply to somebody"] += 1
            continue
        before = [_Turn(False, [asked])]
        pair = _pair(before, _Turn(True, [message]), options, left_out)
        if pair is not None:
            yield pair
