"""The live account's events -> the database: what is new, edited and deleted, as it happens and after a gap.

Telethon's own difference drops edits and deletions (its message box takes them for known), and its state is
saved once a minute. So the account's clock (pts) is kept here, in the transaction that stores the events: what
is pushed in sequence is stored as it comes, anything else makes us ask for the difference from our own clock.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from telethon import functions, types

from storage import history
from storage.database import Database
from storage.drafts import own_words_stay_own
from storage.forgetting import forgotten
from storage.ingest.sync.objects import Entities, chat_id_of, chat_of, entities_of, message_of, why_not
from storage.ingest.sync.patience import Patient
from storage.positions import Clock, clock, set_clock
from storage.records import Account, Message

log = logging.getLogger(__name__)

_NEW = ("UpdateNewMessage", "UpdateEditMessage")
_OF_CHANNELS = ("UpdateNewChannelMessage", "UpdateEditChannelMessage")


@dataclass(frozen=True, slots=True)
class Taken:
    """What a batch of events changed. `is_too_long`: Telegram no longer knows all; a sync has to fetch the rest."""

    new: int = 0
    updated: int = 0
    deleted: int = 0
    is_too_long: bool = False


class Events:
    """One account's events into one database."""

    def __init__(
        self,
        database: Database,
        ask: Patient,
        owner: Account,
        now: Callable[[], datetime],
        heard: Callable[[Sequence[Message]], Awaitable[None]] | None = None,
    ) -> None:
        """`heard` is told of messages that were stored."""
        self._database = database
        self._ask = ask
        self._owner = owner
        self._now = now
        self._heard = heard
        self._one_at_a_time = asyncio.Lock()

    async def catch_up(self) -> Taken:
        """Take in all that has happened since the clock."""
        async with self._one_at_a_time:
            return await self._catch_up()

    async def take(self, update: Any) -> Taken:
        """One pushed update."""
        async with self._one_at_a_time:
            if type(update).__name__ in _OF_CHANNELS:  # their clocks are their own; a sync fills their gaps
                return await self._store([update.message], [], {}, None)
            stands = await clock(self._database)
            pts, count = getattr(update, "pts", None), getattr(update, "pts_count", 0)
            if pts is None or hasattr(update, "channel_id") or (stands and 0 < pts <= stands.pts):
                return Taken()
            messages = self._messages_of(update)
            if stands is None or stands.pts + count != pts or not await self._knows(messages):
                return await self._catch_up()
            deleted = update.messages if isinstance(update, types.UpdateDeleteMessages) else []
            return await self._store(messages, deleted, {}, Clock(pts, stands.qts, stands.date))

    async def _catch_up(self) -> Taken:
        await self._start()
        total = Taken()
        while True:
            stands = await clock(self._database)
            assert stands is not None
            request = functions.updates.GetDifferenceRequest(pts=stands.pts, date=stands.date, qts=stands.qts)
            answer = await self._ask(request)
            if isinstance(answer, types.updates.DifferenceEmpty):
                return total
            if isinstance(answer, types.updates.DifferenceTooLong):
                log.warning("Telegram no longer knows the events since %d", stands.pts)
                async with self._database.transaction():
                    await set_clock(self._database, Clock(answer.pts, stands.qts, stands.date))
                return replace(total, is_too_long=True)
            taken = await self._difference(answer)
            total = Taken(total.new + taken.new, total.updated + taken.updated, total.deleted + taken.deleted)
            if isinstance(answer, types.updates.Difference):
                return total

    async def _start(self) -> None:
        """Note whose account it is and, the first time, from where on its events are to be caught up."""
        is_first = await clock(self._database) is None
        state = await self._ask(functions.updates.GetStateRequest()) if is_first else None
        async with self._database.transaction():
            await history.set_account(self._database, self._owner)
            if state is not None:
                await set_clock(self._database, Clock(state.pts, state.qts, state.date))

    async def _difference(self, answer: Any) -> Taken:
        state = getattr(answer, "state", None) or answer.intermediate_state
        others = [u for u in answer.other_updates if type(u).__name__ in (*_NEW, *_OF_CHANNELS)]
        deleted = [n for u in answer.other_updates if isinstance(u, types.UpdateDeleteMessages) for n in u.messages]
        found = [*answer.new_messages, *(update.message for update in others)]
        return await self._store(found, deleted, entities_of(answer), Clock(state.pts, state.qts, state.date))

    async def _store(self, found: Sequence[Any], deleted: Sequence[int], entities: Entities, to: Clock | None) -> Taken:
        messages = [message_of(one, self._owner.user_id, entities) for one in found]
        async with self._database.transaction():
            kept = await self._wanted([message for message in messages if message is not None], entities)
            stored = await history.put_messages(self._database, kept)
            await own_words_stay_own(self._database)
            gone = await history.mark_deleted_anywhere(self._database, deleted, self._now()) if deleted else 0
            if to is not None:
                await set_clock(self._database, to)
        if self._heard is not None and kept:
            await self._heard(kept)
        return Taken(stored.new, stored.updated, gone)

    async def _wanted(self, messages: Iterable[Message], entities: Entities) -> list[Message]:
        """Those of chats that are kept; a chat that is new is noted."""
        gone, kept = await forgotten(self._database), []
        for message in messages:
            chat = await history.find_chat(self._database, message.chat_id)
            if chat is None and message.chat_id in entities and message.chat_id not in gone:
                chat = chat_of(entities[message.chat_id])
                await history.put_chat(self._database, chat)
            if chat is not None and not why_not(chat):
                kept.append(message)
        return kept

    async def _knows(self, messages: Iterable[Any]) -> bool:
        """Whether nothing has to be looked up to store them: a difference brings names along, a push may not."""
        for message in messages:
            if getattr(message, "fwd_from", None) or getattr(message, "via_bot_id", None):
                return False
            if await history.find_chat(self._database, chat_id_of(message.peer_id)) is None:
                return False
        return True

    def _messages_of(self, update: Any) -> list[Any]:
        if type(update).__name__ in _NEW:
            return [update.message]
        if not isinstance(update, types.UpdateShortMessage | types.UpdateShortChatMessage):
            return []
        is_group = isinstance(update, types.UpdateShortChatMessage)
        short = types.Message(
            id=update.id,
            peer_id=types.PeerChat(update.chat_id) if is_group else types.PeerUser(update.user_id),
            from_id=types.PeerUser(update.from_id) if is_group else None,
            date=update.date,
            message=update.message,
            out=update.out,
            fwd_from=update.fwd_from,
            via_bot_id=update.via_bot_id,
            reply_to=update.reply_to,
            entities=update.entities,
        )
        return [short]
