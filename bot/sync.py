"""The owner's account in likeme's life: likeme login, logout and sync, /sync, and events while the bot is up."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from telegram import Message, Update
from telegram.error import BadRequest, TelegramError
from telethon import events as telethon_events

from bot import account
from bot.account import OwnAccount, telegram_errors
from bot.context import Context, Services
from bot.history import now
from bot.settings import Settings
from bot.texts import bar, duration, named, say
from storage import history
from storage.database import Database
from storage.errors import LikemeError, NotSignedIn
from storage.ingest.sync.events import Events
from storage.ingest.sync.pages import Progress, SyncReport, sync
from storage.ingest.sync.patience import Notice, Patient
from storage.records import Account
from storage.records import Message as StoredMessage

log = logging.getLogger(__name__)

EDIT_SECONDS = 3.0
LOOK_SECONDS = 5.0  # how often a running bot looks for a new sign-in, and waits after a lost connection
QUIET_SECONDS = 60.0  # how often events are asked for: a lost connection may have swallowed some


async def fetch(
    database: Database, own: OwnAccount, tell: Callable[[Notice], None], on_progress: Callable[[Progress], None]
) -> SyncReport:
    """Bring the history up to date: what happened since, then what is missing."""
    with telegram_errors():
        ask, owner = Patient(own.client, tell), await own.me()
        taken = await Events(database, ask, owner, now).catch_up()
        report = await sync(database, ask, owner, on_progress=on_progress, now=now)
    report.new += taken.new
    report.updated += taken.updated
    report.deleted += taken.deleted
    return report


def notice_line(notice: Notice) -> str:
    """A notice in words."""
    return say(f"sync_{notice.kind}", wait=duration(notice.seconds))


def report_text(report: SyncReport) -> str:
    """What a sync brought, in words."""
    lines = [
        say("sync_brought", new=report.new, updated=report.updated, deleted=report.deleted),
        say("sync_took", chats=report.chats, time=duration(report.seconds), waited=duration(report.waited_seconds))
        + (say("sync_takeout") if report.takeout else ""),
    ]
    if report.left_out:
        counts = ", ".join(f"{n:,} {named('sync_left', why)}" for why, n in report.left_out.most_common())
        lines.append(say("sync_left_out", counts=counts))
    return "\n".join(lines)


async def accept(settings: Settings, owner: Account) -> None:
    """Refuse an account that is not this home's."""
    async with Database.open(settings.likeme_home / "history.db") as database, database.transaction():
        await history.set_account(database, owner)


@dataclass(slots=True)
class Follower:
    """The account inside a running bot. `own` is there while it is connected."""

    settings: Settings
    database: Database
    tell: Callable[[str], Awaitable[None]]
    heard: Callable[[OwnAccount, Sequence[StoredMessage]], Awaitable[None]]
    own: OwnAccount | None = None
    syncing: bool = False
    _told: str = field(default="", repr=False)

    async def run(self) -> None:
        """Take events in until cancelled; a sign-in while the bot runs is noticed."""
        if not self.settings.api_id:
            return
        while True:
            if (self.settings.likeme_home / account.SESSION).exists():
                await self._while_signed_in()
            await asyncio.sleep(LOOK_SECONDS)

    async def _while_signed_in(self) -> None:
        try:
            async with account.opened(self.settings, live=True) as own:
                self.own, self._told = own, ""
                await self._follow(own)
        except NotSignedIn as error:
            (self.settings.likeme_home / account.SESSION).unlink(missing_ok=True)
            await self.tell(str(error))
        except LikemeError as error:
            log.warning("the account is not followed: %s", type(error).__name__)
            if str(error) != self._told:
                self._told = str(error)
                log.warning("%s", error)
        finally:
            self.own = None

    async def _follow(self, own: OwnAccount) -> None:
        with telegram_errors():
            owner = await own.me()
            events = Events(self.database, Patient(own.client), owner, now, lambda new: self.heard(own, new))
            own.client.add_event_handler(events.take, telethon_events.Raw())
            if (await events.catch_up()).is_too_long:
                await fetch(self.database, own, lambda notice: None, lambda progress: None)
            log.info("the account is followed")
            while own.client.is_connected():
                await asyncio.wait([own.client.disconnected], timeout=QUIET_SECONDS)
                if own.client.is_connected():
                    await events.catch_up()


async def fetch_now(update: Update, context: Context) -> None:
    """/sync"""
    message = update.effective_message
    assert message is not None
    follower = context.services.follower
    if follower.own is None:
        await message.reply_text(say("sync_signed_out"))
    elif follower.syncing:
        await message.reply_text(say("sync_running"))
    else:
        follower.syncing = True
        shown = await message.reply_text(say("sync_starting"))
        context.services.spawn(_fetch_now(context.services, follower.own, shown), "sync")


async def _fetch_now(services: Services, own: OwnAccount, message: Message) -> None:
    shown = _Shown(message)
    try:
        report = await fetch(services.database, own, shown.notice, shown.progress)
        await shown.end(report_text(report))
    except LikemeError as error:
        await shown.end(say("sync_failed", reason=str(error)))
    finally:
        services.follower.syncing = False


class _Shown:
    """One message that shows a sync, edited at a rate that Telegram allows."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self._started = self._edited = time.monotonic()
        self._text = ""
        self._notice = ""
        self._editing: asyncio.Task[None] | None = None

    def notice(self, notice: Notice) -> None:
        self._notice = "\n" + notice_line(notice)
        self._show()

    def progress(self, at: Progress) -> None:
        share = at.messages / max(1, at.total_messages)
        spent = time.monotonic() - self._started
        self._text = say(
            "sync_progress",
            bar=bar(share),
            chats=at.chats,
            total_chats=at.total_chats,
            messages=at.messages,
            eta=duration(spent / share - spent) if share else "?",
        )
        if time.monotonic() - self._edited > EDIT_SECONDS:
            self._notice = ""
            self._show()

    def _show(self) -> None:
        self._edited = time.monotonic()
        if self._editing is None or self._editing.done():
            self._editing = asyncio.create_task(self._edit(self._text + self._notice))

    async def end(self, text: str) -> None:
        if self._editing is not None:
            await self._editing
        await self._edit(text)

    async def _edit(self, text: str) -> None:
        try:
            await self._message.edit_text(text)
        except BadRequest:
            pass  # the owner has deleted it, or it says so already
        except TelegramError as error:
            log.warning("the sync could not be shown: %s", type(error).__name__)
