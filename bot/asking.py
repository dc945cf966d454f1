"""A person at the terminal, or whatever stands at stdin in his place: questions, and lines in between."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.prompt import Prompt

from bot import printing
from storage.errors import BadInput

YES, NO = ("y", "yes"), ("n", "no")


class Person:
    """Who answers. What is secret is not shown on a terminal and never an argument."""

    def ask(self, question: str, *, default: str = "", secret: bool = False) -> str:
        """One line; `default` for an empty one. BadInput when nobody is there any more."""
        shown = f"{question} [{default}]" if default and not secret else question
        try:
            with _interruptible():
                if sys.stdin.isatty():
                    given = Prompt.ask(shown, console=printing.err, password=secret, default="", show_default=False)
                else:
                    printing.err.print(f"{shown}: ", end="", markup=False)
                    given = _line()
        except EOFError:
            raise BadInput("Nobody answers: stdin has ended.") from None
        return given.strip() or default

    def agrees(self, question: str, *, default: bool = True) -> bool:
        """Yes or no."""
        while True:
            given = self.ask(f"{question} [{'Y/n' if default else 'y/N'}]").casefold()
            if not given:
                return default
            if given in YES + NO:
                return given in YES
            self.tell("y or n?")

    def tell(self, line: str) -> None:
        """A line on stderr."""
        printing.err.print(line, markup=False, soft_wrap=True)


def _line() -> str:
    line = sys.stdin.readline()
    printing.err.print()
    if not line:
        raise EOFError
    return line


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end a question at once: asyncio's own handler would wait for the answer first."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
