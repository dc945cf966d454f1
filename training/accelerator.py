"""Whose turn it is at the one model: trainings, drafts and evaluations share it."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Accelerator:
    """The one model's lock, first come, first served: between two training steps waiting drafts go first."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._queue: deque[object] = deque()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Wait for the turn, and keep it."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def hand_over(self) -> None:
        """Inside `hold`: let those who wait go first."""
        self._leave()
        self._enter()

    def _enter(self) -> None:
        ticket = object()
        with self._condition:
            self._queue.append(ticket)
            self._condition.wait_for(lambda: self._queue[0] is ticket)

    def _leave(self) -> None:
        with self._condition:
            self._queue.popleft()
            self._condition.notify_all()
