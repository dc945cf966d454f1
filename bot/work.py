"""What the commands do: open the home, do the one thing, close it."""

import asyncio
import json
import re
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.prompt import Confirm

from bot import backup, chats, evaluation, leftovers, printing, restore, versions
from bot.drafting import Drafting, context_in
from bot.history import build_dataset, now, quick_part, save_dataset
from bot.model_process import model_server
from bot.settings import Settings
from bot.texts import left, say
from bot.train import Training, catch_up
from bot.voice import Event, Voice
from storage import forgetting, history, runs
from storage.database import Database
from storage.errors import BadInput, ModelError
from storage.forgetting import Forgotten
from storage.ingest.export import ImportReport, import_export
from training.dataset.pairs import Options
from training.dataset.split import Dataset


def database(settings: Settings) -> AbstractAsyncContextManager[Database]:
    """The home's database, as a context."""
    return Database.open(settings.likeme_home / "history.db")


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[Database, Voice]]:
    """The database and a model server that is ready."""
    async with database(settings) as db, model_server(settings) as voice:
        with printing.waiting("loading the base model"):
            await voice.ready()
        cleared = await leftovers.clear(db, voice)
        if cleared.said:
            await printing.tell(cleared.said)
        yield db, voice


async def import_history(settings: Settings, path: Path, me: int | None) -> ImportReport:
    """`likeme import`"""
    with printing.progress() as bar:
        task = bar.add_task(f"reading {path.name}", total=None)

        def on_progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        async with database(settings) as db:
            return await import_export(db, path, me=me, on_progress=on_progress, now=now())


async def list_chats(settings: Settings, on: str | None, off: str | None) -> chats.Listed:
    """`likeme chats`"""
    async with database(settings) as db:
        for wanted, switched_on in ((on, True), (off, False)):
            if wanted is not None:
                await chats.switch(db, await chats.find(db, wanted), switched_on)
        return await chats.listed(db)


async def forget_chat(settings: Settings, wanted: str, yes: bool, undo: bool) -> tuple[str, Forgotten | None]:
    """`likeme forget`: a line about it and, unless undone, what went."""
    async with database(settings) as db:
        if undo:
            if not wanted.lstrip("-").isdigit() or not await chats.allow_again(db, int(wanted)):
                raise BadInput(f"{wanted} is not among the forgotten: likeme chats lists their ids.")
            return say("forget_undone"), None
        chat = await chats.find(db, wanted)
        count = next(c for c in await history.chat_counts(db) if c.chat.chat_id == chat.chat_id)
        if not yes:
            printing.err.print(say("forget_sure", name=chat.name, messages=count.messages), markup=False)
            if not Confirm.ask("Sure?", console=printing.err, default=False):
                raise BadInput("Nothing was changed.")
        gone = await chats.forget(settings, db, chat.chat_id)
        cleared = await _cleared(settings, db)
        said = chats.forgotten_text(gone).replace("/train", "likeme train")
        return "\n".join(line for line in (said, cleared.said) if line), gone


async def _cleared(settings: Settings, database: Database) -> leftovers.Cleared:
    """What became of a forgotten chat's files on a model server elsewhere; none is started for that."""
    if not settings.model_url:
        return await leftovers.clear(database, None)
    async with model_server(settings) as voice:
        with printing.waiting("deleting on the model server"):
            return await leftovers.clear(database, voice)


async def dataset_of(settings: Settings) -> Dataset:
    """`likeme dataset`"""
    async with database(settings) as db:
        with printing.waiting("building the training set"):
            return await build_dataset(db, Options())


async def train_voice(settings: Settings, recipe: str | None) -> dict[str, Any]:
    """`likeme train`"""
    built, quick = await dataset_of(settings), settings.quick_training
    built = quick_part(built) if quick else built
    save_dataset(built, settings.likeme_home / "datasets" / built.manifest["sha256"][:16])
    async with opened(settings) as (db, voice):
        training = Training(voice, db, built, recipe, evaluation="short" if quick else "full")
        await watch(training.events())
        version = training.version
        if version is None:
            raise ModelError("The training was cancelled; nothing has changed.")
        promoted, reason = evaluation.verdict(version)
        if version.evaluation is not None:
            evaluation.save(settings.likeme_home, version.number, version.evaluation)
        return {**printing.plain(version), "serves": promoted, "reason": reason}


