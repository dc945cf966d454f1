"""The live account's history -> records in the database, page by page.

The first time newest first, a page of every chat in turn: after one round there is something of everybody to
train on. Later only what is new, by each chat's ids. A page and the position it leads to are one transaction:
kill -9 at any moment loses nothing and repeats nothing.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from telethon import errors, functions, types
from telethon.utils import get_input_peer

from storage import history
from storage.database import Database
from storage.drafts import own_words_stay_own
from storage.forgetting import forgotten
from storage.ingest.sync.objects import Entities, chat_id_of, chat_of, entities_of, message_of, why_not
from storage.ingest.sync.patience import Notice, Patient
from storage.positions import Position, move, positions
from storage.records import Account
from storage.rows import mark_deleted

log = logging.getLogger(__name__)

PAGE = 100  # Telegram gives no more


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a sync stands. `total_messages` grows until every chat has been looked at."""

    chats: int
    total_chats: int
    messages: int
    total_messages: int


@dataclass(slots=True)
class SyncReport:
    """What a sync did. `left_out` counts chats by the reason."""

    chats: int = 0
    new: int = 0
    updated: int = 0
    deleted: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    takeout: bool = False
    waited_seconds: int = 0
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """The report for people."""
        out = [
            f"{self.new:,} new messages, {self.updated:,} updated, {self.deleted:,} marked as deleted",
            f"{self.chats:,} chats in {self.seconds:.0f} s, {self.waited_seconds} s of them waiting on Telegram's word"
            + (", as a takeout" if self.takeout else ""),
        ]
        if self.left_out:
            counts = ", ".join(f"{n:,} {why}" for why, n in self.left_out.most_common())
            out.append(f"chats left out: {counts}. likeme chats --on CHAT takes one in.")
        return out


@dataclass(slots=True)
class _Work:
    """A chat that is being fetched. `top` is its newest message's id; `stored` of its `count` messages are here."""

    chat_id: int
    peer: Any
    top: int
    position: Position | None
    stored: int = 0
    count: int = 0

    @property
    def is_done(self) -> bool:
        return self.position is not None and self.position.is_whole and self.position.newest >= self.top


async def sync(
    database: Database,
    ask: Patient,
    owner: Account,
    *,
    on_progress: Callable[[Progress], None],
    now: Callable[[], datetime],
) -> SyncReport:
    """Fetch every wanted chat to its end. Personal chats, and others that the owner has switched on.

    BadInput when the home holds somebody else's history; Telethon's errors where Telegram refuses for good.
    """
    return await _Sync(database, ask, owner, on_progress, now).run()


class _Forgotten(Exception):
    """The owner forgot the chat while its page was on its way."""


