"""A cable between a client and a server on loopback: it can be cut, and mended."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest_asyncio

from bot.sandbox.server import Sandbox


class Cable:
    """Forwards connections to a port while it is whole; cut, nobody listens and what was open is lost."""

    def __init__(self, to_port: int) -> None:
        self._to_port, self.port = to_port, 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def mend(self) -> None:
        """Listen, on the same port as ever."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Refuse connections and reset those that stand."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0.05)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        self._writers |= {writer, there_writer}
        if self._server is not None and not self._server.is_serving():  # accepted at the very moment it was cut
            await self.cut()
        await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        self._writers -= {writer, there_writer}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
    writer.close()


@pytest_asyncio.fixture
async def cable(sandbox: Sandbox) -> AsyncIterator[Cable]:
    """The bot's way to the sandbox's Bot API."""
    made = Cable(int(sandbox.url.rpartition(":")[2]))
    await made.mend()
    yield made
    with contextlib.suppress(AssertionError):
        await made.cut()
