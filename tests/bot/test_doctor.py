"""`likeme doctor`: every line is good, or wrong with its mend."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from bot import doctor
from bot.doctor import Check, examine
from bot.history import now
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from tests.sandbox_fixtures import OWNER

NAMES = ["versions", "permissions", "disk", "card", "history", "model", "clock", "bot", "account", "schedule", "errors"]


@pytest.fixture
def model_url(scripted_url: str) -> str:
    """A model that says what a test wants."""
    return scripted_url


@pytest_asyncio.fixture
async def settings(sandbox: Sandbox, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Everything is well."""
    monkeypatch.chdir(tmp_path)
    sandbox.world.send(OWNER, OWNER, "/start")
    return settings


async def line(settings: Settings, name: str) -> Check:
    return next(check for check in await examine(settings) if check.name == name)


async def test_where_all_is_well_every_line_says_so(settings: Settings) -> None:
    found = await examine(settings)
    assert [check.name for check in found] == NAMES
    assert [check.text for check in found if not check.good] == []
    assert found[4].text == "128 messages in 8 chats; no trained voice yet"


@pytest.mark.parametrize(
    ("name", "spoil", "says", "mend"),
    [
        ("permissions", lambda home: home.chmod(0o755), "others may read", "chmod go="),
        ("permissions", lambda home: (home.parent / ".env").touch(0o644), "others may read .env", "chmod go= .env"),
        ("history", lambda home: (home / "history.db").write_bytes(b"no database at all" * 99), "damaged", ""),
        ("history", lambda home: (home / "history.db").unlink(), "none yet", "likeme import"),
        (
            "errors",
            lambda home: (home / "likeme.log").write_text(f"{datetime.now():%F %T},1 ERROR bot.x: update 7 failed\n"),  # noqa: DTZ005
            "1 in the last 7 days",
            "likeme.log",
        ),
    ],
)
async def test_what_is_wrong_at_home_is_told_with_its_mend(
    settings: Settings, name: str, spoil: Callable[[Path], object], says: str, mend: str
) -> None:
    spoil(settings.likeme_home)
    found = await line(settings, name)
    assert not found.good
    assert says in found.text
    assert mend in found.mend


@pytest.mark.parametrize(
    ("name", "changes", "says", "mend"),
    [
        ("bot", {"bot_token": "4242:" + "B" * 35}, "refused BOT_TOKEN", "BotFather"),
        ("bot", {"owner_id": 99}, "can't write to OWNER_ID 99", "/start"),
        ("bot", {"bot_token": ""}, "not set", "likeme setup"),
        ("clock", {"bot_api_url": "http://127.0.0.1:9"}, "not compared", "network"),
        ("model", {"model_url": "http://127.0.0.1:9"}, "does not answer", "MODEL_URL"),
        ("schedule", {"nightly": "03:30"}, "every night at 03:30", "likeme run"),
        ("account", {"api_id": 5, "api_hash": "f" * 32}, "nobody is signed in", "likeme login"),
    ],
)
async def test_what_is_wrong_outside_is_told_with_its_mend(
    settings: Settings, name: str, changes: dict[str, object], says: str, mend: str
) -> None:
    found = await line(settings.model_copy(update=Settings(**changes).model_dump(include=set(changes))), name)  # type: ignore[arg-type]
    assert not found.good
    assert says in found.text
    assert mend in found.mend


async def test_a_clock_that_is_off_is_told_by_how_much(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "now", lambda: now() + timedelta(hours=1))
    found = await line(settings, "clock")
    assert not found.good
    assert found.text.endswith(" s ahead of Telegram's")
    assert 3590 < int(found.text.split()[0].replace(",", "")) < 3620


def test_a_card_that_is_too_small_for_the_large_model_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'NVIDIA GeForce GTX 1650, 4096, 4000, 570.1'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("BASE_MODEL", "Qwen/Qwen3-8B")
    found = doctor._card(Settings(model_url=""))
    assert (found.good, found.mend) == (False, "BASE_MODEL=smollm2 in .env, or a card of 11 GiB and more")
    assert "3.9 of 4.0 GiB free, driver 570.1" in found.text
    monkeypatch.setenv("BASE_MODEL", "smollm2")
    assert doctor._card(Settings(model_url="")).good


def test_scripts_read_the_exit_code_and_json(tmp_path: Path) -> None:
    environment = {**os.environ, "LIKEME_HOME": str(tmp_path / "home"), "MODEL_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "bot", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 1
    checks = json.loads(done.stdout)["checks"]
    assert [check["name"] for check in checks] == NAMES
    assert all(check["good"] or check["mend"] for check in checks)
