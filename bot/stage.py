"""The stage of the demo: a Telegram in a box with people in it, the model server, and the bot as its own process."""

import asyncio
import os
import signal
import sys
import webbrowser
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bot import account, printing
from bot.history import now
from bot.model_process import model_server, open_private
from bot.sandbox import box, cast, sample
from bot.sandbox.friends import Friends
from bot.sandbox.mtproto.accounts import Account
from bot.sandbox.world import World
from bot.settings import Settings
from bot.sync import accept
from bot.voice import Voice
from storage import history
from storage.database import Database
from storage.ingest.export import import_export

KEY = "mtproto.pem"
ALL = 10**6  # messages of a chat
BURST_SECONDS = 2  # friends who are written for make short pauses


def until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run it to its end, or until Ctrl-C or SIGTERM; the processes that it began end with it."""

    async def stoppable() -> None:
        task = asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await task

    try:
        asyncio.run(stoppable())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@asynccontextmanager
async def telegram(
    database: Database, *, script: bool, past: int = cast.PAST, port: int = 0
) -> AsyncIterator[tuple[box.Box, Friends]]:
    """A Telegram with the owner's past in it, and his friends, who with a `script` act by themselves."""
    owner = await history.account(database)
    assert owner is not None
    world = World()
    played = await cast.seed(world, database, owner, past=past)
    async with box.opened(world, owner.user_id, port) as found:
        acted = found.sandbox.page.acted
        friends = Friends(world, owner.user_id, played, lambda person: not script or person in acted)
        async with friends.living():
            yield found, friends


async def serve(home: Path, *, script: bool, port: int) -> None:
    """`likeme sandbox`: the sample's whole past, a bot that waits for its program, and the page."""
    with TemporaryDirectory() as folder:
        export = Path(folder) / "result.json"
        sample.write_export(export)
        async with Database.open(Path(folder) / "history.db") as database:
            await import_export(database, export, now=now())
            async with telegram(database, script=script, past=ALL, port=port) as (found, friends):
                found.world.add_telegram()
                for name, value in found.environment(home / KEY).items():
                    printing.out.print(f"{name}={value}", markup=False, soft_wrap=True)
                printing.err.print(f"The page: {found.url}", markup=False, soft_wrap=True)
                printing.err.print(f"likeme login: the phone is +{box.PHONE}, its code is seen on the page.")
                for friend in friends.friends if script else ():
                    friends.begin(friend)
                await asyncio.Event().wait()


async def sign_in(telegram: box.Box, home: Path) -> None:
    """The owner's account, signed in as `likeme login` does it."""
    settings = Settings.model_validate({**_lowered(telegram.environment(home / KEY)), "likeme_home": home})
    await account.login(settings, _Answers(telegram.account), lambda owner: accept(settings, owner))


async def show(telegram: box.Box, *, wanted: bool) -> None:
    """Open the page, where somebody sits before a browser with windows."""
    has_windows = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if wanted and has_windows and sys.stdout.isatty() and not os.environ.get("CI"):
        with suppress(webbrowser.Error):
            await asyncio.to_thread(webbrowser.open, telegram.url)


@asynccontextmanager
async def model(home: Path) -> AsyncIterator[tuple[Voice, str]]:
    """The model server with the base model in it, and that one's name."""
    async with model_server(Settings(likeme_home=home, model_url="", bot_api_url="")) as voice:
        with printing.waiting("loading SmolLM2-135M-Instruct (the first time it is converted)"):
            health = await voice.ready()
        yield voice, str(health["base_model"])


@asynccontextmanager
async def bot(home: Path, telegram: box.Box, voice: Voice) -> AsyncIterator[None]:
    """`likeme run`, unchanged, told where Telegram and the model server are."""
    log = open_private(home / "bot.log")
    environment = {
        **os.environ,
        **telegram.environment(home / KEY),
        "MODEL_URL": voice.url,
        "MODEL_TOKEN": voice.token,
        "LIKEME_HOME": str(home),
        "QUICK_TRAINING": "true",
        "BURST_SECONDS": str(BURST_SECONDS),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", "run", stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL, env=environment
    )
    os.close(log)
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


@dataclass(frozen=True, slots=True)
class _Answers:
    """What a sign-in asks, answered as the owner would at the terminal."""

    account: Account

    def phone(self) -> str:
        return f"+{box.PHONE}"

    def code(self) -> str:
        return self.account.last_code

    def password(self) -> str:
        return ""

    def tell(self, line: str) -> None:
        printing.out.print(f"  {line}", markup=False)


def _lowered(environment: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in environment.items()}
