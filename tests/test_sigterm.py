"""SIGTERM at early moments: real processes, and each ends with 0, as a service manager takes it for well."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Any

import pytest

from bot.sandbox.server import Sandbox
from tests.sandbox_fixtures import OWNER, TOKEN, small_world

pytestmark = pytest.mark.slow
RUN, SERVE, MODEL = ("bot", "run"), ("bot", "serve"), ("training",)
STUCK = "import sys, time; sys.stderr.write('stuck\\n'); sys.stderr.flush(); time.sleep(60)\n"


async def started(*module: str, home: Path, stderr: int = DEVNULL, **environment: str) -> Process:
    values = {"BOT_TOKEN": TOKEN, "OWNER_ID": str(OWNER), "MODEL_PORT": "0", "LIKEME_HOME": str(home), "MODEL_URL": ""}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", *module, stderr=stderr, env={**os.environ, **values, **environment}
    )


async def ended(process: Process) -> int:
    """Its exit code; one that hangs is killed."""
    try:
        async with asyncio.timeout(60):
            return await process.wait()
    except TimeoutError:
        process.kill()
        return await process.wait()


IMPORTS = {RUN: ("typer", "telegram"), SERVE: ("typer", "uvicorn"), MODEL: ("pydantic_settings", "uvicorn", "torch")}


@pytest.mark.parametrize(("module", "at"), [(module, at) for module, found in IMPORTS.items() for at in found])
async def test_it_is_heard_in_the_midst_of_every_import(module: tuple[str, ...], at: str, tmp_path: Path) -> None:
    (tmp_path / f"{at}.py").write_text(STUCK)
    process = await started(*module, home=tmp_path / "home", stderr=PIPE, PYTHONPATH=str(tmp_path))
    assert process.stderr is not None
    assert await process.stderr.readline() == b"stuck\n"
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0


@pytest.mark.parametrize("at", ["getMe", "deleteWebhook", "setMyCommands", "getUpdates"])
async def test_the_bot_s_start_is_broken_off_in_order(at: str, tmp_path: Path) -> None:
    """At each step that Telegram sees: in the midst of opening what it works with, of registering, of polling."""
    processes: list[Process] = []

    def seen(method: str, parameters: dict[str, Any], answer: dict[str, Any]) -> None:
        if method == at and processes[0].returncode is None:
            processes[0].send_signal(signal.SIGTERM)

    async with Sandbox.start(small_world(), on_exchange=seen) as sandbox:
        nowhere = "http://127.0.0.1:9"
        environment = {"BOT_API_URL": sandbox.url, "MODEL_URL": nowhere}
        processes.append(await started(*RUN, home=tmp_path / "home", stderr=PIPE, **environment))
        if at == "getUpdates":  # it is answered when there is something
            await asyncio.sleep(3)
            sandbox.world.send(OWNER, OWNER, "/start")
        code = await ended(processes[0])
        assert processes[0].stderr is not None
        said = (await processes[0].stderr.read()).decode()
    assert code == 0, said
    assert "Traceback" not in said and "never" not in said, said


async def test_a_bot_that_waits_for_a_network_or_for_its_model_server_is_ended(
    tmp_path: Path, tiny_folder: Path
) -> None:
    async with Sandbox.start(small_world()) as sandbox:
        home = tmp_path / "home"
        for telegram, waits_for in (("http://127.0.0.1:9", "likeme.log"), (sandbox.url, "serve.log")):
            process = await started(*RUN, home=home, BOT_API_URL=telegram, BASE_MODEL=str(tiny_folder))
            while not (home / waits_for).exists():
                assert process.returncode is None
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)  # from the log that is opened to what is waited for
            process.send_signal(signal.SIGTERM)
            assert await ended(process) == 0


async def test_a_model_server_that_loads_is_ended(tmp_path: Path, tiny_folder: Path) -> None:
    """At once as it listens: the thread that loads must not be under the interpreter's own end."""
    for _ in range(3):
        process = await started(*MODEL, home=tmp_path, BASE_MODEL=str(tiny_folder))
        while not (tmp_path / "serve.json").exists():
            assert process.returncode is None
            await asyncio.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
        assert not (tmp_path / "serve.json").exists()


async def test_a_command_that_is_no_service_does_not_say_that_it_is_done(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text(STUCK)
    process = await started("bot", "import", "nothing", home=tmp_path, stderr=PIPE, PYTHONPATH=str(tmp_path))
    assert process.stderr is not None
    await process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == -signal.SIGTERM
