"""`likeme setup` as a newcomer walks it: a real process, the sandbox's Telegram over both wires."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dotenv
import pytest

from bot import machine
from bot.account import SESSION
from bot.sandbox.mtproto.accounts import TwoStep
from bot.sandbox.mtproto.server import API_HASH, API_ID, MtprotoServer
from bot.sandbox.sample import write_export
from bot.sandbox.server import Sandbox
from bot.texts import words
from tests.bot.conftest import Listener
from tests.bot.test_login import Screen
from tests.mtproto_fixtures import PASSWORD, PHONE
from tests.sandbox_fixtures import ANNA, OWNER, TOKEN

pytestmark = pytest.mark.slow
SETTINGS = ("BOT_TOKEN", "OWNER_ID", "API_ID", "API_HASH", "MODEL_URL", "MODEL_TOKEN", "BASE_MODEL", "QUANTIZATION")


@pytest.fixture
def environment(sandbox: Sandbox, mtproto: MtprotoServer, tmp_path: Path) -> dict[str, str]:
    """An empty folder, and where the sandbox is; no answer of the walk stands in it."""
    key = tmp_path / "server.pem"
    key.write_text(mtproto.public_key)
    inherited = {name: value for name, value in os.environ.items() if name not in (*SETTINGS, "LIKEME_HOME")}
    return {
        **inherited,
        "BOT_API_URL": sandbox.url,
        "MTPROTO_SERVER": f"127.0.0.1:{mtproto.port}",
        "MTPROTO_KEY": str(key),
        "COLUMNS": "200",
    }


class Piped:
    """The walk with a pipe at its stdin: what it says is awaited, then answered."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.text, self._seen = process, "", 0

    async def answer(self, question: str, line: str) -> None:
        await self.says(question)
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()

    async def says(self, what: str) -> None:
        assert self.process.stderr is not None
        async with asyncio.timeout(60):
            while (place := self.text.find(what, self._seen)) < 0:
                piece = await self.process.stderr.read(4096)
                assert piece, f"it has ended without {what!r}:\n{self.text}"
                self.text += piece.decode()
        self._seen = place + len(what)


