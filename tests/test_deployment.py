"""Dockerfile, compose.yaml and the systemd units name things that are there."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.commands import app
from bot.settings import Settings
from training.settings import Settings as ModelSettings

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
UNITS = sorted((ROOT / "deploy").glob("*.service"))
SETTINGS = {name.upper() for name in (*Settings.model_fields, *ModelSettings.model_fields)}
FOREIGN = {"PATH", "HOME", "HF_HOME", "MPLCONFIGDIR", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
COMMANDS = {(c.name or c.callback.__name__).rstrip("_") for c in app.registered_commands if c.callback}


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return found


def test_the_images_copy_what_is_there_and_start_what_likeme_can() -> None:
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())
    assert set(re.findall(r'^CMD \["(\w+)"\]', DOCKERFILE, re.MULTILINE)) == {"run", "serve"} <= COMMANDS
    for module in re.findall(r'"-m", "([\w.]+)"', DOCKERFILE):
        assert importlib.util.find_spec(module)
    assert {user for user in re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)} == {"65532"}
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
    assert {service["build"]["target"] for service in compose()["services"].values()} <= stages


def test_every_variable_that_is_set_is_one_that_somebody_reads() -> None:
    named = set(re.findall(r"(?:^ENV | )([A-Z_]{3,})=", "\n".join(re.findall(r"^ENV .*", DOCKERFILE, re.MULTILINE))))
    named -= {"PIP_NO_CACHE_DIR", "PIP_DISABLE_PIP_VERSION_CHECK"}
    for service in compose()["services"].values():
        named |= set(service["environment"])
    for unit in UNITS:
        lines = re.findall(r"^Environment=(.*)", unit.read_text(encoding="utf-8"), re.MULTILINE)
        named |= {pair.split("=")[0] for line in lines for pair in line.split()}
    assert named <= SETTINGS | FOREIGN


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_of_likeme_s_as_nobody_else(unit: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    started = re.search(r"^ExecStart=/opt/likeme/\.venv/bin/likeme (\w+)$", text, re.MULTILINE)
    assert started is not None
    assert started[1] in COMMANDS
    assert "User=likeme" in text
    assert "StateDirectoryMode=0700" in text
