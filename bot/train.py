"""Training from the bot's side: data set up, job watched, version noted."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from openai.types.fine_tuning import FineTuningJob
from telegram import InlineKeyboardButton, InlineKeyboardMarkup, Message, Update
from telegram.error import BadRequest, TelegramError

from bot import charts, evaluation, versions
from bot.context import Context, Services
from bot.history import build_dataset, now, quick_part, save_dataset
from bot.texts import bar, duration, left, loss, named, say
from bot.voice import Event, Voice
from storage import nights, runs
from storage.database import Database
from storage.errors import Damaged, LikemeError, ModelAway, ModelError
from storage.forgetting import chats_of, marked, note_files, note_training
from training.dataset.pairs import Options
from training.dataset.split import Dataset

CATCH_UP_SECONDS = 30.0
UNDER_WAY = ("validating_files", "queued", "running")
AGAIN_SECONDS, AWAY_SECONDS = 2.0, 7200.0  # how often a model server that is away is asked for, and how long
_KEPT = ("stock_valid_loss", "valid_loss", "train_loss", "dollars", "not_evaluated")  # of a job's events
EDIT_SECONDS = 3.0  # Telegram allows about one message a second in a chat; edits count

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Training:
    """A job from upload to version. Iterate `events()` to its end, then `version` is there, or None.

    It begins with the base model, or goes on from `start`, at `rate` times the recipe's learning rate. With a
    `job_id`, that job is watched, and no other begun. `notes` go with the job.
    """

    voice: Voice
    database: Database
    dataset: Dataset | None
    recipe: str | None = None
    evaluation: str = "full"
    start: runs.Version | None = None
    rate: float | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    job_id: str = ""
    seen: list[Event] = field(default_factory=list)
    version: runs.Version | None = None
    status: str = ""

    async def events(self) -> AsyncIterator[Event]:
        """Start the job, yield the data of its metrics, note the version. ModelError when it fails."""
        if not self.job_id:
            self.job_id = await self._running() or await self._begin()
        yield {"job": self.job_id}  # from here on it can be cancelled
        async for event in followed(self.voice, self.job_id):
            if event.get("data"):
                self.seen.append(event["data"])
                yield event["data"]
        job = await self.voice.job(self.job_id)
        self.status = job.status
        if job.status == "failed":
            raise ModelError(job.error.message if job.error else say("training_no_reason"))
        if job.status == "succeeded":
            self.version = await note_version(self.database, self.voice, job, self.seen)

    async def _running(self) -> str | None:
        """A job of these very data that is under way: the bot was killed after it began, and asked again."""
        assert self.dataset is not None
        sha256 = self.dataset.manifest["sha256"]
        for job in await self.voice.jobs():
            asked = job.metadata or {}
            if job.status in UNDER_WAY and (asked.get("data_sha256"), asked.get("recipe")) == (sha256, self.recipe):
                return job.id
        return None

    async def _begin(self) -> str:
        """Upload, note whose words are used and which are held out, queue the job; its id."""
        assert self.dataset is not None
        data, manifest = self.dataset, self.dataset.manifest
        train = await self.voice.upload(data.train_jsonl(), "train.jsonl")
        held_out = data.validation_jsonl()
        validation = await self.voice.upload(held_out, "validation.jsonl") if held_out else None
        async with self.database.transaction():
            used = {example.chat_id for example in (*data.train, *data.validation)}
            if self.start is not None:
                used |= await chats_of(self.database, self.start.data_sha256)
            await note_training(self.database, manifest["sha256"], used)
            files = [train, *([validation] if validation else [])]
            await note_files(self.database, manifest["sha256"], self.voice.place, files)
            await nights.hold_out(self.database, ((e.chat_id, e.message_id) for e in data.validation))
        job = await self.voice.start_training(
            training_file=train,
            validation_file=validation,
            recipe=self.recipe,
            data_sha256=manifest["sha256"],
            serving=await self._opponent(),
            evaluation=self.evaluation,
            start=self.start.name if self.start else None,
            rate=self.rate,
            notes={"data_until": manifest["until"], **self.notes},
        )
        return job.id

    async def _opponent(self) -> str | None:
        """The voice to be held against: not one that knows what was forgotten, its training sets are gone."""
        serving = await runs.serving(self.database)
        if serving is None or serving.number in await marked(self.database):
            return None
        return serving.name


async def followed(voice: Voice, job_id: str) -> AsyncIterator[Event]:
    """A job's events to its end. A model server that dies takes the job up when it is back: that is waited for."""
    last, heard = None, time.monotonic()
    while True:
        try:
            async for event in voice.events(job_id, last):
                last, heard = event["id"], time.monotonic()
                yield event
            if (await voice.job(job_id)).status not in UNDER_WAY:
                return
        except ModelAway:
            if time.monotonic() - heard > AWAY_SECONDS:
                raise
        await asyncio.sleep(AGAIN_SECONDS)


