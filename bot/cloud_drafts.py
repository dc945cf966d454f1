"""Cloud drafts: the best draft lies in the chat's own input line, on all the owner's devices. Nothing is sent.

What the owner has typed is never touched. When he answers, our words are cleared where they still stand; whether
he sent them as they were, changed them or wrote his own is kept.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from rapidfuzz import fuzz

from bot.account import OwnAccount
from bot.context import Services
from bot.drafting import RECENT
from bot.history import now
from storage import drafts, history, secretary
from storage.records import ChatKind, Message
from storage.secretary import Waiting
from training.dataset.pairs import Options, context_of

OLD = timedelta(hours=1)  # what was written before, and is only heard of now, is not answered
AGAIN_SECONDS = 30.0  # while the account is not connected
EDITED = 50  # of 100: words of his that are more like ours than this are ours, edited

log = logging.getLogger(__name__)


async def heard(services: Services, own: OwnAccount, messages: Sequence[Message]) -> None:
    """New messages of the owner's account, just stored."""
    for message in messages:
        chat = await history.find_chat(services.database, message.chat_id)
        if chat is None or chat.kind is not ChatKind.PERSONAL or now() - message.date > OLD or message.edited_at:
            continue
        if message.is_own:
            await _answered(services, own, message)
        elif await secretary.mode(services.database, message.chat_id) == "cloud":
            clock = time.time()
            job = Waiting(message.chat_id, "cloud", None, message.message_id, since=clock, due=clock)
            async with services.database.transaction():
                await services.waiting.add(job)
            services.waiting.wake()


async def serve(services: Services, job: Waiting) -> None:
    """Draft for a chat that waits, and put the best draft into its input line unless the owner is typing there."""
    database, own = services.database, services.follower.own
    if own is None:
        async with database.transaction():
            if await secretary.served(database, job):
                await secretary.wait(database, replace(job, due=time.time() + AGAIN_SECONDS))
        return
    context = context_of(await history.newest(database, job.chat_id, RECENT), Options())
    drafted = await services.drafting.drafts(context, job.chat_id) if context else None
    before = await secretary.cloud_draft(database, job.chat_id)
    async with database.transaction():
        if not await secretary.served(database, job) or drafted is None or not drafted.replies:
            return
        said = [(turn.role, turn.text) for turn in drafted.context]
        draft_id = await drafts.add(
            database, chat_id=job.chat_id, context=said, model=drafted.model, replies=drafted.replies, now=now(),
            way="cloud",
        )  # fmt: skip
        await secretary.put_cloud_draft(database, job.chat_id, draft_id, drafted.replies[0])
        if before is not None:
            await drafts.settle(database, before[0], "replaced", now())
    if not await own.put_draft(job.chat_id, drafted.replies[0], replaces=before[1] if before else ""):
        log.info("chat %s: the owner is typing there", job.chat_id)
        async with database.transaction():
            await secretary.drop_cloud_draft(database, job.chat_id)
            await drafts.settle(database, draft_id, "skipped", now())


async def _answered(services: Services, own: OwnAccount, message: Message) -> None:
    """The owner has written: nobody waits, and our draft has served or failed."""
    database = services.database
    standing = await secretary.cloud_draft(database, message.chat_id)
    async with database.transaction():
        await secretary.no_longer(database, message.chat_id)
        if standing is None:
            return
        await secretary.drop_cloud_draft(database, message.chat_id)
        await _judge(services, standing, message)
    await own.put_draft(message.chat_id, "", replaces=standing[1])


async def _judge(services: Services, standing: tuple[int, str], message: Message) -> None:
    """What he made of our words; inside a transaction."""
    (draft_id, words), database = standing, services.database
    if message.text.strip() == words.strip():
        await drafts.claim(database, draft_id, 0, None, now())
        await drafts.note_sent(database, draft_id, 0, message.chat_id, message.message_id, own_words=False)
        await drafts.settle(database, draft_id, "sent", now())
    elif fuzz.ratio(message.text, words) > EDITED:
        await drafts.settle(database, draft_id, "edited", now(), edited=message.text)
    else:
        await drafts.settle(database, draft_id, "answered", now(), edited=message.text)
