"""`likeme` as a person types it: real processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "corpora"


def likeme(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k not in ("BOT_TOKEN", "OWNER_ID", "MODEL_URL")}
    return subprocess.run(
        [sys.executable, "-m", "bot", *arguments],
        capture_output=True,
        text=True,
        env={**env, "LIKEME_HOME": str(home), "COLUMNS": "120", **environment},
        timeout=120,
        check=False,
    )


@pytest.fixture
def export(tmp_path: Path) -> Path:
    from bot.sandbox.sample import write_export

    path = tmp_path / "result.json"
    write_export(path)
    return path


def test_import_and_dataset_print_for_people_and_as_json(tmp_path: Path, export: Path) -> None:
    home = tmp_path / "home"
    first = likeme("import", str(export), home=home)
    assert first.returncode == 0, first.stderr
    assert "24 chats" in first.stdout or "28 chats" in first.stdout
    again = json.loads(likeme("import", str(export), "--json", home=home).stdout)
    assert again["new"] == 0
    assert again["unchanged"] > 1000
    out = tmp_path / "set"
    built = json.loads(likeme("dataset", "--json", "--out", str(out), home=home).stdout)
    assert built["train"] == len((out / "train.jsonl").read_bytes().splitlines())
    assert built == json.loads((out / "manifest.json").read_text())
    assert (home / "history.db").stat().st_mode & 0o077 == 0
    assert home.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (["import", "nowhere.json"], "nowhere.json does not exist", 2),
        (["dataset"], "likeme import PATH", 2),
        (["evaluate", "4"], "likeme import PATH", 2),
        (["rollback", "9"], "There is no version 9", 2),
        (["draft", "hello", "--chat", "5"], "There is no chat 5", 2),
        (["draft", "  "], "nothing to answer", 2),
        (["run"], "BOT_TOKEN is not set", 2),
        (["serve", "--host", "0.0.0.0"], "set MODEL_TOKEN", 2),
        (["train", "--recipe"], "requires an argument", 2),
    ],
)
def test_wrong_input_gets_one_clear_line_and_no_traceback(
    tmp_path: Path, arguments: list[str], says: str, code: int
) -> None:
    done = likeme(*arguments, home=tmp_path / "home")
    assert says in done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr + done.stdout


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    done = likeme("run", home=tmp_path, OWNER_ID="me")
    assert done.stderr.startswith("OWNER_ID: ")
    assert done.returncode == 2


def test_a_home_of_a_newer_likeme_is_refused_with_what_to_do(tmp_path: Path) -> None:
    import sqlite3

    (tmp_path / "home").mkdir()
    connection = sqlite3.connect(tmp_path / "home" / "history.db")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    done = likeme("versions", home=tmp_path / "home")
    assert "written by a newer likeme" in done.stderr
    assert done.returncode == 3


def test_every_command_has_help_with_examples(tmp_path: Path) -> None:
    names = "import dataset train draft quiz run versions rollback evaluate doctor demo".split()
    top = likeme("--help", home=tmp_path)
    assert all(name in top.stdout for name in [*names, "serve"])
    for name in ("import", "train", "rollback"):
        assert "Examples" in likeme(name, "--help", home=tmp_path).stdout
    assert "MODEL_TOKEN" in likeme("serve", "--help", home=tmp_path).stdout


def test_the_bot_s_side_imports_no_torch() -> None:
    code = (
        "import sys, bot.__main__, bot.commands, bot.application, bot.work, bot.doctor\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'peft', 'fastapi')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
