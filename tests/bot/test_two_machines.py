"""The bot on one machine, `likeme serve` on another: two network namespaces, and the cable between them is pulled."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr

from bot import voice as voice_page
from bot import waiting
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from bot.texts import words
from bot.voice import Voice
from storage import secretary
from storage.database import Database
from storage.errors import ModelError
from tests.bot.conftest import Listener, running
from tests.sandbox_fixtures import ANNA, OWNER

pytestmark = pytest.mark.slow
KEY = "the-same-long-word-on-both-sides"


@dataclass(frozen=True, slots=True)
class Cable:
    """A veth pair: this end in our namespace, the other in the model's."""

    namespace: str
    ours: str
    theirs: str

    def pull(self) -> None:
        ip("-n", self.namespace, "link", "set", self.theirs, "down")

    def put_back(self) -> None:
        ip("-n", self.namespace, "link", "set", self.theirs, "up")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def cable() -> Iterator[Cable]:
    number = os.getpid() % 10_000
    made = Cable(f"likeme-{number}", f"lm{number}a", f"lm{number}b")
    try:
        ip("netns", "add", made.namespace)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces can't be made here: {getattr(error, 'stderr', error)}")
    net = f"10.231.{number % 250}"
    try:
        ip("link", "add", made.ours, "type", "veth", "peer", "name", made.theirs, "netns", made.namespace)
        ip("addr", "add", f"{net}.1/30", "dev", made.ours)
        ip("link", "set", made.ours, "up")
        ip("-n", made.namespace, "addr", "add", f"{net}.2/30", "dev", made.theirs)
        made.put_back()
        yield made
    finally:
        subprocess.run(["ip", "link", "del", made.ours], check=False, capture_output=True)
        ip("netns", "del", made.namespace)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second or two where it is half a minute."""
    quick = [(level, name, 1000 if value > 1000 else 1) for level, name, value in voice_page._KEEPALIVE]
    monkeypatch.setattr(voice_page, "_KEEPALIVE", quick)
    monkeypatch.setattr(voice_page, "CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.5)


@pytest_asyncio.fixture
async def model_url(cable: Cable, tiny_folder: Path, tmp_path: Path) -> AsyncIterator[str]:
    """A real model server in the other namespace."""
    address = f"10.231.{os.getpid() % 10_000 % 250}.2"
    serve = (sys.executable, "-m", "training", "--home", str(tmp_path / "far"), "--host", address, "--port", "8765")
    process = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", cable.namespace, *serve),
        env={**os.environ, "MODEL_TOKEN": KEY, "BASE_MODEL": str(tiny_folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    far = Voice(f"http://{address}:8765", KEY)
    async with asyncio.timeout(120):
        while await far.health() is None:
            assert process.returncode is None
            await asyncio.sleep(0.1)
    await far.ready()
    await far.close()
    yield far.url
    process.terminate()
    await process.wait()


@pytest_asyncio.fixture
async def settings(settings: Settings) -> Settings:
    """The bot knows the far server's token."""
    return settings.model_copy(update={"model_token": SecretStr(KEY)})


async def test_a_link_that_is_down_for_a_while_loses_nothing(
    sandbox: Sandbox, cable: Cable, settings: Settings, owner_hears: Listener
) -> None:
    stranger = Voice(settings.model_url, "another word")
    with pytest.raises(ModelError, match="MODEL_TOKEN on both sides"):
        await stranger.base_model()
    await stranger.close()
    world = sandbox.world
    async with running(settings):
        await owner_hears.after(lambda: world.send(OWNER, OWNER, "/start"))
        await owner_hears.after(lambda: world.connect(OWNER))
        card = await owner_hears.after(lambda: world.write(ANNA, OWNER, "there?"), lambda m: bool(m.buttons))
        assert "there?" in card.text

        cable.pull()
        told = await owner_hears.after(lambda: world.write(ANNA, OWNER, "and now?"), lambda m: "and now?" in m.text)
        assert words("en")["card_away"] in told.text
        status = await owner_hears.after(
            lambda: world.send(OWNER, OWNER, "/status"), lambda m: m.text.startswith("History")
        )
        assert "Model server: not there" in status.text
    async with running(settings):  # a restart meanwhile
        async with Database.open(settings.likeme_home / "history.db") as database:
            waits = await secretary.waiting_in(database, ANNA)
        assert waits is not None
        away = words("en")["card_away"]
        card = await owner_hears.after(
            cable.put_back, lambda m: "and now?" in m.text and away not in m.text, edits=True
        )
        assert card.message_id == told.message_id, "the drafts take the notice's place"


async def test_a_link_that_goes_down_while_an_answer_is_awaited_is_noticed(cable: Cable) -> None:
    address = f"10.231.{os.getpid() % 10_000 % 250}.2"
    listen = f"import socket; l = socket.create_server(({address!r}, 8765)); c = l.accept(); print('in', flush=True)"
    process = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", cable.namespace, sys.executable, "-c", f"{listen}; l.accept()"),
        stdout=asyncio.subprocess.PIPE,
    )
    far = Voice(f"http://{address}:8765", KEY)
    await asyncio.sleep(1)
    asked = asyncio.create_task(far.replies("any", [{"role": "user", "content": "there?"}], 1))
    assert process.stdout is not None
    assert await process.stdout.readline() == b"in\n"
    cable.pull()
    async with asyncio.timeout(60):  # without keepalive it would wait for its 600 seconds
        with pytest.raises(ModelError, match="does not answer"):
            await asked
    process.kill()
    await process.wait()
    await far.close()
