"""What is well and what is not, each wrong thing with its mend."""

import importlib.util
import shutil
import stat
import sys
from dataclasses import dataclass
from importlib.metadata import version

from telegram import Bot
from telegram.error import InvalidToken, TelegramError

from bot.history import summary
from bot.model_process import model_server
from bot.settings import Settings
from storage import runs
from storage.database import Database
from storage.errors import LikemeError

ROOM_GIB = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the examination."""

    name: str
    good: bool
    text: str
    mend: str = ""


async def examine(settings: Settings) -> list[Check]:
    """Every check, in an order in which mending makes sense."""
    return [
        _python(),
        _home(settings),
        _disk(settings),
        await _history(settings),
        await _model(settings),
        await _bot(settings),
    ]


def _python() -> Check:
    text = f"likeme {version('likeme')}, Python {sys.version.split()[0]}"
    return Check("versions", sys.version_info >= (3, 11), text, "install Python 3.11 or newer")


def _home(settings: Settings) -> Check:
    home = settings.likeme_home
    if not home.exists():
        return Check("home", True, f"{home} is not there yet; the first import makes it")
    mode = stat.S_IMODE(home.stat().st_mode)
    closed = mode & 0o077 == 0
    return Check("home", closed, f"{home.resolve()}, mode {mode:o}", f"chmod 700 {home}")


def _disk(settings: Settings) -> Check:
    place = next(
        path for path in (settings.likeme_home.resolve(), *settings.likeme_home.resolve().parents) if path.exists()
    )
    free = shutil.disk_usage(place).free / 2**30
    return Check("disk", free > ROOM_GIB, f"{free:.0f} GiB free", f"make room: training wants {ROOM_GIB} GiB")


async def _history(settings: Settings) -> Check:
    path = settings.likeme_home / "history.db"
    if not path.exists():
        return Check("history", False, "none yet", "likeme import PATH")
    try:
        async with Database.open(path) as database:
            row = await database.row("PRAGMA quick_check")
            if row is None or row[0] != "ok":
                return Check("history", False, f"{path} is damaged", "restore a backup of the home folder")
            numbers = await summary(database)
            serving = await runs.serving(database)
    except LikemeError as error:
        return Check("history", False, str(error))
    voice = f"version {serving.number} speaks" if serving else "no trained voice yet"
    return Check("history", True, f"{numbers['messages']:,} messages in {numbers['chats']:,} chats; {voice}")


async def _model(settings: Settings) -> Check:
    if not settings.model_url and importlib.util.find_spec("torch") is None:
        return Check("model", False, "torch is not installed", "make setup, or set MODEL_URL to a model server")
    try:
        async with model_server(settings) as voice:
            health = await voice.ready()
    except LikemeError as error:
        return Check("model", False, str(error), "see serve.log in the home folder")
    return Check("model", True, f"{health['base_model']} on {health['device']}")


async def _bot(settings: Settings) -> Check:
    token = settings.bot_token.get_secret_value()
    if not token or not settings.owner_id:
        return Check("bot", True, "BOT_TOKEN or OWNER_ID not set; needed for likeme run only")
    try:
        async with Bot(token, base_url=f"{settings.bot_api_url}/bot") as bot:
            return Check("bot", True, f"@{bot.username} answers")
    except InvalidToken:
        return Check("bot", False, "Telegram refused BOT_TOKEN", "copy it again from @BotFather")
    except TelegramError as error:
        return Check("bot", False, f"Telegram can't be reached ({type(error).__name__})", "check the network")
