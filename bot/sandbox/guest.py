"""An HTTP server that is a guest in somebody else's process: he hears the signals, and ends what he began."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn


class _Guest(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None."""
        yield


def listening(port: int = 0) -> socket.socket:
    """A socket that listens on loopback; port 0: any free one."""
    listener = socket.create_server(("127.0.0.1", port))
    # asyncio does it only where a socket names its protocol; small answers would wait for each other.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address(listener: socket.socket) -> str:
    """http://127.0.0.1:port"""
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.asynccontextmanager
async def served(app: Any, listener: socket.socket | None = None) -> AsyncIterator[str]:
    """Serve an ASGI app on loopback while the block runs; its address."""
    listener = listener or listening()
    server = _Guest(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn offers no event for it
            await asyncio.sleep(0.01)
        yield address(listener)
    finally:
        server.should_exit = True
        await task
