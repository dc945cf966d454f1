"""From a conversation to drafts: what the model is asked with, and which of its replies may be shown."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from bot.damage import Tell, fall_back
from bot.suitable import DRAFTS, RUN_WORDS, SPARE, TRIES, Drawn, different, suitable
from bot.voice import Voice, speaking
from storage import history, runs, similar
from storage.database import Database
from storage.errors import Damaged
from storage.records import Chat, ChatKind, Message, MessageKind
from storage.rows import last_rowid
from training.dataset.manner import Manner, measure
from training.dataset.pairs import Options, Pair, context_of, pairs_of
from training.dataset.prompting import Exchange, prompted
from training.dataset.render import Turn, conversation
from training.dataset.strangers import masked, name_words

RECENT = 60  # messages of a chat that can matter to its newest one
EXCHANGES, OWN_EXCHANGES = 4, 3  # shown at most; of them from the same chat
EXCHANGE_CHARACTERS = 300  # of either side: what is longer costs more of the prompt than it lends
MEASURED_CHATS, MEASURED_MESSAGES = 20, 300
FRESH = 2000  # messages after which manner and names are looked at again

OnText = Callable[[Sequence[str]], None]


@dataclass(frozen=True, slots=True)
class Drafted:
    """Drafts with what they were asked with."""

    replies: tuple[str, ...]
    model: str
    context: tuple[Turn, ...]


class Drafting:
    """Drafts in the serving voice; before there is one, the base model is told how the owner writes."""

    def __init__(self, database: Database, voice: Voice, tell: Tell) -> None:
        self._database, self._voice, self._tell = database, voice, tell
        self._owner: _Owner | None = None

    async def drafts(
        self, context: tuple[Turn, ...], chat_id: int | None, n: int = DRAFTS, on_text: OnText | None = None
    ) -> Drafted:
        """Up to `n` replies that differ; fewer, or none, when the model has no more. `on_text` sees them grow.

        A voice that is found damaged speaks no more: the last good one answers.
        """
        while True:
            model, version = await speaking(self._database, self._voice)
            try:
                return await self._drafts(model, version, context, chat_id, n, on_text)
            except Damaged:
                if version is None or self._voice.only_model:
                    raise
                await fall_back(self._database, version, self._tell)

    async def _drafts(
        self,
        model: str,
        version: runs.Version | None,
        context: tuple[Turn, ...],
        chat_id: int | None,
        n: int,
        on_text: OnText | None,
    ) -> Drafted:
        messages = conversation(context) if version else await self.introduced(context, chat_id)
        found: list[Drawn] = []
        for attempt in range(TRIES):
            wanted = n - len(different(found, n)) + SPARE
            drawn = await self._voice.draw(model, messages, wanted, on_text=on_text if attempt == 0 else None)
            found += await self._fit(drawn, context, chat_id)
            if len(different(found, n)) >= n:
                break
        return Drafted(tuple(different(found, n)), model, context)

    async def introduced(
        self, context: tuple[Turn, ...], chat_id: int | None, before: datetime | None = None
    ) -> list[dict[str, str]]:
        """The prompt for a model that was not trained on the owner. `before`: nothing that came later is used."""
        known = await self._known_owner()
        exchanges = await exchanges_like(self._database, context, chat_id, known.names, before)
        return prompted(context, known.manner, exchanges)

    async def _fit(self, drawn: Sequence[Drawn], context: Sequence[Turn], chat_id: int | None) -> list[Drawn]:
        """As they may be shown."""
        fit = [replace(one, text=text) for one in drawn if (text := suitable(one, context)) is not None]
        return [one for one in fit if not await similar.said_elsewhere(self._database, one.text, chat_id, RUN_WORDS)]

    async def _known_owner(self) -> "_Owner":
        newest = await last_rowid(self._database)
        if self._owner is None or newest - self._owner.rowid >= FRESH:
            counts = await history.chat_counts(self._database)
            recent = [
                (count.chat, await history.newest(self._database, count.chat.chat_id, MEASURED_MESSAGES))
                for count in counts[:MEASURED_CHATS]
            ]
            manner = await asyncio.to_thread(_measure, recent)
            self._owner = _Owner(newest, manner, name_words([count.chat.name for count in counts]))
        return self._owner


@dataclass(frozen=True, slots=True)
class _Owner:
    """What is measured once in a while."""

    rowid: int  # of the newest message then
    manner: Manner | None
    names: frozenset[str]


def _measure(recent: Sequence[tuple[Chat, Sequence[Message]]]) -> Manner | None:
    pairs = [pair for chat, messages in recent for pair in pairs_of(chat, messages, Options()).pairs]
    return measure((pair.chat_id, pair.reply) for pair in pairs)


async def context_in(database: Database, chat_id: int | None, text: str, now: datetime) -> tuple[Turn, ...]:
    """The conversation that `text`, pasted or forwarded just now, belongs to: the chat's last turns, if it is known."""
    chat = await history.find_chat(database, chat_id) if chat_id is not None else None
    recent = await history.newest(database, chat.chat_id, RECENT) if chat else []
    if not recent or all(message.text != text for message in recent if not message.is_own):
        recent.append(Message(chat_id or 0, 2**62, now, None, False, MessageKind.TEXT, text))
    return context_of(recent, Options()) or (Turn("user", text),)


async def exchanges_like(
    database: Database,
    context: Sequence[Turn],
    chat_id: int | None,
    names: Collection[str],
    before: datetime | None = None,
) -> list[Exchange]:
    """How the owner answered the like of the newest turn: the same person first, the most similar last.

    `names` are words of other people's names, to be masked. `before`: nothing that came later is shown.
    """
    current = {turn.text for turn in context}
    found: list[Exchange] = []
    for same_chat, most in ((True, OWN_EXCHANGES if chat_id is not None else 0), (False, EXCHANGES)):
        if len(found) >= most:
            continue
        hits = await similar.similar(database, context[-1].text, chat_id=chat_id, same_chat=same_chat, limit=3 * most)
        for hit in hits:
            pair = await _pair_at(database, *hit, before)
            if pair is None or {pair.reply, pair.context[-1].text} & current:
                continue
            if max(len(pair.reply), len(pair.context[-1].text)) > EXCHANGE_CHARACTERS:
                continue
            exchange = Exchange(pair.context[-1].text, pair.reply)
            if not same_chat:
                exchange = replace(exchange, said=masked(exchange.said, names))
                if masked(pair.reply, names) != pair.reply:
                    continue  # a reply full of masks teaches to write masks
            if exchange not in found:
                found.append(exchange)
            if len(found) >= most:
                break
    return found[::-1]


async def _pair_at(database: Database, chat_id: int, message_id: int, before: datetime | None) -> Pair | None:
    """The reply to a message, with what it answers."""
    near = await similar.around(database, chat_id, message_id, before=2, after=6)
    hit = next(message for message in near if message.message_id == message_id)
    pairs = pairs_of(Chat(chat_id, ChatKind.PERSONAL, ""), near, Options()).pairs
    answers = (pair for pair in pairs if pair.message_id > message_id and hit.text.strip() in pair.context[-1].text)
    pair = next(answers, None)
    return None if pair is None or (before is not None and pair.date >= before) else pair
