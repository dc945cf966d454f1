"""A Telegram in a box ends as it is told to, whoever is still waiting for its answer."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import httpx
import pytest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_and_sigterm_end_it_though_a_bot_waits_for_updates(number: signal.Signals, tmp_path: Path) -> None:
    # As a shell starts what runs in the background: SIGINT ignored.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "sandbox", "--home", str(tmp_path / "box")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60), httpx.AsyncClient() as client:
            said = ""
            while "MTPROTO_KEY=" not in said:
                said += (await process.stdout.readline()).decode()
            values = dict(re.findall(r"^(\w+)=(.*)$", said, re.MULTILINE))
            url = f"{values['BOT_API_URL']}/bot{values['BOT_TOKEN']}/getUpdates?timeout=30"
            waiting = asyncio.create_task(client.get(url, timeout=40))
            await asyncio.sleep(0.5)
            assert not waiting.done()
            process.send_signal(number)
            _, complaints = await process.communicate()
            await asyncio.gather(waiting, return_exceptions=True)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 130
    assert b"Traceback" not in complaints
