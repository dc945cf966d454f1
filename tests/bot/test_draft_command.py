"""`likeme draft`: the third way in, from the terminal."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.bot.conftest import small_history
from tests.voice_fixtures import REPLIES, Script

pytestmark = pytest.mark.slow


async def draft(home: Path, url: str, *arguments: str) -> tuple[int, str, str]:
    """Its exit code, and what it wrote to standard output and error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", "draft", *arguments, "--home", str(home), "--json",
        env={**os.environ, "MODEL_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, told = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode(), told.decode()


async def test_a_message_becomes_drafts_in_the_chat_s_conversation(
    script: Script, scripted_url: str, tmp_path: Path
) -> None:
    await small_history(tmp_path)
    code, said, told = await draft(tmp_path, scripted_url, "are you coming?", "--chat", "2000")
    assert code == 0, told
    assert set(json.loads(said)["drafts"]) <= set(REPLIES)
    assert len(json.loads(said)["drafts"]) == 3
    assert script.asked[0][-1] == {"role": "user", "content": "are you coming?"}
    asked = script.asked[0][0]["content"]
    assert "yep thing" in asked, "before any training the model is shown how the owner answered this person"


async def test_nothing_to_answer_is_told_in_one_line(scripted_url: str, tmp_path: Path) -> None:
    await small_history(tmp_path)
    for arguments, reason in (((" ",), "nothing to answer"), (("hi", "--chat", "77"), "There is no chat 77")):
        code, said, told = await draft(tmp_path, scripted_url, *arguments)
        assert code != 0
        assert said == ""
        assert reason in told
        assert "Traceback" not in told
