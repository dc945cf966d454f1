"""The sign of life that health checks look at."""

import os
import subprocess
import sys
from pathlib import Path

from bot.context import App
from bot.pulse import FILE, STILL_SECONDS, is_alive
from bot.settings import Settings


def checked(home: Path) -> int:
    command = [sys.executable, "-m", "bot.pulse"]
    return subprocess.run(command, env={**os.environ, "LIKEME_HOME": str(home)}, check=False).returncode


async def test_a_bot_that_is_up_beats_and_one_that_has_stopped_does_not(settings: Settings, bot: App) -> None:
    home = settings.likeme_home
    beaten = (home / FILE).stat().st_mtime
    assert checked(home) == 0
    assert is_alive(home, beaten + STILL_SECONDS - 1)
    assert not is_alive(home, beaten + STILL_SECONDS + 1)
    os.utime(home / FILE, (1, 1))
    assert checked(home) == 1


def test_a_home_without_a_bot_is_not_alive(tmp_path: Path) -> None:
    assert checked(tmp_path) == 1
