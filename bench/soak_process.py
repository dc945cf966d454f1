"""Real processes, and an end without warning."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path


class Process:
    """`python -m …`, started again after every kill; all it says goes into one log."""

    def __init__(self, log: Path, *arguments: str, **environment: str) -> None:
        self.log, self._arguments, self._environment = log, arguments, {**os.environ, **environment}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> "Process":
        """Start it; returns at once."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *self._arguments, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL,
                env=self._environment,
            )  # fmt: skip
        return self

    def on_port(self, port: str) -> "Process":
        """This very process, which comes back at a port that others know."""
        at = self._arguments.index("--port") + 1
        self._arguments = (*self._arguments[:at], port, *self._arguments[at + 1 :])
        return self

    async def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def ended(self) -> int:
        """Its exit code."""
        assert self._process is not None
        async with asyncio.timeout(120):
            return await self._process.wait()

    async def end(self) -> int:
        """SIGTERM, and its exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        return await self.ended()

    def is_up(self) -> bool:
        return self._process is not None and self._process.returncode is None


async def until(holds: Callable[[], object], seconds: float = 60.0, look: float = 0.02) -> bool:
    """Whether it comes to hold in time."""
    try:
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(look)
    except TimeoutError:
        return False
    return True