async def watch(events: AsyncIterable[Event]) -> None:
    """Show a training while it runs: loss, tokens/s, ETA."""
    columns = printing.training_columns()
    with printing.progress(*columns) as bar:
        task = bar.add_task("measuring stock", total=None, loss="", speed="", left="")
        since = 0.0
        async for event in events:
            if "train_loss" in event:
                bar.update(
                    task,
                    description="training",
                    completed=event["step"],
                    total=event["total_steps"],
                    loss=f"loss {event['smooth_loss']:.3f}",
                    speed=f"{event['tokens_per_second']:,.0f} tokens/s",
                    left=f"{event['eta_seconds']:,.0f} s left",
                )
            elif "valid_loss" in event:
                bar.console.print(f"  held-out loss {event['valid_loss']:.3f} after step {event['step']}")
            elif "evaluating" in event:
                since = since or time.monotonic()
                eta = left(time.monotonic() - since, event["share"])
                what = {"loss": event["evaluating"], "speed": "", "left": eta}
                bar.update(task, description="evaluating", completed=event["share"], total=1, **what)
            elif "stock_valid_loss" in event:
                bar.console.print(f"  held-out loss {event['stock_valid_loss']:.3f} of the stock model")


async def draft_replies(settings: Settings, text: str, n: int, chat: int | None) -> dict[str, Any]:
    """`likeme draft`"""
    if not text.strip():
        raise BadInput("There is nothing to answer: give the message in quotes.")
    async with database(settings) as db:
        if chat is not None and await history.find_chat(db, chat) is None:
            raise BadInput(f"There is no chat {chat} in the history: leave --chat out, or import it first.")
    async with opened(settings) as (db, voice):
        with printing.waiting("drafting"):
            context = await context_in(db, chat, text, now())
            drafted = await Drafting(db, voice, printing.tell).drafts(context, chat, n)
    if not drafted.replies:
        raise ModelError(f"{drafted.model} found no words for this one: train a voice first, or try again.")
    return {"drafts": list(drafted.replies), "model": drafted.model}


async def back_up_home(settings: Settings, out: Path | None) -> backup.Made:
    """`likeme backup`"""
    moment = datetime.now().astimezone()
    with printing.progress() as bar:
        task = bar.add_task("packing", total=None)
        return await asyncio.to_thread(
            backup.back_up,
            settings.likeme_home,
            out or Path(backup.default_name(moment)),
            moment,
            lambda done, total: bar.update(task, completed=done, total=total),
        )


async def restore_home(settings: Settings, file: Path | None, force: bool, undo: bool) -> tuple[restore.Restored, int]:
    """`likeme restore`: what the home holds now, and how many chats had to be forgotten anew."""
    home, moment = settings.likeme_home, datetime.now().astimezone()
    if undo == (file is not None):
        raise BadInput("Name the backup, or --undo the last restore.")
    with printing.waiting("checking and moving"):
        if file is None:
            restored = await asyncio.to_thread(restore.undo, home, moment)
        else:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            restored = await asyncio.to_thread(restore.restore, home, file, moment, force)
    async with database(settings) as db:
        for chat_id in restored.forget:
            await chats.forget(settings, db, chat_id)
    return restored, len(restored.forget)


async def list_versions(settings: Settings) -> dict[str, Any]:
    """`likeme versions`"""
    async with database(settings) as db:
        serving = await runs.serving(db)
        rows, marked = _rows(await runs.versions(db)), await forgetting.marked(db)
        return {
            "serving": serving.number if serving else None,
            "versions": [{**row, "forgotten_chats": marked.get(row["number"], 0)} for row in rows],
        }


async def roll_back(settings: Settings, number: int | None) -> dict[str, Any]:
    """`likeme rollback`"""
    async with database(settings) as db:
        with _in_the_terminal():
            return {"serving": await versions.roll_back(db, None, number, "by likeme rollback")}


