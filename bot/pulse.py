"""A sign of life for health checks: `python -m bot.pulse` exits 0 while the bot's loop turns."""

import asyncio
import os
import sys
import time
from pathlib import Path

FILE, EVERY_SECONDS, STILL_SECONDS = "pulse", 20.0, 90.0


async def beat(home: Path) -> None:
    """Touch a file of the home for ever."""
    while True:
        (home / FILE).touch(mode=0o600)
        await asyncio.sleep(EVERY_SECONDS)


def is_alive(home: Path, clock: float) -> bool:
    """Whether the last beat is young; `clock` in Unix seconds."""
    try:
        return clock - (home / FILE).stat().st_mtime < STILL_SECONDS
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(not is_alive(Path(os.environ.get("LIKEME_HOME", "data")), time.time()))
