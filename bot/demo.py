"""`likeme demo`: the whole job on this machine, with the real parts at every step, in a messenger in the browser.

import -> training set -> a Telegram in a box, the owner's account signed in to it, the real bot as its own process ->
three friends write, drafts come -> /train makes a real DoRA adapter -> held-out prompts side by side -> a blind quiz ->
report.html.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.table import Table

from bot import charts, evaluation, printing, stage, standings
from bot.history import build_dataset, held_out, now, quick_part, spread
from bot.report import Line, Report, Sample, Standing, write
from bot.sandbox import cast, sample
from bot.sandbox.box import Box
from bot.sandbox.friends import Friend, Friends
from bot.sandbox.owner import Owner
from bot.sandbox.things import Message
from bot.statistics import Share
from bot.texts import duration
from bot.voice import Event, Voice, speaking
from bot.work import watch
from storage import runs
from storage.database import Database
from storage.errors import BadInput, ModelError
from storage.ingest.export import ImportReport, import_export
from training.dataset.pairs import Options
from training.dataset.render import conversation
from training.dataset.report import lines as dataset_lines
from training.dataset.split import Dataset

MARK = ".likeme-demo"  # a folder with this file is ours to start over in
REPORT = "report.html"
START_SECONDS, LOOK_SECONDS = 60, 0.2
SAMPLES = 4
QUESTIONS = 6
PARTS = "\n\n"  # between the parts of a card

Item = TypeVar("Item")
Rows = list[tuple[str, Share]]


@dataclass(slots=True)
class Story:
    """What the demo has seen so far; the report tells it."""

    home: Path
    database: Database
    report: ImportReport
    dataset: Dataset
    seen: list[Event] = field(default_factory=list)
    samples: tuple[Sample, ...] = ()


async def main(home: Path, export: Path | None, *, once: bool, script: bool) -> None:
    """Run the demo in `home`. `once`: it ends by itself; `script`: the people act by themselves at first."""
    started = now()
    _start_over(home)
    async with Database.open(home / "history.db") as database:
        story = await _history(database, home, export)
        _heading("3  A Telegram on this machine")
        async with stage.telegram(database, script=script) as (telegram, friends):
            await stage.sign_in(telegram, home)
            _say(f"The page: {telegram.url}")
            _say("You are the owner there, or any of his friends. His account is signed in; his bot is starting.")
            await stage.show(telegram, wanted=not once)
            async with stage.model(home) as (voice, base_model), stage.bot(home, telegram, voice):
                if script:
                    await _play(story, telegram, friends, voice, base_model)
                    _heading(f"Done in {duration((now() - started).total_seconds())}")
                    _say(f"The report: {(home / REPORT).resolve()}")
                if not once:
                    _say(f"All of it stays up until Ctrl-C. The page: {telegram.url}")
                    _say(f'In another terminal: .venv/bin/likeme draft "are you coming on friday?" --home {home}')
                    await asyncio.Event().wait()


async def _play(story: Story, telegram: Box, friends: Friends, voice: Voice, base_model: str) -> None:
    """Steps 4 to 8, the owner's part played for him; the friends live on their own as long as the world does."""
    owner = Owner(telegram.world, telegram.account.user_id, cast.GROUP)
    await _drafts(telegram, owner, friends)
    version = await _train(story, owner, voice)
    story.samples = await _side_by_side(story, voice, version.name, base_model)
    rows = await _quiz(story, owner, friends.friends, voice)
    _write_report(story, version, rows, friends.friends)
    await _in_his_voice(owner, friends)


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
    return Story(home, database, report, dataset)


async def _dataset(database: Database) -> Dataset:
    """The training set, as /train will build it."""
    whole = await build_dataset(database, Options())
    if len(whole.validation) < 3:
        raise BadInput("This history holds too few replies of yours for a demo: it needs about 60 of them.")
    _say(*dataset_lines(whole.manifest))
    part = quick_part(whole)
    if len(part.train) < len(whole.train):
        _say(
            f"To be done in minutes, the demo trains on {len(part.train)} of them and measures on "
            f"{len(part.validation)}, evenly over time; likeme train takes all."
        )
    return part


async def _drafts(telegram: Box, owner: Owner, friends: Friends) -> None:
    """Step 4: friends write, drafts come."""
    _heading("4  Three friends write, drafts come")
    first, second, third = friends.friends
    with printing.waiting("the bot starts, and follows the account"):
        await owner.greet()
        await telegram.followed()
    with printing.waiting("the stock model drafts, told how he writes"):
        line = await owner.draft_in_line(third, lambda: friends.begin(third))
    lies = f"in the input line of that chat lies: {_flat(line)}" if line else "the model finds no words for that yet."
    _say(f"{third.name} writes; {lies}")
    await owner.want_draft_in_line(third)
    await owner.lend_account()
    with printing.waiting("the stock model drafts, told how he writes"):
        card = await owner.card(first, lambda: friends.begin(first))
    _say(f"{first.name} writes; a card comes: {_drafts_on(card)}")
    friends.begin(second)
    _say(f"{second.name} writes, too: that card comes while the voice is trained.")