async def promote(settings: Settings, number: int, force: bool) -> dict[str, Any]:
    """`likeme promote`"""
    async with database(settings) as db:
        with _in_the_terminal():
            passed, reason = await versions.promote(db, number, force)
        return {"serving": number, "forced": not passed, "reason": reason}


@contextmanager
def _in_the_terminal() -> Iterator[None]:
    """The bot's commands in an error's line become the terminal's."""
    try:
        yield
    except BadInput as error:
        text = str(error).replace("/versions", "likeme versions")
        raise BadInput(re.sub(r"/promote (\d+) force", r"likeme promote \1 --force", text)) from None


async def export_voice(settings: Settings, number: int, out: Path, merged: bool) -> dict[str, Any]:
    """`likeme export`: in a process of its own, the command line knows no torch."""
    if settings.model_url:
        raise BadInput("The voices lie with the model server that MODEL_URL names: export there.")
    arguments = [str(number), "--home", str(settings.likeme_home), "--out", str(out), *(["--merged"] * merged)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "training", "export", *arguments, stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    told: dict[str, Any] = {}
    with printing.progress() as bar:
        task = bar.add_task(f"version {number}", total=None)
        async for line in process.stdout:
            told = json.loads(line)
            bar.update(task, completed=told.get("done"), total=told.get("total"))
    said = (await process.stderr.read()).decode(errors="replace").strip()
    if await process.wait():
        kind = BadInput if process.returncode == BadInput.exit_code else ModelError
        raise kind(said.splitlines()[-1] if said else "The export ended without a word.")
    return {"number": number, "merged": merged, **told}


async def evaluate_voice(settings: Settings, number: int | None, audit: bool) -> dict[str, Any]:
    """`likeme evaluate`"""
    built = await dataset_of(settings)
    async with opened(settings) as (db, voice):
        await catch_up(db, voice)
        serving = await runs.serving(db)
        version = serving if number is None else await runs.find_version(db, number)
        if version is None:
            which = "No trained voice speaks yet" if number is None else f"There is no version {number}"
            raise BadInput(f"{which}: likeme versions shows what there is, likeme train makes one.")
        if not built.validation:
            raise BadInput("The history is too small to hold replies out: there is nothing to measure on.")
        file_id = await voice.upload(built.validation_jsonl(), "validation.jsonl")
        async with db.transaction():
            sha = built.manifest["sha256"]
            await forgetting.note_training(db, sha, (example.chat_id for example in built.validation))
            await forgetting.note_files(db, sha, voice.place, [file_id])
        against = serving.name if serving and serving.number != version.number else None
        with printing.progress() as bar:
            task = bar.add_task(version.name, total=1)
            found = await voice.evaluate(
                version.name,
                file_id,
                serving=against,
                audit=audit,
                on_part=lambda part, share: bar.update(task, description=part, completed=share),
            )
        found = await evaluation.checked(db, found)
        async with db.transaction():
            await runs.set_evaluation(db, version.number, evaluation.numbers(found))
        return await _shown(settings, db, version.number, found)


async def report_of(settings: Settings, number: int | None) -> dict[str, Any]:
    """`likeme report`"""
    async with database(settings) as db:
        version = await (runs.serving(db) if number is None else runs.find_version(db, number))
        if version is None or version.evaluation is None:
            which = f"version {number}" if number is not None else version.name if version else "the stock model"
            raise BadInput(f"Nothing has been measured of {which} yet: likeme evaluate does it.")
        return await _shown(settings, db, version.number, version.evaluation)


async def _shown(settings: Settings, database: Database, number: int, found: dict[str, Any]) -> dict[str, Any]:
    """An evaluation with its page, and whether that version speaks."""
    serving = await runs.serving(database)
    page = await asyncio.to_thread(evaluation.save, settings.likeme_home, number, found)
    return {**found, "page": page, "number": number, "speaks": serving is not None and serving.number == number}


def _rows(versions: list[runs.Version]) -> list[dict[str, Any]]:
    return [
        {
            "number": version.number,
            "name": version.name,
            "created_at": version.created_at,
            "base_model": version.base_model,
            "metrics": version.metrics,
            "gate": "passed" if evaluation.verdict(version)[0] else f"kept back: {evaluation.verdict(version)[1]}",
        }
        for version in versions
    ]
