"""The demo from end to end, as its own processes, with a tiny model in the embedded one's place."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.model_fixtures import tiny_base

pytestmark = pytest.mark.slow


def test_the_demo_imports_trains_plays_and_leaves_its_report(tmp_path: Path, smollm2_tokenizer: Any) -> None:
    base = tiny_base(smollm2_tokenizer)
    base.model.save_pretrained(tmp_path / "tiny")
    base.tokenizer.save_pretrained(tmp_path / "tiny")
    done = subprocess.run(
        [sys.executable, "-m", "bot", "demo", "--once", "--home", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, "BASE_MODEL": str(tmp_path / "tiny"), "OMP_NUM_THREADS": "1", "COLUMNS": "140"},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    steps = ("1  Importing", "2  Building", "3  A Telegram", "4  Three", "5  /train", "6  Held-out", "7  A blind")
    for step in (*steps, "http://127.0.0.1:", "in the input line", "a card comes: 1", "real reply", "8  The friends"):
        assert step in done.stdout
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert "http://" not in page
    assert "https://" not in page
    again = subprocess.run(
        [sys.executable, "-m", "bot", "demo", "--once", "--home", str(tmp_path / "tiny")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert again.returncode == 2
    assert "no demo folder" in again.stderr
