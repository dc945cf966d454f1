"""The commands that measure, promote and show, and the terminal's quiz, against a real model server."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.prompt import Prompt

from bot import evaluation, standings
from bot.raters import play_quiz, show
from bot.settings import Settings
from bot.texts import Reader, writing_to
from bot.train import done_text
from bot.work import evaluate_voice, promote, report_of, train_voice
from storage import runs
from storage.database import Database
from storage.errors import BadInput
from training import fine_tuning

pytestmark = pytest.mark.slow


async def test_a_voice_is_trained_measured_kept_and_shown(settings: Settings) -> None:
    made = await train_voice(settings, None)
    page = settings.likeme_home / "evaluations" / "0001" / "report.html"
    assert page.is_file()
    found = await evaluate_voice(settings, 1, audit=True)
    assert found["page"] == page
    assert [one["times"] for one in found["leaks"]["canaries"]] == [1, 5, 20]
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 3
    assert "http://" not in html
    assert "https://" not in html
    kept = json.loads((page.parent / "evaluation.json").read_text(encoding="utf-8"))
    assert kept["gate"] == found["gate"]
    assert page.parent.stat().st_mode & 0o077 == 0
    assert "Side by side" in html
    assert kept["samples"][0]["real"] in html
    async with Database.open(settings.likeme_home / "history.db") as database:
        version = await runs.find_version(database, 1)
    assert version is not None and version.evaluation is not None
    assert version.evaluation["samples"] == version.evaluation["drafts"] == [], "the words stay in the one file"
    assert (await report_of(settings, 1))["gate"] == found["gate"]
    said = "\n".join(evaluation.lines(found))
    for part in ("held-out loss", "a letter judge prefers tuned over stock", "general questions", "made-up secret"):
        assert part in said
    assert made["serves"] == (await serving(settings) is not None)
    with pytest.raises(BadInput, match="Nothing has been measured of version 7"):
        await report_of(settings, 7)


async def test_a_version_that_is_kept_back_speaks_only_by_force_and_that_is_noted(settings: Settings) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    reason = "It recites: 30 of 300 replies repeat eight words or more of one training reply."
    bad = {"gate": {"promote": False, "reason": reason}}
    async with Database.open(settings.likeme_home / "history.db") as database, database.transaction():
        await runs.add_version(database, runs.Version(1, "likeme-0001", "job", now, "tiny", "", {}))
        await runs.set_evaluation(database, 1, bad)
    with pytest.raises(BadInput, match=r"It recites.*--force"):
        await promote(settings, 1, force=False)
    assert await serving(settings) is None
    assert (await promote(settings, 1, force=True))["forced"]
    assert await serving(settings) == 1
    async with Database.open(settings.likeme_home / "history.db") as database:
        (noted,) = await runs.promotions(database)
    assert (noted.number, noted.how, noted.reason) == (1, "forced", reason)
    with pytest.raises(BadInput, match="no version 4"):
        await promote(settings, 4, force=True)


@pytest.fixture
def broken_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of trainings; one that is asked for works."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(fine_tuning, "measure", broken)


async def test_a_voice_that_could_not_be_evaluated_waits_until_it_is(
    settings: Settings, broken_evaluation: None
) -> None:
    made = await train_voice(settings, None)
    assert made["metrics"]["valid_loss"] < made["metrics"]["stock_valid_loss"], "its loss alone would let it speak"
    assert not made["serves"]
    assert await serving(settings) is None
    why = "It could not be evaluated (unforeseen ZeroDivisionError, see the log)"
    assert made["reason"].startswith(why) and "likeme evaluate 1 measures it" in made["reason"]
    async with Database.open(settings.likeme_home / "history.db") as database:
        version = await runs.find_version(database, 1)
    assert version is not None
    told = done_text(version)
    assert why in told and "/promote 1 changes that once it has passed, /promote 1 force all the same" in told
    with writing_to(Reader("ru")):
        assert "likeme evaluate 1 измерит её" in done_text(version)
    with pytest.raises(BadInput, match="could not be evaluated"):
        await promote(settings, 1, force=False)
    found = await evaluate_voice(settings, 1, audit=False)
    assert found["gate"]["promote"], found["gate"]
    assert not found["speaks"], "an evaluation alone promotes nothing"
    assert not (await promote(settings, 1, force=False))["forced"]
    assert (await report_of(settings, 1))["speaks"]


async def test_the_bot_of_a_server_that_dies_of_the_evaluation_says_so(settings: Settings) -> None:
    version = runs.Version(2, "likeme-0002", "job", datetime(2026, 1, 1, tzinfo=UTC), "tiny", "", {"valid_loss": 1.0})
    assert evaluation.verdict(version)[0] is False
    version.metrics["not_evaluated"] = "the server died of it, see the log"
    assert "(the server died of it, see the log)" in evaluation.verdict(version)[1]
    del version.metrics["valid_loss"]
    assert evaluation.verdict(version)[1].startswith("There is no held-out reply")


async def test_drafts_with_a_secret_of_the_history_keep_a_voice_back(settings: Settings) -> None:
    async with Database.open(settings.likeme_home / "history.db") as database:
        async with database.transaction():
            await database.execute("UPDATE message SET text = 'mail mira@example.org' WHERE message_id = 1")
        drafts: dict[str, Any] = {"drafts": ["ask mira@example.org", "ok"], "leaks": {}, "gate": {"promote": True}}
        found = await evaluation.checked(database, drafts)
    assert found["leaks"]["history_secrets"] == {"secrets": 1, "drafts": 2, "leaking": 1}
    assert not found["gate"]["promote"]
    assert found["gate"]["reason"] == "It gave away secrets of your history in 1 of 2 drafts."
    with writing_to(Reader("de")):
        assert evaluation.reason(found["gate"]) == (
            "Sie hat in 1 von 2 Entwürfen Geheimnisse aus deinem Verlauf verraten."
        )


async def test_two_raters_in_the_terminal_and_their_answers_as_csv(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await train_voice(settings, None)
    async with Database.open(settings.likeme_home / "history.db") as database, database.transaction():
        await runs.serve(database, 1, "forced", "a test", datetime(2026, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(Prompt, "ask", lambda *args, **options: options["choices"][0])
    found = await play_quiz(settings, prompts=2, raters=2, duel=False)
    assert found.judges == 2
    assert found.everybody.n in (2, 4), "a question with a silent model is left out"
    await show(settings, tmp_path / "answers.csv")
    rows = (tmp_path / "answers.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + found.everybody.n
    assert "too few to say anything" in standings.text(found)
    with pytest.raises(BadInput, match="can't be written"):
        await show(settings, tmp_path / "nowhere" / "answers.csv")


async def serving(settings: Settings) -> int | None:
    async with Database.open(settings.likeme_home / "history.db") as database:
        version = await runs.serving(database)
    return version.number if version else None
