"""From a thread that reads to the event loop that writes, one batch at a time."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """The event loop no longer wants what the thread reads."""


class Relay(Generic[T]):
    """Hands on what a thread gives to `put`; the thread is one batch ahead of the one being written."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[T | None] = asyncio.Queue()
        self._room = threading.Semaphore(1)
        self._stopped = self._writing = False

    def put(self, batch: T) -> None:
        """In the thread: hand over a batch, once the one before is written. Raises Stopped."""
        self._room.acquire()
        self.go_on()
        self.tell(self._queue.put_nowait, batch)

    def go_on(self) -> None:
        """In the thread, between two short pieces of work: let the writer have the interpreter.

        Raises Stopped where nobody waits for batches any more.
        """
        if self._stopped:
            raise Stopped
        if self._writing:
            time.sleep(0)

    def tell(self, function: Callable[..., object], *arguments: object) -> None:
        """In the thread: have the loop call `function` soon."""
        self._loop.call_soon_threadsafe(function, *arguments)

    async def batches(self, produce: Callable[[], None]) -> AsyncGenerator[T, None]:
        """What `produce` gives in a thread; raises what it raises. To be closed (`aclosing`), which ends the thread."""
        thread = asyncio.ensure_future(asyncio.to_thread(self._run, produce))
        try:
            while (batch := await self._queue.get()) is not None:
                self._writing = True
                yield batch
                self._writing = False
                self._room.release()
            await thread
        finally:
            self._stopped = True
            self._room.release()
            await asyncio.wait([thread])

    def _run(self, produce: Callable[[], None]) -> None:
        try:
            produce()
        finally:
            self.tell(self._queue.put_nowait, None)
