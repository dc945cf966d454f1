"""`likeme login` and `logout` as a person types them, at a real terminal."""

import asyncio
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bot.account import SESSION
from bot.sandbox.mtproto.accounts import TwoStep
from bot.sandbox.mtproto.server import MtprotoServer
from bot.settings import Settings
from tests.bot.test_sync import likeme
from tests.mtproto_fixtures import PASSWORD, PHONE
from tests.sandbox_fixtures import OWNER


class Screen:
    """The other end of a terminal: what is shown, and what is typed."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.text = ""
        self._seen = 0
        asyncio.get_running_loop().add_reader(self.ours, self._read)

    def _read(self) -> None:
        self.text += os.read(self.ours, 4096).decode(errors="replace")

    async def answer(self, question: str, what: Callable[[], str]) -> None:
        async with asyncio.timeout(60):
            while question not in self.text[self._seen :]:
                await asyncio.sleep(0.02)
        self._seen = len(self.text)
        await asyncio.sleep(0.3)  # getpass empties what was typed before it asks
        os.write(self.ours, f"{what()}\n".encode())

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.ours)
        os.close(self.ours)
        os.close(self.theirs)


async def test_sign_in_and_out_show_and_leave_no_secret(telegram: MtprotoServer, account_settings: Settings) -> None:
    known = telegram.accounts[PHONE]
    known.two_step = TwoStep(PASSWORD)
    home = account_settings.likeme_home
    api_hash = account_settings.api_hash.get_secret_value()
    environment = {
        **os.environ,
        "LIKEME_HOME": str(home),
        "API_ID": str(account_settings.api_id),
        "API_HASH": api_hash,
        "MTPROTO_SERVER": account_settings.mtproto_server,
        "MTPROTO_KEY": account_settings.mtproto_key,
    }
    screen = Screen()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "login"),
        stdin=screen.theirs,
        stdout=screen.theirs,
        stderr=screen.theirs,
        env=environment,
        start_new_session=True,
    )
    codes: list[str] = []

    def sent() -> str:
        codes.append(known.last_code)
        return codes[-1]

    await screen.answer("phone number", lambda: f"+{PHONE}")
    await screen.answer("The code", lambda: "1")
    await screen.answer("2 tries left", sent)
    await screen.answer("two-step password", lambda: "wrong")
    await screen.answer("not the password; 2 tries left", lambda: PASSWORD)
    command = listed(process.pid)
    assert await asyncio.wait_for(process.wait(), 60) == 0, screen.text
    await asyncio.sleep(0.1)
    assert f"as user {OWNER}" in screen.text
    screen.close()
    assert b"-m bot login" in command
    for secret in (PASSWORD, api_hash, *codes):
        assert secret not in screen.text
        assert secret.encode() not in command
        assert all(secret.encode() not in path.read_bytes() for path in _files(home) if path.suffix == ".log")
    assert (home / SESSION).stat().st_mode & 0o777 == 0o600
    out = await likeme(account_settings, "logout")
    shown, _ = await out.communicate()
    assert b"the session is ended" in shown
    assert telegram.sessions(OWNER) == 0
    assert not (home / SESSION).exists()


async def test_sign_in_needs_a_terminal(account_settings: Settings) -> None:
    process = await likeme(account_settings, "login")
    _, error = await process.communicate()
    assert process.returncode == 2
    assert error.decode().strip() == "likeme login asks for secrets: run it in a terminal."


def listed(process: int) -> bytes:
    """The process as anybody on the machine sees it."""
    return subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(process)], capture_output=True, check=True).stdout


def _files(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]
