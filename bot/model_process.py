"""The model server as a process: one that runs for this home is used, else one is started.

async with model_server(settings) as voice:
    …
"""

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from bot.settings import Settings
from bot.voice import Voice
from storage.errors import ModelError

START_SECONDS = 120.0
LOOK_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
ORPHAN_SECONDS = 60.0  # a server whose bot is gone saves its training first

Tell = Callable[[str], Awaitable[None]]


@asynccontextmanager
async def model_server(settings: Settings, tell: Tell | None = None) -> AsyncIterator[Voice]:
    """A Voice for the server that the settings name; our own child is ended with the block.

    With `tell` it is watched: told about when it dies, started (as our child) again, told about when it is back.
    """
    home = settings.likeme_home
    if settings.model_url:
        token = settings.model_token.get_secret_value()
        voice = Voice(settings.model_url, token, settings.model_name, elsewhere=True)
        try:
            yield voice
        finally:
            await voice.close()
        return
    running = await _running(home)
    if running is not None and tell is None:
        try:
            yield running
        finally:
            await running.close()
        return
    child = _Child(home) if running is None else _Child(home, running)
    try:
        voice = running or await child.start()
        watching = asyncio.create_task(child.watch(voice, tell)) if tell is not None else None
        try:
            yield voice
        finally:
            if watching is not None:
                watching.cancel()
            await voice.close()
    finally:
        await child.stop()


async def _running(home: Path) -> Voice | None:
    """The server that serve.json names, if it answers. One whose bot was killed ends by itself: that is waited for."""
    for _ in range(int(ORPHAN_SECONDS / 0.1)):
        try:
            noted = json.loads((home / "serve.json").read_text(encoding="utf-8"))
            url, token, pid, parent = noted["url"], noted["token"], noted["pid"], noted.get("parent")
        except (OSError, ValueError, KeyError):
            return None
        if parent is None or _is_alive(parent):
            voice = Voice(url, token)
            if await voice.health() is not None:
                return voice
            await voice.close()
            return None
        if not _is_alive(pid):
            return None
        await asyncio.sleep(0.1)
    return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class _Child:
    """`python -m training` under our care, on a port of its own with a token of its own."""

    def __init__(self, home: Path, instead_of: Voice | None = None) -> None:
        self._home = home
        self._token = instead_of.token if instead_of else secrets.token_urlsafe(24)
        self._process: asyncio.subprocess.Process | None = None
        self._port = int(instead_of.url.rpartition(":")[2]) if instead_of else 0

    async def start(self) -> Voice:
        """Start it and wait until it listens."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = open_private(self._home / "serve.log")
        arguments = ["--home", str(self._home), "--port", str(self._port), "--parent", str(os.getpid())]
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "training",
                *arguments,
                stdout=log,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, "MODEL_TOKEN": self._token, "MODEL_HOST": "127.0.0.1"},
            )
        finally:
            os.close(log)
        return await self._listening()

    async def _listening(self) -> Voice:
        assert self._process is not None
        for _ in range(int(START_SECONDS / 0.1)):
            if self._process.returncode is not None:
                raise ModelError(f"The model server did not start: {_last_line(self._home / 'serve.log')}")
            try:
                noted = json.loads((self._home / "serve.json").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                noted = {}
            if noted.get("pid") == self._process.pid:
                voice = Voice(noted["url"], self._token)
                if await voice.health() is not None:
                    self._port = int(noted["url"].rpartition(":")[2])  # a restart comes back at the same place
                    return voice
                await voice.close()
            await asyncio.sleep(0.1)
        raise ModelError(f"The model server does not answer after {START_SECONDS:.0f} s: see {self._home}/serve.log.")

    async def watch(self, voice: Voice, tell: Tell) -> None:
        """Start it again whenever it dies, with growing pauses."""
        pause = 1.0
        while True:
            await self._gone(voice)
            await tell("died")
            while True:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                try:
                    await self.stop()  # one that is up and of no use
                    await (await self.start()).close()
                    await voice.ready()
                    break
                except ModelError:
                    continue
            pause = 1.0
            await tell("back")

    async def _gone(self, voice: Voice) -> None:
        """Until it has died; somebody else's (of `likeme train`, or `likeme serve`) until it does not answer."""
        if self._process is not None:
            await self._process.wait()
            return
        missed = 0
        while missed < 3:
            await asyncio.sleep(LOOK_SECONDS)
            missed = 0 if await voice.health() is not None else missed + 1

    async def stop(self) -> None:
        """End it: politely, then not."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def open_private(path: Path) -> int:
    """A file descriptor to append to, readable by the owner alone."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _last_line(path: Path) -> str:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
