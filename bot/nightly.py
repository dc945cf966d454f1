"""The nights in the bot's life: looking at the clock, /nightly, and the morning's report.

A job of PTB's JobQueue looks every minute; what is due, open or to be told stands in the database alone. A timer set
for the moment itself would be late by as long as the machine slept.
"""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, time, tzinfo
from zoneinfo import ZoneInfo

from telegram import Update
from telegram.error import NetworkError, TelegramError, TimedOut
from tzlocal import get_localzone

from bot import history as clock
from bot import quiet, schedule, sync, versions
from bot.context import Context, Services
from bot.night import Work, alone
from bot.settings import Settings
from bot.texts import duration, loss, moment, say, write_to
from bot.voice import Event
from storage import nights, secretary
from storage.database import Database
from storage.errors import BadInput, LikemeError, ModelError, StorageError
from storage.nights import Night

LOOK_SECONDS = 60.0
USUAL = "03:30"  # what «on» means where NIGHTLY says nothing
_AT, _SINCE = "nightly", "nightly_since"  # preferences

log = logging.getLogger(__name__)


def zone_of(settings: Settings) -> tzinfo:
    """The owner's time zone: TIMEZONE, or the machine's."""
    return ZoneInfo(settings.timezone) if settings.timezone else get_localzone()


async def at(database: Database, settings: Settings) -> time | None:
    """When nights are wanted: what the owner said last in the chat, else NIGHTLY; None: they are off."""
    return schedule.parse(await secretary.preference(database, _AT) or settings.nightly)


async def switch(database: Database, wanted: time | None, now: datetime) -> None:
    """Switch nights on or off; those that would have been before `now` are not made up for."""
    async with database.transaction():
        await secretary.set_preference(database, _AT, f"{wanted:%H:%M}" if wanted else "off")
        await secretary.set_preference(database, _SINCE, now.isoformat())


async def due(database: Database, settings: Settings, now: datetime) -> datetime | None:
    """The moment of the night that is due, if one is."""
    wanted = await at(database, settings)
    if wanted is None:
        return None
    since = await secretary.preference(database, _SINCE)
    if not since:  # the first look ever, switched on by NIGHTLY
        async with database.transaction():
            await secretary.set_preference(database, _SINCE, now.isoformat())
        return None
    after = max(datetime.fromisoformat(since), await nights.last_due(database) or datetime.min.replace(tzinfo=UTC))
    return schedule.due(wanted, zone_of(settings), after, now)


class Nightly:
    """The bot's nights. One is worked on at a time; `work` is there meanwhile."""

    def __init__(self, services: Services, now: Callable[[], datetime] = clock.now) -> None:
        self._services, self._now = services, now
        self.work: Work | None = None

    async def look(self, asked: bool = False) -> bool:
        """Tell what is to be told; take up a night that was left, or begin one that is due (or asked for)."""
        services = self._services
        await self._report()
        if self.work is not None or (services.training is not None and not services.training.done()):
            return False
        night = await nights.unfinished(services.database)
        moment_due = None if night else await due(services.database, services.settings, self._now())
        if night is None and moment_due is None and not asked:
            return False
        held = ExitStack()
        try:
            held.enter_context(alone(services.settings))
        except BadInput:  # the terminal works on one
            return False
        self.work = self._new_work()
        services.training = services.spawn(self._one(night, moment_due, held, self.work), "a night")
        return True

    def _new_work(self) -> Work:
        services = self._services
        return Work(
            services.settings, services.database, services.voice, self._now, self._fetch, self._event, self._tell
        )

    async def _one(self, night: Night | None, moment_due: datetime | None, held: ExitStack, work: Work) -> None:
        services = self._services
        try:
            with held:
                if night is None:
                    async with services.database.transaction():
                        night = await nights.begin(services.database, moment_due, self._now())
                ended = await work.do(night)
                log.info("night %d ended: %s", ended.night_id, ended.outcome)
                await versions.thin(services.database, services.voice)
        except (ModelError, StorageError) as error:
            log.warning("the night waits: %s", error)
        finally:
            self.work, services.training_job = None, None
        await self._report()

    async def cancel(self) -> bool:
        """End the night that is worked on; False: there is none."""
        if self.work is None:
            return False
        self.work.cancelled = True
        if self.work.job_id is not None:
            await self._services.voice.cancel(self.work.job_id)
        return True

    async def _fetch(self) -> None:
        follower = self._services.follower
        if follower.own is not None and not follower.syncing:
            await sync.fetch(self._services.database, follower.own, lambda notice: None, lambda progress: None)

    async def _event(self, event: Event) -> None:
        assert self.work is not None
        self._services.training_job = self.work.job_id

    async def _tell(self, text: str) -> None:
        try:
            await self._services.application.bot.send_message(self._services.settings.owner_id, text)
        except TelegramError as error:
            log.warning("the owner could not be told: %s", type(error).__name__)

    async def _report(self) -> None:
        """What came of each night that was not told, once quiet hours are over. Never twice: noted first, then sent."""
        services = self._services
        local = self._now().astimezone(zone_of(services.settings))
        if quiet.ends(await secretary.preference(services.database, "quiet"), local) is not None:
            return
        for night in await nights.untold(services.database):
            async with services.database.transaction():
                if not await nights.told(services.database, night.night_id, self._now()):
                    continue
            try:
                await services.application.bot.send_message(services.settings.owner_id, report(night))
            except TelegramError as error:
                log.warning("the night's report was not sent: %s", type(error).__name__)
                if _is_not_sent(error):
                    async with services.database.transaction():
                        await nights.not_told(services.database, night.night_id)
                return


