"""What the commands do: open the home, do the one thing, close it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.prompt import Confirm, Prompt

from bot import chats, printing
from bot.drafting import Drafting, context_in
from bot.history import build_dataset, now, save_dataset
from bot.model_process import model_server
from bot.quiz import LETTERS, NAMES, new_quiz, standings_rows
from bot.settings import Settings
from bot.statistics import Share
from bot.texts import say
from bot.train import Training, catch_up, is_better
from bot.voice import Voice
from storage import forgetting, history, quizzes, runs
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
        return chats.forgotten_text(gone).replace("/train", "likeme train"), gone


async def dataset_of(settings: Settings) -> Dataset:
    """`likeme dataset`"""
    async with database(settings) as db:
        with printing.waiting("building the training set"):
            return await build_dataset(db, Options())


async def train_voice(settings: Settings, recipe: str | None) -> dict[str, Any]:
    """`likeme train`"""
    built = await dataset_of(settings)
    save_dataset(built, settings.likeme_home / "datasets" / built.manifest["sha256"][:16])
    async with opened(settings) as (db, voice):
        training = Training(voice, db, built, recipe)
        await watch(training)
        version = training.version
        if version is None:
            raise ModelError("The training was cancelled; nothing has changed.")
        return {**printing.plain(version), "serves": is_better(version)}


async def watch(training: Training) -> None:
    """Show a training while it runs: loss, tokens/s, ETA."""
    columns = printing.training_columns()
    with printing.progress(*columns) as bar:
        task = bar.add_task("measuring stock", total=None, loss="", speed="", left="")
        async for event in training.events():
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
            drafted = await Drafting(db, voice).drafts(context, chat, n)
    if not drafted.replies:
        raise ModelError(f"{drafted.model} found no words for this one: train a voice first, or try again.")
    return {"drafts": list(drafted.replies), "model": drafted.model}


async def play_quiz(settings: Settings, prompts: int) -> list[tuple[str, Share]]:
    """`likeme quiz`"""
    async with opened(settings) as (db, voice):
        with printing.waiting(f"preparing {prompts} questions"):
            quiz_id = await new_quiz(db, voice, chat_id=None, n=prompts)
        for number, one in enumerate(await quizzes.questions(db, quiz_id), 1):
            printing.err.print(f"\n[bold]{number}[/bold]  {escape(one.prompt)}")
            for letter, reply in zip(LETTERS, one.replies, strict=True):
                printing.err.print(f"   [bold]{letter}[/bold]  {escape(reply.text)}")
            pick = Prompt.ask("Which is the real one?", choices=[*"abc"], console=printing.err, case_sensitive=False)
            source = one.replies["abc".index(pick.lower())].source
            async with db.transaction():
                await quizzes.move(db, one.question_id, "candidate", "asked")
                await quizzes.vote(
                    db,
                    one.question_id,
                    voter_id=0,
                    voter_name="terminal",
                    is_owner=False,
                    source=source,
                    now=now(),
                )
            printing.err.print(f"   that was {NAMES[source]}")
        return await standings_rows(db)


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
        wanted = await runs.previous(db) if number is None else number or None
        if wanted is not None and await runs.find_version(db, wanted) is None:
            raise BadInput(f"There is no version {wanted}: likeme versions shows what there is.")
        async with db.transaction():
            await runs.serve(db, wanted)
        return {"serving": wanted}


async def evaluate_voice(settings: Settings, number: int | None) -> dict[str, Any]:
    """`likeme evaluate`"""
    built = await dataset_of(settings)
    async with opened(settings) as (db, voice):
        await catch_up(db, voice)
        version = await (runs.serving(db) if number is None else runs.find_version(db, number))
        if version is None:
            which = "No trained voice speaks yet" if number is None else f"There is no version {number}"
            raise BadInput(f"{which}: likeme versions shows what there is, likeme train makes one.")
        file_id = await voice.upload(built.validation_jsonl(), "validation.jsonl")
        with printing.waiting(f"measuring {version.name} and the stock model"):
            return {"model": version.name, **await voice.evaluate(version.name, file_id)}


def _rows(versions: list[runs.Version]) -> list[dict[str, Any]]:
    return [
        {
            "number": version.number,
            "name": version.name,
            "created_at": version.created_at,
            "base_model": version.base_model,
            "metrics": version.metrics,
        }
        for version in versions
    ]
