"""The bot's model server when it, or the bot, is killed: there is always one again, and never two."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from bot.model_process import model_server
from bot.settings import Settings
from tests.bot.conftest import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

BOT = """
import asyncio, sys
from pathlib import Path
from bot.model_process import model_server
from bot.settings import Settings

async def main():
    async def tell(what): pass
    async with model_server(Settings(likeme_home=Path(sys.argv[1])), tell):
        print("up", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def noted(home: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((home / "serve.json").read_text())
    return found


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    monkeypatch.setenv("BASE_MODEL", str(tiny_folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


async def test_a_bot_that_was_killed_finds_a_server_of_its_own_when_it_is_back(tmp_path: Path) -> None:
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", BOT, str(tmp_path), stdout=PIPE)
    assert killed.stdout is not None
    assert await killed.stdout.readline() == b"up\n"
    orphan = noted(tmp_path)["pid"]
    killed.send_signal(signal.SIGKILL)
    await killed.wait()
    async with model_server(Settings(likeme_home=tmp_path)) as voice:
        await voice.ready()
        assert noted(tmp_path)["pid"] != orphan
        await asyncio.sleep(2)  # the orphan has looked for its parent by now
        assert await voice.health() is not None


async def test_a_borrowed_server_that_dies_is_replaced_at_the_same_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.model_process.LOOK_SECONDS", 0.1)
    started: Process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "training", "--home", str(tmp_path), "--port", "0",
        env={**os.environ, "MODEL_TOKEN": "by hand"}, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    told: list[str] = []

    async def tell(what: str) -> None:
        told.append(what)

    await until((tmp_path / "serve.json").exists)
    async with model_server(Settings(likeme_home=tmp_path), tell) as voice:
        assert noted(tmp_path)["pid"] == started.pid
        started.kill()
        await started.wait()
        await until(lambda: told == ["died", "back"])
        assert await voice.base_model() == os.environ["BASE_MODEL"]
    assert not (tmp_path / "serve.json").exists(), "our own child ends with us"