async def note_version(database: Database, voice: Voice, job: FineTuningJob, events: list[Event]) -> runs.Version:
    """Note a finished job's voice with its evaluation; it speaks at once if the gate lets it. Twice is once."""
    assert job.fine_tuned_model is not None
    metrics: dict[str, Any] = {"tokens": job.trained_tokens}
    for event in events:
        metrics |= {name: event[name] for name in _KEPT if name in event}
    metrics["seconds"] = (job.finished_at or job.created_at) - job.created_at
    described = await voice.described(job.fine_tuned_model)
    metrics |= {name: described[name] for name in ("examples", "bytes") if described.get(name) is not None}
    found = await evaluation.of_job(database, voice, job)
    notes = job.metadata or {}
    start = next((known for known in await runs.versions(database) if known.name == job.model), None)
    version = runs.Version(
        number=int(job.fine_tuned_model.rpartition("-")[2]),
        name=job.fine_tuned_model,
        job_id=job.id,
        created_at=datetime.fromtimestamp(job.finished_at or job.created_at, UTC),
        base_model=described.get("base_model") or job.model,
        data_sha256=notes.get("data_sha256", ""),
        metrics=metrics,
        evaluation=found,
        started_from=start.number if start else None,
        data_until=datetime.fromisoformat(notes["data_until"]) if "data_until" in notes else None,
    )
    promote, reason = evaluation.verdict(version)
    async with database.transaction():
        await note_files(database, version.data_sha256, voice.place, job.result_files)
        if await runs.add_version(database, version):
            if found is not None:
                await runs.set_evaluation(database, version.number, evaluation.numbers(found))
            if promote:
                await runs.serve(database, version.number, "gate", reason, now())
    return version


async def catch_up(database: Database, voice: Voice) -> None:
    """Note the versions of jobs that ended while nobody watched."""
    await _catch_up(database, voice, [job for job in await voice.jobs() if job.status == "succeeded"])


async def follow_up(database: Database, voice: Voice, tell: Callable[[runs.Version], Awaitable[None]]) -> None:
    """The same, and wait for those that are under way: the bot that began them was stopped."""
    while True:
        try:
            await catch_up(database, voice)
            for job in [job for job in await voice.jobs() if job.status in UNDER_WAY and not _is_of_a_night(job)]:
                async for _ in followed(voice, job.id):
                    pass
                for version in await _catch_up(database, voice, [await voice.job(job.id)]):
                    await tell(version)
            return
        except ModelError as error:
            log.warning("not caught up: %s", error)
        await asyncio.sleep(CATCH_UP_SECONDS)


def _is_of_a_night(job: FineTuningJob) -> bool:
    return "night" in (job.metadata or {})  # nightly.py takes its own up


async def _catch_up(database: Database, voice: Voice, jobs: Sequence[FineTuningJob]) -> list[runs.Version]:
    """Note what is not known yet, oldest first."""
    known = {version.job_id for version in await runs.versions(database)}
    noted = []
    for job in reversed(jobs):
        if job.status == "succeeded" and job.id not in known:
            events = [event["data"] async for event in voice.events(job.id) if event.get("data")]
            with suppress(Damaged):  # nothing that could speak
                noted.append(await note_version(database, voice, job, events))
    return noted


async def train(update: Update, context: Context) -> None:
    """/train"""
    services = context.services
    message = update.effective_message
    assert message is not None
    if services.training is not None and not services.training.done():
        at_night = services.nightly is not None and services.nightly.work is not None
        await message.reply_text(say("nightly_at_work") if at_night else say("training_running"))
        return
    shown = await message.reply_text(say("training_starting", data=say("training_reading")))
    services.training = services.spawn(_train(services, shown), "training")


