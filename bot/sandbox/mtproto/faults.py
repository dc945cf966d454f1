"""What goes wrong on purpose, and how Telegram says no."""

from collections import defaultdict, deque
from dataclasses import dataclass, field


class RpcRefusal(Exception):
    """Telegram's rpc_error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Drop(Exception):
    """The connection is lost, before the request is carried out or after."""

    def __init__(self, *, after_work: bool = False) -> None:
        super().__init__()
        self.after_work = after_work


@dataclass(slots=True)
class Faults:
    """For each method its next calls in order: a refusal, a drop, or None for a call that goes well.

    A method is named as in the API's schema: `messages.getHistory` is "GetHistory".
    """

    planned: dict[str, deque[Exception | None]] = field(default_factory=lambda: defaultdict(deque))

    def flood(self, method: str, seconds: int, times: int = 1) -> None:
        """Answer the next `times` calls with FLOOD_WAIT."""
        self.refuse(method, 420, f"FLOOD_WAIT_{seconds}", times)

    def refuse(self, method: str, code: int, message: str, times: int = 1) -> None:
        """Answer the next `times` calls with an error."""
        self.planned[method].extend(RpcRefusal(code, message) for _ in range(times))

    def drop(self, method: str, *, after_work: bool = False) -> None:
        """Lose the connection at the next call."""
        self.planned[method].append(Drop(after_work=after_work))

    def let_pass(self, method: str, times: int) -> None:
        """Let calls through before what is planned next."""
        self.planned[method].extend([None] * times)

    def next(self, method: str) -> Exception | None:
        """What is planned for this call."""
        return self.planned[method].popleft() if self.planned[method] else None
