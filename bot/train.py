"""Training from the bot's side: data set up, job watched, version noted."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from openai.types.fine_tuning import FineTuningJob
from telegram import InlineKeyboardButton, InlineKeyboardMarkup, Message, Update
from telegram.error import BadRequest, TelegramError

from bot import charts, evaluation
from bot.context import Context, Services
from bot.history import build_dataset, now, quick_part, save_dataset
from bot.texts import bar, duration, left, loss, named, say
from bot.voice import Event, Voice
from storage import runs
from storage.database import Database
from storage.errors import LikemeError, ModelError
from storage.forgetting import note_training
from training.dataset.pairs import Options
from training.dataset.split import Dataset

EDIT_SECONDS = 3.0  # Telegram allows about one message a second in a chat; edits count


@dataclass(slots=True)
class Training:
    """A job from upload to version. Iterate `events()` to its end, then `version` is there, or None."""

    voice: Voice
    database: Database
    dataset: Dataset
    recipe: str | None = None
    evaluation: str = "full"
    job_id: str = ""
    seen: list[Event] = field(default_factory=list)
    version: runs.Version | None = None
    status: str = ""

    async def events(self) -> AsyncIterator[Event]:
        """Start the job, yield the data of its metrics, note the version. ModelError when it fails."""
        train = await self.voice.upload(self.dataset.train_jsonl(), "train.jsonl")
        held_out = self.dataset.validation_jsonl()
        validation = await self.voice.upload(held_out, "validation.jsonl") if held_out else None
        serving = await runs.serving(self.database)
        job = await self.voice.start_training(
            training_file=train,
            validation_file=validation,
            recipe=self.recipe,
            data_sha256=self.dataset.manifest["sha256"],
            serving=serving.name if serving else None,
            evaluation=self.evaluation,
        )
        self.job_id = job.id
        async with self.database.transaction():
            used = (example.chat_id for example in (*self.dataset.train, *self.dataset.validation))
            await note_training(self.database, self.dataset.manifest["sha256"], used)
        yield {"job": job.id}  # from here on it can be cancelled
        async for event in self.voice.events(job.id):
            if event.get("data"):
                self.seen.append(event["data"])
                yield event["data"]
        job = await self.voice.job(job.id)
        self.status = job.status
        if job.status == "failed":
            raise ModelError(job.error.message if job.error else say("training_no_reason"))
        if job.status == "succeeded":
            self.version = await note_version(self.database, self.voice, job, self.seen)


async def note_version(database: Database, voice: Voice, job: FineTuningJob, events: list[Event]) -> runs.Version:
    """Note a finished job's voice with its evaluation; it speaks at once if the gate lets it."""
    assert job.fine_tuned_model is not None
    metrics: dict[str, Any] = {"tokens": job.trained_tokens}
    for event in events:
        metrics |= {name: event[name] for name in ("stock_valid_loss", "valid_loss", "train_loss") if name in event}
    metrics["seconds"] = (job.finished_at or job.created_at) - job.created_at
    found = await evaluation.of_job(database, voice, job)
    version = runs.Version(
        number=int(job.fine_tuned_model.rpartition("-")[2]),
        name=job.fine_tuned_model,
        job_id=job.id,
        created_at=datetime.fromtimestamp(job.finished_at or job.created_at, UTC),
        base_model=job.model,
        data_sha256=(job.metadata or {}).get("data_sha256", ""),
        metrics=metrics,
        evaluation=found,
    )
    promote, reason = evaluation.verdict(version)
    async with database.transaction():
        await runs.add_version(database, version)
        if found is not None:
            await runs.set_evaluation(database, version.number, evaluation.numbers(found))
        if promote:
            await runs.serve(database, version.number, "gate", reason, now())
    return version


async def catch_up(database: Database, voice: Voice) -> None:
    """Note the versions of jobs that ended while nobody watched."""
    known = {version.job_id for version in await runs.versions(database)}
    for job in reversed(await voice.jobs()):
        if job.status == "succeeded" and job.id not in known:
            events = [event["data"] async for event in voice.events(job.id) if event.get("data")]
            await note_version(database, voice, job, events)


async def train(update: Update, context: Context) -> None:
    """/train"""
    services = context.services
    message = update.effective_message
    assert message is not None
    if services.training is not None and not services.training.done():
        await message.reply_text(say("training_running"))
        return
    shown = await message.reply_text(say("training_starting", data=say("training_reading")))
    services.training = services.spawn(_train(services, shown), "training")


async def cancel(update: Update, context: Context) -> None:
    """/cancel and the cancel button"""
    services = context.services
    if update.callback_query is not None:
        await update.callback_query.answer()
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
    except LikemeError as error:
        await progress.show(say("training_failed", reason=str(error)), final=True)
    finally:
        services.training_job = None


async def _finish(training: Training, shown: Message, progress: "_Progress") -> None:
    version = training.version
    if version is None:
        await progress.show(say("training_cancelled"), final=True)
        return
    promoted, reason = evaluation.verdict(version)
    text = say(
        "training_done",
        number=version.number,
        duration=duration(version.metrics["seconds"]),
        loss=loss(version.metrics.get("valid_loss")),
        stock=loss(version.metrics.get("stock_valid_loss")),
        verdict=say("training_serves" if promoted else "training_waits", number=version.number, reason=reason),
    )
    await progress.show(f"{bar(1)} 100 %", final=True)
    picture = await asyncio.to_thread(charts.loss_curve, training.seen)
    await shown.get_bot().send_photo(shown.chat_id, picture, caption=text)


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