def _is_not_sent(error: TelegramError) -> bool:
    """Whether the message surely did not arrive and may yet: an answer that timed out may have been lost on its way."""
    return isinstance(error, NetworkError) and not isinstance(error, TimedOut) and "ConnectError" in str(error)


def report(night: Night) -> str:
    """A night in a few lines."""
    assert night.ended_at is not None
    lines = [say(f"night_{night.outcome}", number=night.number, reason=night.reason)]
    if night.pairs is not None:
        lines.append(say("night_data", messages=night.messages, pairs=night.pairs))
    if night.loss_after is not None:
        begun = say("version_anew" if night.anew else "night_further")
        lines.append(say("night_loss", before=loss(night.loss_before), after=loss(night.loss_after), begun=begun))
    took = duration((night.ended_at - night.started_at).total_seconds())
    lines.append(say("night_took", time=took) if night.dollars is None else
                 say("night_cost", time=took, dollars=night.dollars))  # fmt: skip
    return "\n".join(lines)


async def look(context: Context) -> None:
    """What the JobQueue calls every minute"""
    services = context.services
    assert services.nightly is not None
    write_to(services.owner)
    try:
        await services.nightly.look()
    except LikemeError as error:  # it would be told every minute
        log.warning("no look at the night: %s", error)


async def nightly(update: Update, context: Context) -> None:
    """/nightly, /nightly on|off|now|HH:MM"""
    message, services = update.effective_message, context.services
    assert message is not None and services.nightly is not None
    given = " ".join(context.args or [])
    if given == "now":
        begun = await services.nightly.look(asked=True)
        await message.reply_text(say("nightly_begun") if begun else say("training_running"))
        return
    if given:
        wanted = services.settings.nightly if given == "on" and services.settings.nightly not in schedule.OFF else given
        try:
            await switch(services.database, schedule.parse(USUAL if wanted == "on" else wanted), clock.now())
        except BadInput:
            await message.reply_text(say("nightly_wrong"))
            return
    await message.reply_text(await described(services.database, services.settings, clock.now()))


async def described(database: Database, settings: Settings, now: datetime) -> str:
    """When the next night is, and what came of the last."""
    wanted, zone = await at(database, settings), zone_of(settings)
    lines = [say("nightly_off")]
    if wanted is not None:
        following = schedule.following(wanted, zone, now).astimezone(zone)
        lines = [say("nightly_on", at=f"{wanted:%H:%M}", zone=str(zone), next=moment(following))]
    if await nights.unfinished(database) is not None:
        lines.append(say("nightly_at_work"))
    for night in await nights.latest(database):
        assert night.ended_at is not None
        lines.append(say("nightly_last", date=moment(night.ended_at), report=report(night)))
    return "\n".join(lines)
