"""One chat's messages -> reply pairs: what the other side said, and what the owner answered.

Messages of one author in a row are one turn (a burst), its lines kept. A pair is the other side's
turn and the owner's next one inside the same session; sessions end at a long silence. Nothing
crosses a chat. Secrets are masked turn by turn, before anything is cut. What gives no pair is
counted, in messages, by reason.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.records import Chat, ChatKind, Message, MessageKind
from training.dataset.redact import redact_answer
from training.dataset.render import Turn

_LINK_ONLY = re.compile(r"(?:(?:https?://|www\.|t\.me/)\S+\s*)+", re.IGNORECASE)
_COMMAND = re.compile(r"/[A-Za-z]\w*(?:@\w+)?(?: [^\n]*)?")
_MASK = re.compile(r"\[[a-z]+\]")
_GROUPS = (ChatKind.GROUP, ChatKind.SUPERGROUP)
# Their text is a form's (a poll's question, a shared contact), not somebody's words.
_FORMS = (MessageKind.POLL, MessageKind.LOCATION, MessageKind.CONTACT, MessageKind.GAME, MessageKind.INVOICE)


@dataclass(frozen=True, slots=True)
class Options:
    """How a history becomes examples. The defaults are the article's where it gives a number."""

    gap_seconds: int = 6 * 3600  # a longer silence starts a new session
    burst_seconds: int = 3600  # a later line of the owner's own is no longer the same reply
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
    """What one chat gave: its pairs in time's order, and counts of the messages that gave none."""

    chat_id: int
    messages: int
    pairs: tuple[Pair, ...]
    left_out: Mapping[str, int]


@dataclass(slots=True)
class _Turn:
    """Messages of one side in a row; `text` is their words, masked."""

    is_own: bool
    messages: list[Message]
    text: str = ""


def pairs_of(chat: Chat, messages: Sequence[Message], options: Options) -> ChatPairs:
    """The pairs of one chat, whatever order its messages come in."""
    left_out: Counter[str] = Counter()
    refusal = _chat_refusal(chat)
    if refusal:
        return ChatPairs(chat.chat_id, len(messages), (), {refusal: len(messages)} if messages else {})
    usable = _usable(messages, left_out)
    find = _group_pairs if chat.kind in _GROUPS else _personal_pairs
    pairs = tuple(find(usable, options, left_out))
    return ChatPairs(chat.chat_id, len(messages), pairs, dict(sorted(left_out.items())))


def context_of(messages: Sequence[Message], options: Options) -> tuple[Turn, ...]:
    """The context that the owner's next message in a personal chat would have, as a pair would; () if none.

    What a draft is asked with, so that it sees a conversation exactly as training did.
    """
    sessions = list(_sessions(_usable(messages, Counter()), options))
    turns = _turns(sessions[-1], options) if sessions else []
    return _context(turns, options) if turns and not turns[-1].is_own and _says_nothing(turns[-1]) is None else ()


def _chat_refusal(chat: Chat) -> str | None:
    if chat.included is False:
        return "chat switched off"
    if chat.kind is ChatKind.PERSONAL or (chat.included and chat.kind in _GROUPS):
        return None
    return f"chat is no personal one ({chat.kind.value})"


def _usable(messages: Sequence[Message], left_out: Counter[str]) -> list[Message]:
    """In time's order, without what nobody said. Forwards stay: they part one's own words."""
    usable = []
    for message in sorted(messages, key=lambda m: (m.date, m.message_id)):
        reason = _message_refusal(message)
        if reason is None:
            usable.append(message)
        else:
            left_out[reason] += 1
    return usable


def _message_refusal(message: Message) -> str | None:
    if message.deleted_at is not None:
        return "deleted"
    if message.kind is MessageKind.SERVICE:
        return "service message"
    if message.kind is MessageKind.OTHER:
        return "unknown kind"
    if message.kind is MessageKind.TEXT and not message.text.strip():
        return "empty"
    return None


def _is_foreign(message: Message) -> bool:
    return message.forwarded_from is not None or message.via_bot is not None


def _words(message: Message) -> str:
    """The author's own words: text or caption, and a friend's sticker as its emoji."""
    if _is_foreign(message) or message.kind in _FORMS:
        return ""
    if message.kind is MessageKind.STICKER and not message.is_own:
        return message.emoji.strip()
    return message.text.strip()


def _line(message: Message) -> str:
    """What stands in a turn: words, or the name of what a friend sent without words."""
    if message.is_own or _is_foreign(message):
        return _words(message)
    return _words(message) or f"[{message.kind.value.replace('_', ' ')}]"


