"""Telegram or the model server away, refusing, in the way of another program: told, waited out, nothing lost."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from bot.sandbox.server import Sandbox
from bot.sandbox.things import Message
from storage import history
from tests.bot.conftest import BOT, until
from tests.desk_fixtures import Desk, labels
from tests.sandbox_fixtures import ANNA, BORIS, OWNER, TOKEN
from tests.voice_fixtures import Script
from tests.wire import Cable

pytestmark = pytest.mark.slow


@pytest.fixture
def model_url(scripted_url: str) -> str:
    """A model that says what a test wants."""
    return scripted_url


@pytest.fixture
def telegram_url(cable: Cable) -> str:
    """The bot is behind a cable."""
    return cable.url


def from_bot(desk: Desk, holds: str) -> list[Message]:
    """What the bot has said to the owner that holds these words."""
    return [m for m in desk.world.messages.values() if (m.sender, m.chat_id) == (BOT, OWNER) and holds in m.text]


async def test_a_model_server_that_is_dead_stands_on_the_cards_and_the_drafts_take_their_places(
    desk: Desk, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.waiting.AGAIN_SECONDS", 0.3)
    script.failing = True
    first = await desk.card(ANNA, "friday?")
    second = await desk.card(BORIS, "and you?")
    assert "No drafts yet: the model does not answer." in first.text
    assert "friday?" in first.text
    assert labels(first) == ["edit", "again", "skip"], "he can answer without it"
    await asyncio.sleep(1)
    script.failing = False
    await until(lambda: labels(first)[:3] == labels(second)[:3] == ["1", "2", "3"])
    assert "No drafts yet" not in first.text + second.text
    assert len(from_bot(desk, "friday?")) == len(from_bot(desk, "and you?")) == 1
    assert len(from_bot(desk, "The model is away.")) == 1, "why, once for both"
    desk.world.tap(OWNER, first, "1")
    await until(lambda: desk.said_to(ANNA))


async def test_an_hour_without_telegram_loses_nothing(desk: Desk, cable: Cable, script: Script) -> None:
    script.delay_seconds = 0.3
    desk.world.write(ANNA, OWNER, "before the outage?")
    await until(lambda: script.asked)
    await cable.cut()  # the drafts are drawn, the card can't be shown
    desk.world.write(BORIS, OWNER, "in the outage?")
    await asyncio.sleep(2.5)
    assert from_bot(desk, "outage?") == []
    await cable.mend()
    await until(lambda: from_bot(desk, "before the outage?") and from_bot(desk, "in the outage?"))
    assert len(from_bot(desk, "before the outage?")) == len(from_bot(desk, "in the outage?")) == 1
    kept = await history.messages(desk.services.database, BORIS)
    assert [m.text for m in kept] == ["in the outage?"]


async def test_floods_and_bad_gateways_delay_a_card_and_no_more(desk: Desk) -> None:
    desk.sandbox.faults.flood("sendMessage", 1, times=5)
    desk.sandbox.faults.fail("sendMessage", 502, "Bad Gateway", times=2)
    await desk.card(ANNA, "friday?")
    assert len(from_bot(desk, "friday?")) == 1
    assert not desk.sandbox.faults.planned["sendMessage"]


async def test_another_program_with_the_same_token_is_told_once_and_the_bot_keeps_trying(desk: Desk) -> None:
    conflict = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
    desk.sandbox.faults.fail("getUpdates", 409, conflict, times=2)
    await until(lambda: from_bot(desk, "Another program fetches this bot's messages too."))
    await desk.card(ANNA, "friday?")
    assert len(from_bot(desk, "Another program")) == 1
    assert "Stop the other likeme" in from_bot(desk, "Another program")[0].text


async def start(url: str, home: Path, token: str = TOKEN) -> Process:
    environment = {
        **os.environ, "BOT_TOKEN": token, "OWNER_ID": str(OWNER), "BOT_API_URL": url, "MODEL_URL": "http://127.0.0.1:9",
        "LIKEME_HOME": str(home),
    }  # fmt: skip
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", "run", env=environment, stdout=PIPE, stderr=PIPE
    )


async def ended(process: Process) -> tuple[int | None, str]:
    async with asyncio.timeout(60):
        out, error = await process.communicate()
    return process.returncode, (out + error).decode()


async def test_a_bot_that_is_stopped_while_telegram_does_not_answer_ends(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.world.send(OWNER, OWNER, "/help")
    process = await start(sandbox.url, tmp_path)
    await sandbox.world.wait_for(lambda e: e.kind == "message" and e.what.sender == BOT, 40)
    sandbox.faults.fail("sendMessage", 502, "Bad Gateway", times=99)
    sandbox.world.send(OWNER, OWNER, "/help")
    async with asyncio.timeout(20):
        while len(sandbox.faults.planned["sendMessage"]) > 97:
            await asyncio.sleep(0.05)
    process.terminate()
    code, _ = await ended(process)
    assert code == 0
    assert len(sandbox.faults.planned["sendMessage"]) > 90, "it did not wait for Telegram"


async def test_a_token_that_telegram_refuses_ends_the_bot_with_one_line(sandbox: Sandbox, tmp_path: Path) -> None:
    wrong = TOKEN.replace("A", "B")
    code, said = await ended(await start(sandbox.url, tmp_path, wrong))
    assert code == 5
    assert said.splitlines()[-1] == (
        "Telegram refused BOT_TOKEN: it was revoked or mistyped. Copy it again from @BotFather into .env."
    )
    assert wrong not in said


async def test_a_bot_that_starts_without_telegram_waits_and_a_token_revoked_later_ends_it(
    sandbox: Sandbox, cable: Cable, tmp_path: Path
) -> None:
    await cable.cut()
    sandbox.world.send(OWNER, OWNER, "/help")
    process = await start(cable.url, tmp_path)
    await asyncio.sleep(3)
    await cable.mend()
    await sandbox.world.wait_for(lambda e: e.kind == "message" and e.what.sender == BOT, 40)
    sandbox.faults.fail("getUpdates", 401, "Unauthorized", times=9)
    code, said = await ended(process)
    assert code == 5
    assert said.splitlines()[-1].startswith("Telegram refused BOT_TOKEN")
    assert TOKEN not in said
