"""`likeme` and `python -m bot`: the command line's frame. A person never sees a traceback."""

import logging
import os
import signal
import sys
from pathlib import Path

from storage.errors import LikemeError


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    if sys.argv[1:2] in (["run"], ["serve"]):
        # First of all, until the application's own handlers stand: imports take a second, an exception would be lost
        # in them, or break them, and there is nothing yet to be ended in order.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from bot.commands import app

    os.umask(0o077)  # whatever a library writes is the owner's alone
    try:
        app(prog_name="likeme")
    except LikemeError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os._exit(0)
    except Exception as error:
        sys.stderr.write(f"likeme failed on an unforeseen {type(error).__name__}. {_note(error)}\n")
        sys.exit(1)


def _note(error: Exception) -> str:
    """Put the traceback where it can be looked at: the home's log, readable by the owner alone."""
    from bot.printing import Discreet
    from bot.settings import load

    path = Path(os.environ.get("LIKEME_HOME", "data")) / "likeme.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(Discreet(load()))
        logging.getLogger("bot").addHandler(handler)
        logging.getLogger("bot").error("unforeseen", exc_info=error)
    except (OSError, LikemeError):
        return f"Its message: {error}"
    return f"The traceback is in {path}."


if __name__ == "__main__":
    main()
