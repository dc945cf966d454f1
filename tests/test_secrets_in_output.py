"""One run of everything with planted secrets, under a umask that lets everybody read: nothing leaks, all is closed.

Tokens, hashes and the account's key may stand in no output, no log, no report; people's words in no output and no log.
"""

import asyncio
import os
import sqlite3
import stat
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from bot import account
from bot.sandbox.mtproto.server import API_HASH, MtprotoServer
from bot.sandbox.sample import write_export
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from tests.bot.conftest import BOT, small_history
from tests.mtproto_fixtures import PHONE, Answers, anybody, settings_for
from tests.sandbox_fixtures import ANNA, OWNER, TOKEN

pytestmark = pytest.mark.slow

MODEL_TOKEN = "planted-model-token-91c2"
WORDS = "zanzibar marmalade at noon"  # a friend writes it
OWN_WORDS = "mine is gooseberry then"
OPEN = stat.S_IRWXG | stat.S_IRWXO


class Run:
    """Processes whose every word goes into one folder."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self._started: list[Process] = []

    async def start(self, name: str, *arguments: str) -> Process:
        with (self._folder / f"{name}.out").open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdout=out, stderr=out, stdin=DEVNULL,
                env={**os.environ, **self._environment}, preexec_fn=lambda: os.umask(0) and None,
            )  # fmt: skip
        self._started.append(process)
        return process

    async def likeme(self, *arguments: str) -> int:
        process = await self.start(arguments[0], "-m", "bot", *arguments)
        return await asyncio.wait_for(process.wait(), 180)

    async def end(self) -> None:
        for process in self._started:
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.wait(), 60)


async def test_a_run_of_everything_says_no_secret_and_leaves_nothing_open(
    sandbox: Sandbox, tmp_path: Path, tiny_folder: Path
) -> None:
    out, home = tmp_path / "out", tmp_path / "home"
    out.mkdir()
    async with AsyncExitStack() as stack:
        telegram = await stack.enter_async_context(MtprotoServer.start(sandbox.world))
        telegram.add_account(OWNER, PHONE)
        settings = settings_for(telegram, tmp_path)
        await _sign_in(settings, telegram)
        await small_history(home)
        run = Run(out, {
            "LIKEME_HOME": str(home), "BOT_TOKEN": TOKEN, "OWNER_ID": str(OWNER), "BOT_API_URL": sandbox.url,
            "API_ID": str(settings.api_id), "API_HASH": API_HASH, "MTPROTO_SERVER": settings.mtproto_server,
            "MTPROTO_KEY": settings.mtproto_key, "MODEL_TOKEN": MODEL_TOKEN, "BASE_MODEL": str(tiny_folder),
            "BURST_SECONDS": "0.1", "LOG_LEVEL": "DEBUG", "OMP_NUM_THREADS": "1",
        })  # fmt: skip
        stack.push_async_callback(run.end)
        await _everything(run, sandbox, home, tmp_path)
    key = _auth_key(home)
    said = {path.name: path.read_bytes() for path in [*out.iterdir(), *home.glob("*.log")]}
    assert len(said) > 12
    assert sum(map(len, said.values())) > 5_000, "there was something to leak"
    reports = {str(path): path.read_bytes() for path in (home / "evaluations").rglob("*") if path.is_file()}
    assert reports
    for name, text in {**said, **reports}.items():
        for secret in (TOKEN, TOKEN.split(":")[1], API_HASH, MODEL_TOKEN, PHONE, key.hex()):
            assert secret.encode() not in text, f"{secret} stands in {name}"
        assert key not in text
    for name, text in said.items():
        for words in (WORDS, OWN_WORDS, "Question 3 2, are you there?"):
            assert words.encode() not in text, f"«{words}» stands in {name}"
    still_open = [str(path) for path in (home, *home.rglob("*")) if path.lstat().st_mode & OPEN]
    assert still_open == []


async def _sign_in(settings: Settings, telegram: MtprotoServer) -> None:
    before = os.umask(0)
    try:
        await account.login(settings, Answers(telegram.accounts[PHONE]), anybody)
    finally:
        os.umask(before)


async def _everything(run: Run, sandbox: Sandbox, home: Path, folder: Path) -> None:
    """History in, a voice trained and measured, a bot that talks, then every command that only shows."""
    world = sandbox.world
    export = folder / "result.json"
    write_export(export)
    world.write(ANNA, OWNER, WORDS)
    world.write(OWNER, ANNA, OWN_WORDS)
    for arguments in (["sync"], ["chats"], ["dataset"], ["import", str(folder / "nowhere.json")]):
        assert await run.likeme(*arguments) in (0, 2)
    await run.start("model", "-m", "tests.training.short_evaluations", "--home", str(home), "--port", "0")
    await _until(lambda: (home / "serve.json").exists())
    assert await run.likeme("train") == 0
    await run.start("bot", "-m", "bot", "run")
    world.send(OWNER, OWNER, "/start")
    async with world.events() as events:
        world.connect(OWNER)
        world.write(ANNA, OWNER, f"{WORDS} again")
        async with asyncio.timeout(60):
            while True:
                event = await events.get()
                if event.kind == "message" and event.what.sender == BOT and event.what.buttons:
                    break
    world.send(OWNER, OWNER, f"{OWN_WORDS} too", reply_to=event.what.message_id)
    world.send(OWNER, OWNER, "/report")
    sandbox.faults.fail("sendPhoto", 400, "Bad Request: chat not found")  # something for the log
    world.send(OWNER, OWNER, "/versions")
    place = world.between(OWNER, ANNA).chat_id
    await _until(lambda: any(OWN_WORDS in m.text and m.business_bot for m in world.history(place)))
    for arguments in (["versions"], ["report"], ["standings"], ["promote", "1", "--force"], ["draft", f"{WORDS}?"],
                      ["backup", str(folder / "b.tar.gz")], ["doctor"]):  # fmt: skip
        await run.likeme(*arguments)


async def _until(holds: object) -> None:
    async with asyncio.timeout(90):
        while not holds():  # type: ignore[operator]
            await asyncio.sleep(0.05)


def _auth_key(home: Path) -> bytes:
    with closing(sqlite3.connect(home / "account.session")) as connection:
        return bytes(connection.execute("SELECT auth_key FROM sessions").fetchone()[0])