@asynccontextmanager
async def walking(folder: Path, environment: dict[str, str], *command: str) -> AsyncIterator[Piped]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", *(command or ("setup",)), cwd=folder, env=environment,
        stdin=pipe, stdout=asyncio.subprocess.DEVNULL, stderr=pipe,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs don't hear it
    )  # fmt: skip
    try:
        yield Piped(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def answers(folder: Path) -> dict[str, str | None]:
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    return dotenv.dotenv_values(folder / ".env")


async def test_every_answer_is_tried_and_a_stop_loses_none(
    sandbox: Sandbox, environment: dict[str, str], scripted_url: str, tmp_path: Path, owner_hears: Listener
) -> None:
    world = sandbox.world
    write_export(tmp_path / "result.json")
    async with walking(tmp_path, environment) as walk:
        await walk.answer("The token:", "4242:" + "B" * 35)
        await walk.says("Telegram knows no such token")
        await walk.answer("The token:", TOKEN)
        await walk.says("write anything to @likeme_test_bot")
        walk.process.send_signal(signal.SIGINT)
        await walk.says("likeme setup goes on from there")
        assert await walk.process.wait() == 130
    assert answers(tmp_path)["BOT_TOKEN"] == TOKEN

    async with walking(tmp_path, environment) as walk:
        await walk.says("✓ @likeme_test_bot answers")
        await walk.says("write anything")
        world.send(ANNA, ANNA, "hello?")
        await walk.answer(f"Anna (user {ANNA}) has written", "n")
        await walk.says("Waiting for you")
        welcome = asyncio.create_task(owner_hears.after(lambda: world.send(OWNER, OWNER, "/start")))
        await walk.answer(f"Owner (user {OWNER}) has written", "y")
        assert (await welcome).text == words("en")["setup_owner"].format(name="Owner")
        await walk.answer("API_ID (Enter", str(API_ID))
        await walk.answer("API_HASH", "f" * 32)
        await walk.says("API_ID and API_HASH do not belong together")
        await walk.answer("API_ID (Enter", str(API_ID))
        await walk.answer("API_HASH", API_HASH)
        await walk.answer("Sign in to your own account now?", "n")
        await walk.answer("Path of result.json", "nowhere.json")
        await walk.says("nowhere.json does not exist")
        assert walk.process.stdin is not None
        walk.process.stdin.close()  # whoever answered has gone
        await walk.says("stdin has ended. What you have answered is in .env")
        assert await walk.process.wait() == 2
    kept = answers(tmp_path)
    assert (kept["OWNER_ID"], kept["API_ID"], kept["API_HASH"]) == (str(OWNER), str(API_ID), API_HASH)

    async with walking(tmp_path, environment) as walk:
        await walk.says(f"✓ it writes to user {OWNER}")
        await walk.says("✓ API_ID and API_HASH belong together")
        await walk.answer("Sign in", "n")
        await walk.answer("Path of result.json", "result.json")
        await walk.answer("Its URL (Enter: here)", "http://127.0.0.1:9")
        await walk.answer("Its token", "any")
        await walk.answer("The model's name", "")
        await walk.says("does not answer")
        await walk.answer("Its URL (Enter: here)", scripted_url)
        await walk.answer("Its token", "any")
        await walk.answer("The model's name", "")
        await walk.says("All set.")
        assert await walk.process.wait() == 0
    async with walking(tmp_path, environment, "run") as bot:
        await bot.says("the bot is up")
        status = await owner_hears.after(lambda: world.send(OWNER, OWNER, "/status"))
        assert "2,0" in status.text or "messages in 28 chats" in status.text
        bot.process.terminate()


async def test_at_a_terminal_it_signs_in_and_shows_no_secret(
    sandbox: Sandbox, mtproto: MtprotoServer, environment: dict[str, str], tmp_path: Path
) -> None:
    world = sandbox.world
    known = mtproto.accounts[PHONE]
    known.two_step = TwoStep(PASSWORD)
    world.write(OWNER, ANNA, "are you coming?")
    world.write(ANNA, OWNER, "yes!")
    screen = Screen()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "setup", "--home", "here"),
        stdin=screen.theirs, stdout=screen.theirs, stderr=screen.theirs, cwd=tmp_path, env=environment,
        start_new_session=True,
    )  # fmt: skip

    codes: list[str] = []

    def written() -> str:
        return "y"

    def sent() -> str:
        codes.append(known.last_code)
        return codes[-1]

    await screen.answer("The token", lambda: TOKEN)
    async with asyncio.timeout(60):
        while "write anything" not in screen.text:
            await asyncio.sleep(0.02)
    world.send(OWNER, OWNER, "it's me")
    await screen.answer("Is that you?", written)
    await screen.answer("API_ID (Enter", lambda: str(API_ID))
    await screen.answer("API_HASH", lambda: API_HASH)
    await screen.answer("Sign in to your own account now?", written)
    await screen.answer("phone number", lambda: f"+{PHONE}")
    await screen.answer("The code", sent)
    await screen.answer("two-step password", lambda: PASSWORD)
    await screen.answer("Fetch it from your account now?", written)
    await screen.answer("Its URL (Enter: here)", lambda: "")
    assert await asyncio.wait_for(process.wait(), 60) == 0, screen.text
    await asyncio.sleep(0.1)
    assert "2 new messages" in screen.text
    for secret in (TOKEN, API_HASH, PASSWORD, *codes):
        assert secret not in screen.text
    screen.close()
    kept = answers(tmp_path)
    assert kept["LIKEME_HOME"] == "here"
    assert kept["BASE_MODEL"] == machine.choose(machine.cards()).base_model
    assert (tmp_path / "here" / SESSION).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("told", "base_model", "quantization"),
    [
        ("NVIDIA GeForce RTX 3090, 24576, 24000, 570.1", "Qwen/Qwen3-8B", ""),
        ("Tiny, 2048, 2000, 5\nNVIDIA GeForce RTX 3060, 12288, 12000, 570.1", "Qwen/Qwen3-8B", "nf4"),
        ("NVIDIA GeForce GTX 1650, 4096, 4000, 570.1", "smollm2", ""),
        ("", "smollm2", ""),
    ],
)
def test_the_model_is_chosen_by_what_the_largest_card_holds(
    told: str, base_model: str, quantization: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text(f"#!/bin/sh\nprintf '%s\\n' '{told}'\n" if told else "#!/bin/sh\nexit 9\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    chosen = machine.choose(machine.cards())
    assert (chosen.base_model, chosen.quantization) == (base_model, quantization)
