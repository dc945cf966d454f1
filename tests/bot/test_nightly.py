"""Nights in the bot: what is new is learned, told once and in the morning, and a killed one is taken up."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot import night, nightly
from bot.context import App, Services
from bot.history import now
from bot.model_process import model_server
from bot.night import DRIFT, FIRST, FORGOTTEN, WEEKLY, Work
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from bot.train import catch_up, note_version
from bot.voice import Voice
from storage import forgetting, history, nights, runs, secretary
from storage.database import Database
from storage.errors import BadInput, ModelError
from storage.nights import End, Night
from storage.records import Message, MessageKind
from tests.bot.conftest import START, Listener, running
from tests.sandbox_fixtures import OWNER
from training import fine_tuning
from training.evaluation import versions as measuring
from training.evaluation.evaluate import Extent

pytestmark = pytest.mark.slow


async def nothing(*_: object) -> None:
    """Nobody looks."""


async def more_history(home: Path, exchanges: int, days: int = 30, first: int = 0) -> None:
    """Exchanges in the friends' chats, some days after the small history."""
    async with Database.open(home / "history.db") as database, database.transaction():
        messages = []
        for number in range(exchanges):
            chat, when = 2000 + number % 8, START + timedelta(days=days, hours=number)
            for own in (False, True):
                text = f"sure {chr(97 + number % 26) * 3}{first + number}" if own else f"what of {first + number}?"
                sender, moment = OWNER if own else chat, when + timedelta(minutes=own)
                message_id = 1000 + 2 * (first + number) + own
                messages.append(Message(chat, message_id, moment, f"user{sender}", own, MessageKind.TEXT, text))
        await history.put_messages(database, messages)


class Home:
    """One owner's home, its database open, a model server beside it: nights without a chat."""

    def __init__(self, settings: Settings, database: Database, voice: Voice) -> None:
        self.settings, self.database, self.voice = settings, database, voice
        self.told: list[str] = []

    def work(self, on_event: Callable[[dict[str, object]], object] = lambda event: None) -> Work:
        async def tell(text: str) -> None:
            self.told.append(text)

        async def event(data: dict[str, object]) -> None:
            on_event(data)

        return Work(self.settings, self.database, self.voice, now, nothing, event, tell)

    async def begin(self) -> Night:
        async with self.database.transaction():
            return await nights.begin(self.database, None, now())

    async def night(self) -> Night:
        """A whole one."""
        return await self.work().do(await self.begin())

    async def serving(self) -> runs.Version | None:
        return await runs.serving(self.database)