async def cancel(update: Update, context: Context) -> None:
    """/cancel and the cancel button"""
    services = context.services
    if update.callback_query is not None:
        await update.callback_query.answer()
    if services.nightly is not None and await services.nightly.cancel():
        if update.effective_message is not None:
            await update.effective_message.reply_text(say("nightly_cancelled"))
        return
    if services.training_job is None:
        if update.callback_query is None and update.effective_message is not None:
            await update.effective_message.reply_text(say("training_none"))
        return
    await services.voice.cancel(services.training_job)


async def _train(services: Services, shown: Message) -> None:
    """Train and keep the message that shows it up to date."""
    progress = _Progress(shown)
    try:
        quick = services.settings.quick_training
        dataset = await build_dataset(services.database, Options())
        dataset = quick_part(dataset) if quick else dataset
        sha = dataset.manifest["sha256"]
        await asyncio.to_thread(save_dataset, dataset, services.settings.likeme_home / "datasets" / sha[:16])
        data = say("training_data", train=len(dataset.train), validation=len(dataset.validation))
        await progress.show(say("training_starting", data=data))
        training = Training(services.voice, services.database, dataset, evaluation="short" if quick else "full")
        async for event in training.events():
            services.training_job = training.job_id
            await progress.event(event)
        version = training.version
        if version is not None and version.evaluation is not None:
            home = services.settings.likeme_home
            await asyncio.to_thread(evaluation.save, home, version.number, version.evaluation)
        await _finish(training, shown, progress)
        await versions.thin(services.database, services.voice)
    except LikemeError as error:
        await progress.show(say("training_failed", reason=str(error)), final=True)
    finally:
        services.training_job = None


async def _finish(training: Training, shown: Message, progress: "_Progress") -> None:
    version = training.version
    if version is None:
        await progress.show(say("training_cancelled"), final=True)
        return
    text = done_text(version)
    await progress.show(f"{bar(1)} 100 %", final=True)
    picture = await asyncio.to_thread(charts.loss_curve, training.seen)
    await shown.get_bot().send_photo(shown.chat_id, picture, caption=text)


def done_text(version: runs.Version) -> str:
    """What a training has brought."""
    promoted, reason = evaluation.verdict(version)
    number = version.number
    if promoted:
        verdict = say("training_serves", reason=reason)
    elif version.evaluation is not None:
        verdict = say("training_waits", number=number, reason=reason)
    else:
        verdict = say("training_unmeasured", number=number, reason=reason)
    return say(
        "training_done",
        number=number,
        duration=duration(version.metrics["seconds"]),
        loss=loss(version.metrics.get("valid_loss")),
        stock=loss(version.metrics.get("stock_valid_loss")),
        verdict=verdict,
    )


class _Progress:
    """One message, edited at a rate that Telegram allows."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self._text = ""
        self._edited_at = 0.0
        self._evaluating_since = 0.0

    async def event(self, event: Event) -> None:
        if "evaluating" in event:
            await self._evaluating(event)
        elif "train_loss" in event:
            await self._training(event)

    async def _evaluating(self, event: Event) -> None:
        self._evaluating_since = self._evaluating_since or time.monotonic()
        if time.monotonic() - self._edited_at < EDIT_SECONDS:
            return
        share = event["share"]
        eta = left(time.monotonic() - self._evaluating_since, share)
        await self.show(
            say("evaluating", bar=bar(share), percent=100 * share, part=named("part", event["evaluating"]), eta=eta)
        )

    async def _training(self, event: Event) -> None:
        if time.monotonic() - self._edited_at < EDIT_SECONDS:
            return
        share = event["step"] / event["total_steps"]
        await self.show(
            say(
                "training_progress",
                bar=bar(share),
                percent=100 * share,
                step=event["step"],
                total=event["total_steps"],
                loss=event["smooth_loss"],
                speed=event["tokens_per_second"],
                eta=duration(event["eta_seconds"]),
            )
        )

    async def show(self, text: str, *, final: bool = False) -> None:
        if text == self._text:
            return
        button = InlineKeyboardButton(say("button_cancel"), callback_data="train:cancel")
        try:
            await self._message.edit_text(text, reply_markup=None if final else InlineKeyboardMarkup([[button]]))
        except BadRequest:
            pass  # the owner has deleted it: the training goes on
        except TelegramError:
            if final:
                raise
        self._text = text
        self._edited_at = time.monotonic()