class _Sync:
    def __init__(
        self,
        database: Database,
        ask: Patient,
        owner: Account,
        on_progress: Callable[[Progress], None],
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._ask = ask
        self._owner = owner
        self._on_progress = on_progress
        self._now = now
        self._report = SyncReport()
        self._takeout: int | None = None

    async def run(self) -> SyncReport:
        started = time.monotonic()
        works = await self._works()
        if any(work.position is None or not work.position.is_whole for work in works):
            await self._begin_takeout()
        self._progress(works)
        while left := [work for work in works if not work.is_done]:
            for work in left:
                if not await self._could_read(work):
                    works.remove(work)
                self._progress(works)
        await self._end_takeout()
        self._report.chats = len(works)
        self._report.waited_seconds = self._ask.waited_seconds
        self._report.seconds = time.monotonic() - started
        return self._report

    async def _works(self) -> list[_Work]:
        """The wanted chats, the latest first; all of them are noted, so that they can be switched on."""
        known = {count.chat.chat_id: count for count in await history.chat_counts(self._database)}
        stands, gone = await positions(self._database), await forgotten(self._database)
        works, chats = [], []
        async for dialog, entity in self._dialogs():
            chat = chat_of(entity)
            if chat.chat_id in gone:
                self._report.left_out["forgotten"] += 1
                continue
            chats.append(chat)
            count, stand = known.get(chat.chat_id), stands.get(chat.chat_id)
            if why := why_not(count.chat if count else chat):
                self._report.left_out[why] += 1
            elif dialog.top_message:
                stored = count.messages if count and stand else 0
                works.append(_Work(chat.chat_id, get_input_peer(entity), dialog.top_message, stand, stored))
        async with self._database.transaction():
            await history.put_chats(self._database, chats)
        return works

    async def _dialogs(self) -> Any:
        """(Dialog, its entity), page by page."""
        seen: set[int] = set()
        offset: dict[str, Any] = {"offset_date": None, "offset_id": 0, "offset_peer": types.InputPeerEmpty()}
        while True:
            answer = await self._ask(functions.messages.GetDialogsRequest(**offset, limit=PAGE, hash=0))
            entities = entities_of(answer)
            tops = {
                (chat_id_of(message.peer_id), message.id): message for message in answer.messages if message.peer_id
            }
            fresh = [dialog for dialog in answer.dialogs if chat_id_of(dialog.peer) not in seen]
            for dialog in fresh:
                seen.add(chat_id_of(dialog.peer))
                if (entity := entities.get(chat_id_of(dialog.peer))) is not None and type(entity).__name__ in _READABLE:
                    yield dialog, entity
            dated = [top for dialog in fresh if (top := tops.get((chat_id_of(dialog.peer), dialog.top_message)))]
            if not dated or not isinstance(answer, types.messages.DialogsSlice):
                return
            peer = get_input_peer(entities[chat_id_of(dated[-1].peer_id)])
            offset = {"offset_date": dated[-1].date, "offset_id": dated[-1].id, "offset_peer": peer}

    async def _could_read(self, work: _Work) -> bool:
        """One page of a chat; False where it can't be had any more, which is counted."""
        try:
            await self._page(work)
        except (errors.BadRequestError, errors.ForbiddenError) as refusal:
            log.warning("chat %d: %s", work.chat_id, type(refusal).__name__)
            self._report.left_out["refused by Telegram"] += 1
            return False
        except _Forgotten:
            self._report.left_out["forgotten"] += 1
            return False
        return True

    async def _page(self, work: _Work) -> None:
        """Fetch and store one page: what is new first, then what is older."""
        stand = work.position
        if stand is None:
            answer = await self._history(work)
        elif stand.newest < work.top:
            answer = await self._history(work, offset_id=stand.newest + 1, add_offset=-PAGE, min_id=stand.newest)
        else:
            answer = await self._history(work, offset_id=stand.oldest)
        work.count = getattr(answer, "count", len(answer.messages))
        ids = [message.id for message in answer.messages]
        work.position = _moved(stand, ids, work.top)
        work.stored += len(ids)
        await self._store(work, answer, ids, stand)

    async def _history(self, work: _Work, *, offset_id: int = 0, add_offset: int = 0, min_id: int = 0) -> Any:
        return await self._asked(
            functions.messages.GetHistoryRequest(
                peer=work.peer,
                offset_id=offset_id,
                offset_date=None,
                add_offset=add_offset,
                limit=PAGE,
                max_id=0,
                min_id=min_id,
                hash=0,
            )
        )

    async def _store(self, work: _Work, answer: Any, ids: list[int], before: Position | None) -> None:
        entities: Entities = entities_of(answer)
        found = [message_of(message, self._owner.user_id, entities) for message in answer.messages]
        # The page hangs together with what stood before: what is stored in between and not in it, is deleted.
        seen = [*ids, *((before.newest, before.oldest) if before else ())]
        assert work.position is not None
        async with self._database.transaction():
            if await history.find_chat(self._database, work.chat_id) is None:
                raise _Forgotten
            stored = await history.put_messages(self._database, [message for message in found if message])
            await own_words_stay_own(self._database)
            deleted = await mark_deleted(self._database, work.chat_id, _reach(seen, ids), self._now()) if ids else 0
            await move(self._database, work.chat_id, work.position)
        self._report.new += stored.new
        self._report.updated += stored.updated
        self._report.deleted += deleted

    def _progress(self, works: list[_Work]) -> None:
        done = sum(work.is_done for work in works)
        total = sum(max(work.count, work.stored) for work in works)
        self._on_progress(Progress(done, len(works), sum(work.stored for work in works), total))

    async def _begin_takeout(self) -> None:
        """Telegram's own way to export a whole account: gentler limits. One that was cut off goes on."""
        self._takeout = self._ask.client.session.takeout_id
        if self._takeout is not None:
            return
        try:
            request = functions.account.InitTakeoutSessionRequest(message_users=True, message_chats=True)
            self._takeout = (await self._ask(request)).id
        except errors.TakeoutInitDelayError as delay:
            self._ask.tell(Notice("takeout_delay", delay.seconds))
        except errors.BadRequestError as refusal:
            log.warning("no takeout: %s", type(refusal).__name__)
        self._ask.client.session.takeout_id = self._takeout
        self._ask.client.session.save()

    async def _asked(self, request: Any) -> Any:
        if self._takeout is not None:
            try:
                answer = await self._ask(functions.InvokeWithTakeoutRequest(self._takeout, request))
                self._report.takeout = True
                return answer
            except (errors.TakeoutInvalidError, errors.TakeoutRequiredError):
                self._takeout = self._ask.client.session.takeout_id = None
        return await self._ask(request)

    async def _end_takeout(self) -> None:
        if self._takeout is None:
            return
        try:
            await self._asked(functions.account.FinishTakeoutSessionRequest(success=True))
        except errors.BadRequestError as refusal:
            log.warning("the takeout did not end: %s", type(refusal).__name__)
        self._takeout = self._ask.client.session.takeout_id = None


_READABLE = {"User", "Chat", "Channel"}  # not …Forbidden, …Empty


def _moved(before: Position | None, ids: list[int], top: int) -> Position:
    """The position after a page. A page that is not full is the last one of its direction."""
    is_last = len(ids) < PAGE
    if before is None:
        return Position(max(ids, default=top), min(ids, default=top), is_last)
    if before.newest < top:
        return Position(max([top, *ids]) if is_last else max(ids), before.oldest, before.is_whole)
    return Position(before.newest, min(ids, default=before.oldest), is_last)


def _reach(seen: list[int], ids: list[int]) -> list[int]:
    """The ids of a page and the one stored id that it follows on, if any."""
    below = [number for number in seen if number < min(ids)]
    above = [number for number in seen if number > max(ids)]
    return [*ids, *([max(below)] if below else []), *([min(above)] if above else [])]