@pytest.fixture(autouse=True)
def shortest_evaluations(short_evaluations: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many nights are trained here."""
    monkeypatch.setitem(measuring.EXTENTS, "full", Extent(prompts=4, drafts=0, questions=6, told=0))


@pytest.fixture
def few(settings: Settings) -> Settings:
    """A night is worth while for eight new replies."""
    return settings.model_copy(update={"nightly_pairs": 8})


@pytest.fixture
async def home(few: Settings):  # type: ignore[no-untyped-def]
    """The small history's home."""
    async with Database.open(few.likeme_home / "history.db") as database, model_server(few) as voice:
        yield Home(few, database, voice)


async def test_the_first_night_begins_with_the_base_and_the_next_goes_on_with_what_is_new(home: Home) -> None:
    first = await home.night()
    assert (first.step, first.outcome, first.anew) == ("ended", "promoted", True)
    voice = await home.serving()
    assert voice is not None and voice.number == 1 and voice.started_from is None
    assert (await home.night()).outcome == "few", "nothing is new"
    await more_history(home.settings.likeme_home, 24)
    second = await home.night()
    assert second.anew is False
    assert second.messages == 48
    assert second.pairs is not None and 20 <= second.pairs <= 24
    made = await runs.find_version(home.database, 2)
    assert made is not None and made.started_from == 1
    assert made.data_until is not None and voice.data_until is not None and made.data_until > voice.data_until
    (job,) = [job for job in await home.voice.jobs() if job.fine_tuned_model == "likeme-0002"]
    assert job.model == "likeme-0001"
    manifest = json.loads((adapters_of(home) / "0002" / "manifest.json").read_text())
    recipe = json.loads((adapters_of(home) / "0001" / "manifest.json").read_text())["recipe"]
    assert manifest["recipe"]["learning_rate"] == pytest.approx(recipe["learning_rate"] * night.RATE)
    assert manifest["started_from"] == "likeme-0001" and len(manifest["earlier_files"]) == 1
    assert second.loss_before is not None and second.loss_after is not None and second.dollars is not None


def adapters_of(home: Home) -> Path:
    """The model server's folder beside the owner's (tests/model_fixtures.py)."""
    return home.settings.likeme_home.parent / "home" / "adapters"


async def test_what_is_held_out_is_never_in_a_later_training_file(home: Home) -> None:
    await home.night()
    held = await nights.held_out(home.database)
    assert held
    await more_history(home.settings.likeme_home, 40)
    await home.night()
    assert held <= await nights.held_out(home.database)
    for index in (home.settings.likeme_home / "datasets").glob("*/index.jsonl"):
        rows = [json.loads(line) for line in index.read_text().splitlines()]
        assert not {(r["chat_id"], r["message_id"]) for r in rows if r["split"] == "train"} & held


async def test_a_night_begins_anew_weekly_when_it_drifts_and_when_a_chat_was_forgotten(home: Home) -> None:
    work = home.work()
    assert await work._anew(await home.serving()) == FIRST
    await home.night()
    serving = await home.serving()
    assert await work._anew(serving) is None
    for outcome, anew, expected in (("kept", False, None), ("kept", False, DRIFT), ("kept", True, None)):
        begun = await home.begin()
        async with home.database.transaction():
            await nights.counted(home.database, begun.night_id, anew, 1, 1)
            await nights.end(home.database, begun.night_id, End(outcome, number=1), now())  # type: ignore[arg-type]
        assert await work._anew(serving) == expected
    work.now = lambda: now() + timedelta(days=8)
    assert await work._anew(serving) == WEEKLY
    async with home.database.transaction():
        await forgetting.forget(home.database, 2003, now())
    assert await work._anew(serving) == FORGOTTEN
    again = await home.night()
    assert (again.anew, again.pairs) == (True, 0), "not for what is new, but for what is to go"
    marked, serving = await forgetting.marked(home.database), await home.serving()
    assert serving is not None and serving.number not in marked


async def test_a_night_whose_voice_can_t_be_evaluated_keeps_the_one_that_speaks_and_is_no_drift(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.night()
    measure = fine_tuning.measure

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    for number in (2, 3):
        await more_history(home.settings.likeme_home, 24, days=30 * number, first=24 * number)
        monkeypatch.setattr(fine_tuning, "measure", broken)
        night = await home.night()
        assert (night.outcome, night.number) == ("kept", number)
        told = nightly.report(night)
        assert "the one before stays" in told and f"likeme evaluate {number} measures it" in told
        serving = await home.serving()
        assert serving is not None and serving.number == 1
    assert await home.work()._anew(serving) is None, "nothing is known of them, least of all that they drifted"
    monkeypatch.setattr(fine_tuning, "measure", measure)
    last = await home.night()
    assert (last.number, last.anew) == (4, False), "what they learned is learned again, from the voice that speaks"
    assert last.pairs is not None and last.pairs > 24, "those of both nights"


async def test_a_night_left_at_any_step_is_taken_up_and_nothing_is_done_twice(home: Home) -> None:
    """The task is cut off at the first event of each kind, as a stop of the bot cuts it, then begun again."""
    await home.night()
    await more_history(home.settings.likeme_home, 24)
    begun = await home.begin()

    class _Stopped(BaseException):
        pass

    for cut in ("job", "train_loss", "evaluating", "gate"):

        def stop(event: dict[str, object], cut: str = cut) -> None:
            if cut in event:
                raise _Stopped

        with pytest.raises(_Stopped):
            await home.work(stop).do(await nights.find(home.database, begun.night_id))
    async with home.database.transaction():  # killed between the job's start and its note
        await home.database.execute("UPDATE night SET step = 'fetched', job_id = NULL")
    ended = await home.work().do(await nights.find(home.database, begun.night_id))
    assert ended.number == 2
    await catch_up(home.database, home.voice)
    assert [version.number for version in await runs.versions(home.database)] == [1, 2]
    assert len(await home.voice.jobs()) == 2
    assert [p.number for p in await runs.promotions(home.database)].count(2) <= 1


async def test_an_owner_who_went_back_to_the_stock_model_is_overruled_by_no_night_and_no_job_noted_again(
    home: Home,
) -> None:
    await home.night()
    (job,) = await home.voice.jobs()
    async with home.database.transaction():
        await runs.serve(home.database, None, "rollback", "by /rollback", now())
    await note_version(home.database, home.voice, job, [])
    assert len(await runs.promotions(home.database)) == 2, "noted twice is noted once"
    await more_history(home.settings.likeme_home, 24)
    assert (await home.night()).outcome == "few"
    assert await home.serving() is None


async def test_a_night_waits_a_day_for_a_model_server_and_then_says_so(home: Home) -> None:
    gone = Voice("http://127.0.0.1:9", "")
    work = home.work()
    work.voice = gone
    begun = await home.begin()
    with pytest.raises(ModelError, match="does not answer"):
        await work.do(begun)
    assert (await nights.find(home.database, begun.night_id)).step == "fetched"
    work.now = lambda: now() + timedelta(hours=25)
    ended = await work.do(await nights.find(home.database, begun.night_id))
    assert (ended.outcome, "does not answer" in ended.reason) == ("failed", True)
    await gone.close()


HOLDER = (
    sys.executable,
    "-c",
    "import sys, time; from pathlib import Path; from bot.night import alone; from bot.settings import Settings\n"
    "with alone(Settings(likeme_home=Path(sys.argv[1]))): print('held', flush=True); time.sleep(60)",
)


async def test_two_nights_never_overlap_whoever_begins_them(few: Settings) -> None:
    with night.alone(few):
        with pytest.raises(BadInput, match="already"), night.alone(few):
            pass
        refused = await asyncio.create_subprocess_exec(*HOLDER, str(few.likeme_home), stdout=PIPE, stderr=PIPE)
        _, said = await refused.communicate()
        assert b"already" in said
    holder = await asyncio.create_subprocess_exec(*HOLDER, str(few.likeme_home), stdout=PIPE)
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    with pytest.raises(BadInput), night.alone(few):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    await holder.wait()
    with night.alone(few):
        pass


# With the bot


def services_of(bot: App) -> Services:
    services = bot.bot_data["services"]
    assert isinstance(services, Services)
    return services


def is_report(message: object) -> bool:
    return str(getattr(message, "text", "")).startswith("This night's")


async def test_nightly_now_learns_and_reports_once_in_the_chat(
    sandbox: Sandbox, few: Settings, owner_hears: Listener
) -> None:
    world = sandbox.world
    async with running(few) as bot:
        off = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/nightly"))
        assert "do not learn at night" in off.text
        told = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/nightly now"), is_report)
        assert "version 1, speaks" in told.text
        assert "held-out loss" in told.text and "from the base model" in told.text and "$" in told.text
        told = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/nightly 4:15"))
        assert "every night at 04:15" in told.text and "version 1, speaks" in told.text
        wrong = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/nightly soon"))
        assert wrong.text.startswith("/nightly on, off, now")
        nightly_ = services_of(bot).nightly
        assert nightly_ is not None
        await nightly_.look()
    async with running(few) as bot:
        nightly_ = services_of(bot).nightly
        assert nightly_ is not None
        await nightly_.look()
    assert len([m for m in world.messages.values() if is_report(m)]) == 1


async def test_train_cancel_and_the_night_know_of_each_other(
    sandbox: Sandbox, few: Settings, owner_hears: Listener
) -> None:
    world = sandbox.world
    async with running(few) as bot:
        services = services_of(bot)
        await owner_hears.after(lambda: world.send(OWNER, OWNER, "/nightly now"), lambda m: "I am learning" in m.text)
        assert services.nightly is not None
        while services.nightly.work is not None and services.nightly.work.job_id is None:
            await asyncio.sleep(0.01)
        busy = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/train"))
        assert "night's learning is under way" in busy.text
        drafted = await owner_hears.after(lambda: world.send(OWNER, OWNER, "hello?"), lambda m: bool(m.buttons))
        assert drafted.buttons
        ended = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/cancel"), is_report)
        assert "was cancelled" in ended.text
        started = await owner_hears.after(
            lambda: world.send(OWNER, OWNER, "/train"), lambda m: "examples to train on" in m.text, edits=True
        )
        refused = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/nightly now"))
        assert "running already" in refused.text
        while services.training_job is None:
            await asyncio.sleep(0.01)
        gone = await owner_hears.after(
            lambda: world.tap(OWNER, started, "cancel"), lambda m: "cancelled" in m.text, edits=True
        )
        assert gone.buttons == []


async def test_the_report_waits_until_quiet_hours_are_over_and_a_lost_one_is_not_doubled(
    sandbox: Sandbox, few: Settings, owner_hears: Listener
) -> None:
    world = sandbox.world
    async with running(few) as bot:
        await owner_hears.after(lambda: world.send(OWNER, OWNER, "/start"))
        services = services_of(bot)
        async with services.database.transaction():
            await secretary.set_preference(services.database, "quiet", "0-8")
            begun = await nights.begin(services.database, None, now())
            await nights.end(services.database, begun.night_id, End("failed", "the disk is full"), now())
        clock = datetime(2026, 6, 1, 5, 0, tzinfo=UTC)
        at_five = nightly.Nightly(services, lambda: clock)
        services.nightly = at_five
        few_ = few.model_copy(update={"timezone": "UTC"})
        services.settings = few_
        await at_five.look()
        assert not [m for m in world.messages.values() if is_report(m)]
        clock = datetime(2026, 6, 1, 8, 1, tzinfo=UTC)
        told = await owner_hears.after(lambda: services.spawn(_looked(at_five), "a look"), is_report)
        assert "the disk is full" in told.text
        await at_five.look()
        assert len([m for m in world.messages.values() if is_report(m)]) == 1


async def _looked(it: nightly.Nightly) -> None:
    await it.look()


async def test_a_due_night_begins_by_itself_once(sandbox: Sandbox, few: Settings, owner_hears: Listener) -> None:
    settings = few.model_copy(update={"nightly": "03:30", "timezone": "Europe/Berlin"})
    async with running(settings) as bot:
        services = services_of(bot)
        clock = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
        at = nightly.Nightly(services, lambda: clock)
        services.nightly = at
        async with services.database.transaction():
            await secretary.set_preference(services.database, "nightly_since", clock.isoformat())
        assert not await at.look()
        clock = datetime(2026, 6, 4, 9, 0, tzinfo=UTC)  # it slept for three nights
        assert await at.look()
        assert not await at.look(), "one at a time"
        assert services.training is not None
        await services.training
        clock += timedelta(hours=1)
        assert not await at.look(), "and once"
        (done,) = await nights.latest(services.database, 5)
        assert done.due_at == datetime(2026, 6, 4, 1, 30, tzinfo=UTC)
        clock = datetime(2026, 6, 5, 1, 31, tzinfo=UTC)
        assert await at.look()
        await services.training


@pytest.mark.long
async def test_a_night_in_the_terminal_killed_four_times_ends_in_one_voice(few: Settings, tiny_folder: Path) -> None:
    """`likeme nightly --now` and its model server, killed with a real signal at four points of a night."""
    home = few.likeme_home
    environment = {**os.environ, "BASE_MODEL": str(tiny_folder), "NIGHTLY_PAIRS": "8", "MODEL_URL": ""}
    arguments = ("-m", "bot", "nightly", "--now", "--home", str(home), "--json")

    async def started() -> Process:
        return await asyncio.create_subprocess_exec(sys.executable, *arguments, env=environment, stdout=PIPE)

    async def standing() -> tuple[str | None, int]:
        async with Database.open(home / "history.db") as database:
            left = await nights.unfinished(database)
        steps = [line for path in (home / "runs").glob("*/events.jsonl") for line in path.read_text().splitlines()]
        return left.step if left else None, len(steps)

    for reached in (0, 5, 30, 59):  # as the night begins, in its training twice, in its evaluation
        process = await started()
        while process.returncode is None:
            step, told = await standing()
            if step is not None and told >= reached:
                process.kill()
                break
            await asyncio.sleep(0.02)
        assert await process.wait() == -signal.SIGKILL, f"it was over before line {reached}"
        while (home / "serve.json").exists():  # its model server follows it
            await asyncio.sleep(0.1)
    last = await started()
    assert last.stdout is not None
    ended = json.loads(await last.stdout.read())
    assert (ended["step"], ended["number"]) == ("ended", 1), ended
    async with Database.open(home / "history.db") as database:
        assert [version.number for version in await runs.versions(database)] == [1]
        assert len(await runs.promotions(database)) <= 1
        assert len(await nights.latest(database, 9)) == 1
        assert await nights.unfinished(database) is None
        row = await database.row("PRAGMA integrity_check")
    assert row is not None and row[0] == "ok"
    assert len(list((home / "runs").glob("ftjob-*"))) == 1
