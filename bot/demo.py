"""`likeme demo`: the whole job on this machine, with the real parts at every step.

import -> training set -> a real DoRA adapter -> held-out prompts side by side -> the real bot, as its
own process, against the sandbox Telegram over HTTP -> a blind quiz with three sandbox friends -> report.html.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.table import Table

from bot import charts, evaluation, printing, standings
from bot.history import build_dataset, held_out, now
from bot.model_process import model_server, open_private
from bot.report import Line, Report, Sample, Standing, write
from bot.sandbox import friends, sample
from bot.sandbox.server import Sandbox
from bot.sandbox.world import World
from bot.settings import Settings
from bot.statistics import Share
from bot.texts import duration
from bot.train import Training
from bot.voice import Voice, speaking
from bot.work import watch
from storage import history
from storage.database import Database
from storage.errors import BadInput, ModelError
from storage.ingest.export import ImportReport, import_export
from training.dataset.pairs import Options
from training.dataset.render import conversation
from training.dataset.report import lines as dataset_lines
from training.dataset.split import Dataset, Example

MARK = ".likeme-demo"  # a folder with this file is ours to start over in
TOKEN = "10000:sandbox-token-of-the-demo-bot-00000"  # the sandbox's own; opens nothing anywhere else
GROUP = -1000
# What two cores train in about three minutes: the demo is a look, `likeme train` takes all.
TRAINING_CHARACTERS = 36_000
HELD_OUT = 40
SAMPLES = 4
QUESTIONS = 6

Item = TypeVar("Item")


@dataclass(slots=True)
class Story:
    """What the demo has seen so far; the report tells it."""

    report: ImportReport
    dataset: Dataset
    training: Training | None = None
    samples: tuple[Sample, ...] = ()


async def main(home: Path, export: Path | None, *, once: bool) -> None:
    """Run the demo in `home`; with `once` it ends instead of staying up."""
    started = now()
    _start_over(home)
    settings = Settings(likeme_home=home, model_url="", bot_api_url="")
    async with Database.open(home / "history.db") as database:
        story = await _history(database, home, export)
        async with model_server(settings) as voice:
            _heading("3  Training a DoRA adapter on the embedded model")
            with printing.waiting("loading SmolLM2-135M-Instruct (the first time it is converted)"):
                health = await voice.ready()
            story.training = Training(voice, database, story.dataset, evaluation="short")
            await watch(story.training)
            if story.training.version is None:
                raise ModelError("The training did not end well: see the demo folder's serve.log.")
            promoted, reason = evaluation.verdict(story.training.version)
            shown = {**printing.plain(story.training.version), "serves": promoted, "reason": reason}
            _say(*printing.version_lines(shown))
            if story.training.version.evaluation is not None:
                found = story.training.version.evaluation
                _say(*evaluation.lines(found)[1:], f"all of it: {evaluation.save(home, 1, found)}")
            story.samples = await _side_by_side(voice, story.dataset, story.training.version.name, health["base_model"])
            async with _quiz(home, database, voice) as rows:
                path = home / "report.html"
                _write_report(story, rows, path, str(health["base_model"]))
                took = duration((now() - started).total_seconds())
                _heading(f"Done in {took}")
                _say(f"The report: {path.resolve()}")
                if not once:
                    _say("The bot, the model server and the sandbox stay up until Ctrl-C. In another terminal:")
                    _say(f'  .venv/bin/likeme draft "are you coming on friday?" --home {home}')
                    await asyncio.Event().wait()


async def _history(database: Database, home: Path, export: Path | None) -> Story:
    """Steps 1 and 2: import, and the training set."""
    _heading("1  Importing a chat history")
    if export is None:
        export = home / "sample.result.json"
        sample.write_export(export)
        _say("The sample: written for likeme, nobody's real messages. Your own: make demo HISTORY=result.json")
    with printing.progress() as bar:
        task = bar.add_task(f"reading {export.name}", total=None)
        report = await import_export(
            database, export, on_progress=lambda done, total: bar.update(task, completed=done, total=total), now=now()
        )
    _say(*report.lines())
    _heading("2  Building the training set")
    dataset = await _dataset(database)
    return Story(report, dataset)


async def _dataset(database: Database) -> Dataset:
    """The training set, of fewer examples where the whole would train for too long here."""
    # Twelve pairs a chat is for a thousand chats: of a handful the demo takes more, up to what it has time for.
    for cap in (12, 24, 48, None):
        whole = await build_dataset(database, Options(max_pairs_per_chat=cap))
        if _characters(whole.train) >= TRAINING_CHARACTERS:
            break
    if len(whole.validation) < 3:
        raise BadInput("This history holds too few replies of yours for a demo: it needs about 60 of them.")
    _say(*dataset_lines(whole.manifest))
    share = min(1.0, TRAINING_CHARACTERS / _characters(whole.train))
    train = _spread(whole.train, int(len(whole.train) * share))
    validation = _spread(whole.validation, HELD_OUT)
    if len(train) < len(whole.train):
        _say(
            f"To be done in minutes, the demo trains on {len(train)} of them and measures on {len(validation)}, "
            "evenly over time; likeme train takes all."
        )
    return Dataset(train, validation, whole.manifest)


def _characters(examples: Sequence[Example]) -> int:
    """Of what differs between examples: the system line is in all of them."""
    return sum(len(m["content"]) for example in examples for m in example.messages if m["role"] != "system")


async def _side_by_side(voice: Voice, dataset: Dataset, tuned: str, stock: str) -> tuple[Sample, ...]:
    """Step 4: held-out prompts with the three replies."""
    _heading("4  Held-out prompts: the real reply, the tuned voice, the stock model")
    found = []
    prompts = _spread(held_out(dataset), SAMPLES)
    with printing.progress() as bar:
        task = bar.add_task("drafting", total=len(prompts))
        for seed, one in enumerate(prompts):
            messages = conversation(one.context)
            replies = [await voice.replies(model, messages, 1, seed=seed) for model in (tuned, stock)]
            texts = [reply[0] if reply else "(said nothing)" for reply in replies]
            found.append(Sample([Line(t.role, t.text) for t in one.context], one.reply, texts[0], texts[1]))
            bar.advance(task)
    for shown in found:
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row("friend", shown.context[-1].text)
        table.add_row("really", shown.real, style="bold")
        table.add_row("tuned", shown.tuned, style="green")
        table.add_row("stock", shown.stock)
        printing.out.print(table)
        printing.out.print()
    return tuple(found)


def _spread(items: Sequence[Item], n: int) -> tuple[Item, ...]:
    """n of them, evenly over time."""
    n = min(n, len(items))
    return tuple(items[len(items) * i // n] for i in range(n))


@asynccontextmanager
async def _quiz(home: Path, database: Database, voice: Voice) -> AsyncIterator[list[tuple[str, Share]]]:
    """Step 5: the real bot in the sandbox; the bot stays up while the block runs."""
    _heading("5  A blind quiz in a Telegram on this machine")
    owner = await history.account(database)
    assert owner is not None
    world = World()
    world.add_user(owner.user_id, owner.first_name or "Owner")
    judges = friends.judges(owner.user_id, await _own_words(database))
    for judge in judges:
        world.add_user(judge.user_id, judge.name)
    bot = world.add_bot(TOKEN, "likeme_demo_bot", "likeme")
    world.add_group(GROUP, "Friends", [owner.user_id, *(judge.user_id for judge in judges), bot.user_id])
    async with Sandbox.start(world) as sandbox, _bot_process(home, sandbox.url, owner.user_id, voice):
        with printing.waiting("the bot starts, and both models answer the questions"):
            played = await friends.play(world, owner.user_id, GROUP, judges, QUESTIONS)
        for line in played:
            _say(line)
        found = await standings.compute(database, (await speaking(database, voice))[0])
        printing.standings(found, as_json=False)
        yield found.everybody.rows


async def _own_words(database: Database) -> list[str]:
    words = []
    for chat in await history.chats(database):
        words += [m.text for m in await history.messages(database, chat.chat_id) if m.is_own and m.text]
    return words


@asynccontextmanager
async def _bot_process(home: Path, url: str, owner: int, voice: Voice) -> AsyncIterator[None]:
    """`likeme run`, unchanged, told where Telegram and the model server are."""
    log = open_private(home / "bot.log")
    environment = {
        **os.environ,
        "BOT_TOKEN": TOKEN,
        "OWNER_ID": str(owner),
        "BOT_API_URL": url,
        "MODEL_URL": voice.url,
        "MODEL_TOKEN": voice.token,
        "LIKEME_HOME": str(home),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", "run", stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL, env=environment
    )
    os.close(log)
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _write_report(story: Story, rows: list[tuple[str, Share]], path: Path, base_model: str) -> None:
    """Step 6."""
    assert story.training is not None and story.training.version is not None
    version, manifest = story.training.version, story.dataset.manifest
    metrics = version.metrics
    answers = rows[0][1].n
    write(
        Report(
            title="A voice of one's own",
            subtitle=f"What likeme learned on {version.created_at:%Y-%m-%d}, from one chat history, on this machine.",
            figures=[
                ("messages imported", f"{manifest['messages']:,}"),
                ("examples trained on", f"{len(story.dataset.train):,}"),
                ("held-out loss, stock model", f"{metrics['stock_valid_loss']:.2f}"),
                ("held-out loss, tuned voice", f"{metrics['valid_loss']:.2f}"),
                ("training", duration(metrics["seconds"])),
                ("quiz answers", str(answers)),
            ],
            import_lines=story.report.lines(),
            dataset_lines=dataset_lines(manifest),
            training_line=f"{base_model}, DoRA, {metrics['tokens']:,} tokens in {duration(metrics['seconds'])}. "
            f"Held out: {len(story.dataset.validation)} replies.",
            loss_curve=charts.loss_curve(story.training.seen),
            samples=story.samples,
            quiz_line=f"{answers} answers of three sandbox friends, scripted: {friends.HOW_THEY_CHOOSE} They are no "
            "proof of likeness: they show that questions, polls, votes and standings work.",
            standings=[Standing(name, s.picks, s.n, s.share, s.low, s.high) for name, s in rows],
            standings_chart=charts.standings(f"Picked as the real one: {answers} answers", rows),
        ),
        path,
    )


def _start_over(home: Path) -> None:
    """An empty home; the converted base model stays. Only in a folder that an earlier demo made."""
    if home.exists() and any(home.iterdir()) and not (home / MARK).exists():
        raise BadInput(f"{home} is no demo folder and not empty: name another one with --home.")
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in home.iterdir():
        if path.name in (MARK, "models"):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (home / MARK).touch()


def _heading(text: str) -> None:
    printing.out.print(f"\n[bold cyan]{text}[/bold cyan]")


def _say(*lines: str) -> None:
    for line in lines:
        printing.out.print(f"  {line}", markup=False, soft_wrap=True)
