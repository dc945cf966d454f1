"""One night's work: fetch, count, train, measure, let speak or not. Each step is noted, so that a night that was
killed anywhere is taken up; the terminal's and the bot's are the same.

    begun → fetched → training → ended
"""

import asyncio
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bot import damage, evaluation, versions
from bot.history import build_dataset, save_dataset
from bot.settings import Settings
from bot.texts import say
from bot.train import Training
from bot.voice import Event, Voice
from storage import forgetting, history, nights, runs
from storage.database import Database
from storage.errors import BadInput, LikemeError, ModelError, TelegramError
from storage.nights import End, Night
from training.dataset import replay
from training.dataset.pairs import Options
from training.dataset.split import Dataset

# By bench/results/nights.txt: docs/nightly.md says what each buys.
RATE = 0.5  # of the recipe's
ANEW_AFTER = timedelta(days=7)  # since the last training from the base model
KEPT_BACK = 2  # nights in a row: the voice has drifted, the next one begins with the base model
PATIENCE = timedelta(hours=24)  # with a model server that is not there
FIRST, WEEKLY, DRIFT, FORGOTTEN = "anew", "anew, weekly", "anew, it drifted", "anew, a chat was forgotten"

log = logging.getLogger(__name__)


class _Ended(Exception):
    """The night has ended before its time, so."""

    def __init__(self, end: End) -> None:
        super().__init__(end.reason)
        self.end = end


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Hold the home's night: BadInput when another process does. It is let go with the process, however that ends."""
    settings.likeme_home.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(settings.likeme_home / "night.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise BadInput("A night is being worked on already: wait until it is over.") from None
    try:
        yield
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class Work:
    """A night's work. `fetch` brings the history up to date; `on_event` gets what the training tells."""

    settings: Settings
    database: Database
    voice: Voice
    now: Callable[[], datetime]
    fetch: Callable[[], Awaitable[object]]
    on_event: Callable[[Event], Awaitable[None]]
    tell: Callable[[str], Awaitable[None]]
    cancelled: bool = False
    job_id: str | None = None

    async def do(self, night: Night) -> Night:
        """Begin the night or take it up, to its end. ModelError: no server is there, it is to be taken up later."""
        try:
            end = await self._steps(night)
        except _Ended as early:
            end = early.end
        except ModelError as error:
            if self.now() - night.started_at < PATIENCE:
                raise
            end = End("failed", str(error))
        except LikemeError as error:
            end = End("failed", str(error))
        except Exception as error:  # taken up again, it would fail again every minute
            log.exception("night %d failed", night.night_id)
            end = End("failed", f"unforeseen {type(error).__name__}, see the log.")
        async with self.database.transaction():
            await nights.end(self.database, night.night_id, end, self.now())
        return await nights.find(self.database, night.night_id)

    async def _steps(self, night: Night) -> End:
        if self.voice.only_model:
            return End("failed", say("night_other_engine"))
        if night.step == "begun":
            await self._fetch()
            async with self.database.transaction():
                await nights.fetched(self.database, night.night_id)
        self._stop_if_cancelled()
        await self.voice.ready()
        training = await self._begun(night) or await self._prepared(night)
        self._stop_if_cancelled()
        try:
            async for event in training.events():
                await self._noted(night, training.job_id)
                await self.on_event(event)
        except ModelError as error:
            if training.status == "failed":
                raise _Ended(End("failed", str(error))) from error
            raise
        return await self._result(training)

    async def _noted(self, night: Night, job_id: str) -> None:
        if self.job_id is None:
            self.job_id = job_id
            async with self.database.transaction():
                await nights.training(self.database, night.night_id, job_id)
            if self.cancelled:  # between the data set and the job
                await self.voice.cancel(job_id)

    async def _fetch(self) -> None:
        try:
            await self.fetch()
        except TelegramError as error:  # what is here is enough for a night
            log.warning("the history could not be fetched tonight: %s", type(error).__name__)

    def _stop_if_cancelled(self) -> None:
        if self.cancelled:
            raise _Ended(End("cancelled"))

    async def _begun(self, night: Night) -> Training | None:
        """The training of a night that was left in it: its job is known, or carries the night's number."""
        job_id = night.job_id
        if job_id is None:
            mine = (job for job in await self.voice.jobs() if (job.metadata or {}).get("night") == str(night.night_id))
            job_id = next((job.id for job in mine), None)
        return Training(self.voice, self.database, None, job_id=job_id) if job_id else None

    async def _prepared(self, night: Night) -> Training:
        """What is to be trained, and from where. `_Ended` when it is not worth a night."""
        serving = await damage.sound(self.database, self.voice, self.tell)
        anew = await self._anew(serving)
        dataset = await build_dataset(self.database, Options(), None if anew else replay.SHARE)
        until = serving.data_until if serving and serving.data_until else datetime.fromtimestamp(0, UTC)
        messages, pairs = await history.count_since(self.database, until), int(dataset.manifest["new"])
        async with self.database.transaction():
            await nights.counted(self.database, night.night_id, bool(anew), messages, pairs)
        if pairs < self.settings.nightly_pairs and anew != FORGOTTEN:
            raise _Ended(End("few"))
        log.info("night %d trains %s on %d new pairs", night.night_id, anew or "further", pairs)
        return await self._training(night, dataset, None if anew else serving)

    async def _training(self, night: Night, dataset: Dataset, start: runs.Version | None) -> Training:
        folder = self.settings.likeme_home / "datasets" / dataset.manifest["sha256"][:16]
        await asyncio.to_thread(save_dataset, dataset, folder)
        return Training(
            self.voice,
            self.database,
            dataset,
            start=start,
            rate=RATE if start else None,
            notes={"night": str(night.night_id)},
        )

    async def _anew(self, serving: runs.Version | None) -> str | None:
        """Why the night begins with the base model; None: it goes on from the voice that speaks."""
        if serving is None:
            if await versions.is_stock_by_hand(self.database):
                raise _Ended(End("few"))
            return FIRST
        if serving.number in await forgetting.marked(self.database):
            return FORGOTTEN
        if serving.data_until is None or serving.base_model != await self.voice.base_model():
            return FIRST
        known = await runs.versions(self.database)
        last = [version for version in known if version.started_from is None]
        if not last or self.now() - last[-1].created_at >= ANEW_AFTER:
            return WEEKLY
        evaluated = {version.number for version in known if version.evaluation is not None}
        measured = [night for night in await nights.latest(self.database, 50) if night.number in evaluated]
        kept = [night.outcome == "kept" and not night.anew for night in measured[:KEPT_BACK]]
        return DRIFT if kept == [True] * KEPT_BACK else None

    async def _result(self, training: Training) -> End:
        version = training.version
        if version is None:
            return End("cancelled")
        if version.evaluation is not None:
            await asyncio.to_thread(evaluation.save, self.settings.likeme_home, version.number, version.evaluation)
        promoted, reason = evaluation.verdict(version)
        losses = (version.evaluation or {}).get("voice") or {}
        before = losses.get("serving") or losses.get("stock") or version.metrics.get("stock_valid_loss")
        return End(
            "promoted" if promoted else "kept",
            reason,
            version.number,
            before,
            losses.get("tuned", version.metrics.get("valid_loss")),
            version.metrics.get("dollars"),
        )
