"""kill -9 in the middle of sending in the owner's name: nothing twice, nothing lost."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from bot.sandbox.server import Sandbox
from tests.bot.conftest import Listener, small_history, until
from tests.desk_fixtures import labels
from tests.sandbox_fixtures import ANNA, BORIS, OWNER, TOKEN
from tests.voice_fixtures import Script

pytestmark = pytest.mark.slow


async def start(environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "bot", "run", env=environment)


async def kill(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGKILL)
    await process.wait()


async def test_a_bot_killed_between_two_lines_sends_the_rest_once_and_only_when_told(
    sandbox: Sandbox, script: Script, scripted_url: str, tmp_path: Path
) -> None:
    lines = ["a first line", "then a second one", "and the third"]
    script.reply = lambda asked, i: ["\n".join(lines), "what", "well then"][i % 3]
    await small_history(tmp_path)
    environment = {
        **os.environ,
        "BOT_TOKEN": TOKEN,
        "OWNER_ID": str(OWNER),
        "BOT_API_URL": sandbox.url,
        "MODEL_URL": scripted_url,
        "LIKEME_HOME": str(tmp_path),
        "BURST_SECONDS": "0.1",
        "LOG_LEVEL": "WARNING",
    }
    world, hears = sandbox.world, Listener(sandbox, OWNER)
    place = world.between(OWNER, ANNA).chat_id

    def said() -> list[str]:
        return [m.text for m in world.history(place) if m.sender == OWNER]

    world.send(OWNER, OWNER, "/start")
    process = await start(environment)
    try:
        await hears.after(lambda: None, lambda m: "Hello" in m.text)
        await hears.after(lambda: world.connect(OWNER), lambda m: "connected" in m.text)
        card = await hears.after(lambda: world.write(ANNA, OWNER, "friday?"), lambda m: bool(m.buttons))
        number = next(i for i, part in enumerate(card.text.split("\n\n")) if lines[0] in part)
        world.tap(OWNER, card, str(number))
        await until(said)
    finally:
        await kill(process)
    before = len(said())
    assert 1 <= before < 3, "the human pauses leave room for the kill"
    world.write(BORIS, OWNER, "and you?")  # while nobody is there
    process = await start(environment)
    try:
        await until(lambda: labels(card) == ["send the rest", "skip"])
        await until(lambda: any(m.text.startswith("Boris") and m.buttons for m in world.messages.values()))
        assert len(said()) == before, "nothing goes out by itself"
        world.tap(OWNER, card, "send the rest")
        world.tap(OWNER, card, "send the rest")
        await until(lambda: "Sent to Anna." in card.text)
        assert said() == lines
    finally:
        await kill(process)