async def _train(story: Story, owner: Owner, voice: Voice) -> runs.Version:
    """Step 5: /train, watched from beside it."""
    _heading("5  /train: a DoRA adapter on the embedded model")
    await owner.train()
    await watch(_events(voice, story.seen))
    version = (await _soon(lambda: runs.versions(story.database)))[0]
    promoted, reason = evaluation.verdict(version)
    _say(*printing.version_lines({**printing.plain(version), "serves": promoted, "reason": reason}))
    if version.evaluation is not None:
        _say(*evaluation.lines(version.evaluation)[1:])
        _say(f"all of it: {evaluation.save(story.home, version.number, version.evaluation)}")
    return version


async def _events(voice: Voice, seen: list[Event]) -> AsyncIterator[Event]:
    """What the bot's training goes through."""
    jobs = await _soon(voice.jobs)
    async for event in voice.events(jobs[0].id):
        if event.get("data"):
            seen.append(event["data"])
            yield event["data"]


async def _soon(look: Callable[[], Awaitable[list[Item]]]) -> list[Item]:
    """What the bot is about to make: a job, a version."""
    for _ in range(int(START_SECONDS / LOOK_SECONDS)):
        if found := await look():
            return found
        await asyncio.sleep(LOOK_SECONDS)
    raise ModelError("The training did not end well: bot.log and serve.log in the demo's folder tell why.")


async def _side_by_side(story: Story, voice: Voice, tuned: str, stock: str) -> tuple[Sample, ...]:
    """Step 6: held-out prompts with the three replies."""
    _heading("6  Held-out prompts: the real reply, the tuned voice, the stock model")
    found = []
    prompts = spread(held_out(story.dataset), SAMPLES)
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


async def _quiz(story: Story, owner: Owner, friends: Sequence[Friend], voice: Voice) -> Rows:
    """Step 7: the friends guess."""
    _heading("7  A blind quiz in the group")
    _say(f"He asks for /quiz {QUESTIONS} in the group; the questions come to him first, he taps «send all».")
    with printing.waiting("both models answer the questions"):
        answered = await owner.quiz(QUESTIONS, friends)
    _say(f"{', '.join(friend.name for friend in friends)} answer {answered} polls: {_ways(friends)}")
    _say(f"/standings answers with a picture of {await owner.standings():,} bytes and:")
    found = await standings.compute(story.database, (await speaking(story.database, voice))[0])
    printing.standings(found, as_json=False)
    return found.everybody.rows


async def _in_his_voice(owner: Owner, friends: Friends) -> None:
    """Step 8: the conversation goes on, now drafted by the tuned voice."""
    _heading("8  The friends go on, the tuned voice drafts")
    friend = next((friend for friend in friends.friends[:2] if friends.goes_on(friend)), None)
    if friend is None:
        _say("You play them yourself: write as one of them, and answer as the owner.")
        return
    sent = await owner.answer(friend)
    _say(f"{friend.name} reads: {_flat(sent)}")
    with printing.waiting("the tuned voice drafts"):
        card = await owner.card(friend)
    _say(f"{friend.name} goes on; a card comes: {_drafts_on(card)}")


def _drafts_on(card: Message) -> str:
    return _flat(" / ".join(card.text.split(PARTS)[1:-1]))


def _ways(friends: Sequence[Friend]) -> str:
    """How they choose, in words."""
    return f"{', '.join(friend.about for friend in friends)}."


def _write_report(story: Story, version: runs.Version, rows: Rows, friends: Sequence[Friend]) -> None:
    metrics, answers = version.metrics, rows[0][1].n
    write(
        Report(
            title="A voice of one's own",
            subtitle=f"What likeme learned on {version.created_at:%Y-%m-%d}, from one chat history, on this machine.",
            figures=[
                ("messages imported", f"{story.dataset.manifest['messages']:,}"),
                ("examples trained on", f"{len(story.dataset.train):,}"),
                ("held-out loss, stock model", f"{metrics['stock_valid_loss']:.2f}"),
                ("held-out loss, tuned voice", f"{metrics['valid_loss']:.2f}"),
                ("training", duration(metrics["seconds"])),
                ("quiz answers", str(answers)),
            ],
            import_lines=story.report.lines(),
            dataset_lines=dataset_lines(story.dataset.manifest),
            training_line=f"{version.base_model}, DoRA, {metrics['tokens']:,} tokens in "
            f"{duration(metrics['seconds'])}. Held out: {len(story.dataset.validation)} replies.",
            loss_curve=charts.loss_curve(story.seen),
            samples=story.samples,
            quiz_line=f"{answers} answers of three sandbox friends, scripted: {_ways(friends)} They are no proof of "
            "likeness: they show that questions, polls, votes and standings work.",
            standings=[Standing(name, s.picks, s.n, s.share, s.low, s.high) for name, s in rows],
            standings_chart=charts.standings(f"Picked as the real one: {answers} answers", rows),
        ),
        story.home / REPORT,
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


def _flat(text: str) -> str:
    """In one line."""
    return " ".join(text.split())