def _personal_pairs(messages: Sequence[Message], options: Options, left_out: Counter[str]) -> Iterator[Pair]:
    for session in _sessions(messages, options):
        turns = _turns(session, options)
        for index, turn in enumerate(turns):
            if turn.is_own:
                yield from _pair(turns[:index], turn, options, left_out)


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
    for before, turn in zip([None, *turns], turns, strict=False):
        _fill(turn, before.text if before else "")
    return turns


def _breaks(turn: _Turn, message: Message, options: Options) -> bool:
    if not turn.is_own:
        return False
    last = turn.messages[-1]
    pause = (message.date - last.date).total_seconds() > options.burst_seconds
    return pause or _is_foreign(message) or _is_foreign(last)


def _fill(turn: _Turn, question: str) -> None:
    text = "\n".join(line for message in turn.messages if (line := _line(message)))
    turn.text = redact_answer(question, text)[0]


def _pair(before: Sequence[_Turn], turn: _Turn, options: Options, left_out: Counter[str]) -> Iterator[Pair]:
    """The pair of an own turn, if it gives one; otherwise its messages are counted."""
    reason = _no_reply(turn, options) or _no_prompt(before)
    if reason is None:
        first = turn.messages[0]
        yield Pair(first.chat_id, first.message_id, first.date, _context(before, options), turn.text)
    else:
        left_out[reason] += len(turn.messages)


def _no_reply(turn: _Turn, options: Options) -> str | None:
    """Why an own turn is nothing to learn to write."""
    if any(message.forwarded_from is not None for message in turn.messages):
        return "forwarded"
    if any(message.via_bot is not None for message in turn.messages):
        return "via bot"
    if not turn.text:
        only_stickers = all(message.kind is MessageKind.STICKER for message in turn.messages)
        return "only a sticker" if only_stickers else "media without words"
    if _LINK_ONLY.fullmatch(turn.text):
        return "only a link"
    if _COMMAND.fullmatch(turn.text):
        return "command to a bot"
    if _MASK.search(turn.text) and not re.search(r"\w", _MASK.sub("", turn.text)):
        return "only a secret"
    return "reply too long" if len(turn.text) > options.max_reply_characters else None


def _no_prompt(before: Sequence[_Turn]) -> str | None:
    """Why an own turn answers nothing that a model could be shown."""
    return "nothing to answer" if not before or before[-1].is_own else _says_nothing(before[-1])


def _says_nothing(turn: _Turn) -> str | None:
    if any(_words(message) for message in turn.messages):
        return None
    foreign = all(_is_foreign(message) for message in turn.messages)
    return "answers a forwarded message" if foreign else "answers media without words"


def _context(before: Sequence[_Turn], options: Options) -> tuple[Turn, ...]:
    """The last turns, the newest last, beginning with the other side's; whole but for a very long last one."""
    turns = [Turn("user", _tail(before[-1].text, options.context_characters))]
    characters = len(turns[0].text)
    for turn in reversed(before[:-1]):
        characters += len(turn.text)
        if len(turns) >= options.context_turns or characters > options.context_characters:
            break
        if turn.text:
            turns.append(Turn("assistant" if turn.is_own else "user", turn.text))
    while turns[-1].role == "assistant":
        turns.pop()
    return _merged(reversed(turns))


def _tail(text: str, limit: int) -> str:
    """The end of a text, from the beginning of a word."""
    if len(text) <= limit:
        return text
    cut = text[-limit:]
    parts = cut.split(None, 1)
    return parts[1] if len(parts) == 2 and not text[-limit - 1].isspace() else cut.lstrip()


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
    """In groups only an explicit reply says who is answered; the chain of replies is the context."""
    by_id = {message.message_id: message for message in messages}
    for message in messages:
        if not message.is_own:
            continue
        chain = _reply_chain(message, by_id, options)
        if len(chain) < 2 or chain[-2].is_own:
            left_out["in a group, no reply to anybody"] += 1
            continue
        turns = [_Turn(link.is_own, [link]) for link in chain]
        for before, turn in zip([None, *turns], turns, strict=False):
            _fill(turn, before.text if before else "")
        yield from _pair(turns[:-1], turns[-1], options, left_out)


def _reply_chain(message: Message, by_id: Mapping[int, Message], options: Options) -> list[Message]:
    """What is answered by what, oldest first, `message` last; each step forward in time and inside the gap."""
    chain = [message]
    while len(chain) <= options.context_turns and (reply_to := chain[-1].reply_to) is not None:
        asked = by_id.get(reply_to)
        if asked is None or not _follows(chain[-1], asked, options):
            break
        chain.append(asked)
    return chain[::-1]


def _follows(message: Message, asked: Message, options: Options) -> bool:
    earlier = (asked.date, asked.message_id) < (message.date, message.message_id)
    return earlier and (message.date - asked.date).total_seconds() <= options.gap_seconds
