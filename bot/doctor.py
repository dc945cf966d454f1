"""What is well and what is not, each wrong thing with its mend."""

import os
import re
import shutil
import stat
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import dotenv
import httpx
from telegram import Bot
from telegram.error import BadRequest, Forbidden, InvalidToken, TelegramError

from bot import account, machine, nightly, pulse
from bot.history import now, summary
from bot.model_process import model_server
from bot.printing import LOG
from bot.settings import Settings
from storage import nights, runs
from storage.database import Database
from storage.errors import LikemeError

ROOM_GB = 5
CLOCK_SECONDS = 30  # Telegram refuses an account's messages from clocks that are much further off
ERRORS_DAYS = 7
PACKAGES = ("python-telegram-bot", "telethon", "torch", "transformers", "bitsandbytes")
_ERROR = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ (?:ERROR|CRITICAL) (.*)", re.MULTILINE)


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
        _versions(),
        _permissions(settings),
        _disk(settings),
        _card(settings),
        await _history(settings),
        await _model(settings),
        await _clock(settings),
        await _bot(settings),
        await _account(settings),
        await _schedule(settings),
        _errors(settings),
    ]


def _versions() -> Check:
    found = [f"likeme {version('likeme')}", f"Python {sys.version.split()[0]}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return Check("versions", sys.version_info >= (3, 11), ", ".join(found), "install Python 3.11 or newer")


def _permissions(settings: Settings) -> Check:
    """What others on this machine must not read."""
    home = settings.likeme_home
    private = [path for path in (home, *home.glob("*"), Path(".env")) if path.exists()]
    if not home.exists():
        return Check("permissions", True, f"{home} is not there yet; the first import makes it")
    inside = home.stat().st_mode & 0o077 == 0  # what lies in a closed folder is closed
    exposed = [path for path in private if _is_open(path) and not (inside and home in path.parents)]
    if not exposed:
        return Check("permissions", True, f"{home.resolve()} and .env are yours alone")
    named = " ".join(map(str, exposed))
    return Check("permissions", False, f"others may read {named}", f"chmod go= {named}")


def _is_open(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) & 0o077 != 0


def _disk(settings: Settings) -> Check:
    home = settings.likeme_home.resolve()
    place = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(place).free / 1e9
    return Check("disk", free > ROOM_GB, f"{free:.0f} GB free", f"make room: trainings want {ROOM_GB} GB")


def _card(settings: Settings) -> Check:
    if settings.model_url:
        return Check("card", True, f"not needed: the model is at {settings.model_url}")
    found = machine.cards()
    if not found:
        return Check("card", True, "no NVIDIA card: the embedded model runs on the CPU")
    text = "; ".join(
        f"{one.name}, {one.free_gib:.1f} of {one.total_gib:.1f} GiB free, driver {one.driver}" for one in found
    )
    wanted = os.environ.get("BASE_MODEL") or dotenv.dotenv_values(".env").get("BASE_MODEL") or machine.LARGE
    small = wanted == machine.LARGE and machine.choose(found).base_model != machine.LARGE
    mend = f"BASE_MODEL={machine.EMBEDDED} in .env, or a card of {machine.NF4_GIB:.0f} GiB and more"
    return Check("card", not small, text + (f": too small for {wanted}" if small else ""), mend)


async def _history(settings: Settings) -> Check:
    path = settings.likeme_home / "history.db"
    if not path.exists():
        return Check("history", False, "none yet", "likeme import PATH, or likeme sync")
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
    text = f"{numbers['messages']:,} messages in {numbers['chats']:,} chats; {voice}"
    return Check("history", numbers["messages"] > 0, text, "likeme import PATH, or likeme sync")


async def _model(settings: Settings) -> Check:
    if not settings.model_url and find_spec("torch") is None:
        return Check("model", False, "torch is not installed", "make setup, or set MODEL_URL to a model server")
    began = time.monotonic()
    try:
        async with model_server(settings) as voice:
            health = await voice.ready()
    except LikemeError as error:
        return Check("model", False, str(error), _mend_of_model(settings))
    took = time.monotonic() - began
    return Check("model", True, f"{health['base_model']} on {health['device']}, there after {took:.0f} s")


def _mend_of_model(settings: Settings) -> str:
    if settings.model_url:
        return "start it there, and check MODEL_URL and MODEL_TOKEN in .env"
    return f"see {settings.likeme_home / 'serve.log'}"


async def _clock(settings: Settings) -> Check:
    """Against Telegram's own, as its answers carry it."""
    try:
        async with httpx.AsyncClient(timeout=10) as client:
            answer = await client.head(settings.bot_api_url)
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (httpx.HTTPError, KeyError, ValueError) as error:
        return Check("clock", False, f"not compared: {type(error).__name__}", "check the network, then look again")
    off = (now() - theirs).total_seconds()
    text = (
        "right" if abs(off) <= CLOCK_SECONDS else f"{abs(off):,.0f} s {'ahead of' if off > 0 else 'behind'} Telegram's"
    )
    return Check("clock", abs(off) <= CLOCK_SECONDS, text, "timedatectl set-ntp true")


async def _bot(settings: Settings) -> Check:
    token = settings.bot_token.get_secret_value()
    if not token or not settings.owner_id:
        return Check("bot", False, "BOT_TOKEN or OWNER_ID is not set", "likeme setup")
    try:
        async with Bot(token, base_url=f"{settings.bot_api_url}/bot") as bot:
            name = bot.username
            await bot.send_chat_action(settings.owner_id, "typing")
    except InvalidToken:
        return Check("bot", False, "Telegram refused BOT_TOKEN", "copy it again from @BotFather")
    except (Forbidden, BadRequest):
        return Check("bot", False, f"it can't write to OWNER_ID {settings.owner_id}", "write /start to it, as him")
    except TelegramError as error:
        return Check("bot", False, f"Telegram can't be reached ({type(error).__name__})", "check the network")
    return Check("bot", True, f"@{name} answers and writes to user {settings.owner_id}")


async def _account(settings: Settings) -> Check:
    if not settings.api_id:
        return Check("account", True, "without: history comes by import, drafts by Telegram Business")
    if not (settings.likeme_home / account.SESSION).exists():
        return Check("account", False, "API_ID is set, but nobody is signed in", "likeme login")
    try:
        async with account.opened(settings) as own:
            me = await own.me()
    except account.Held:
        return Check("account", True, "in the hands of a likeme that runs")
    except LikemeError as error:
        return Check("account", False, str(error), "likeme login")
    return Check("account", True, f"signed in as user {me.user_id}")


async def _schedule(settings: Settings) -> Check:
    """The nights: when, whether anybody is up then, and how the last one went."""
    path = settings.likeme_home / "history.db"
    if not path.exists():
        return Check("schedule", True, "no nights yet")
    try:
        async with Database.open(path) as database:
            wanted, last = await nightly.at(database, settings), await nights.latest(database)
    except LikemeError as error:
        return Check("schedule", False, str(error), "NIGHTLY in .env, or /nightly 03:30")
    if wanted is None:
        return Check("schedule", True, "no nights: /nightly 03:30 or NIGHTLY switches them on")
    text = f"every night at {wanted:%H:%M} ({nightly.zone_of(settings)})"
    if not pulse.is_alive(settings.likeme_home, time.time()):
        return Check("schedule", False, f"{text}, but the bot is not up", "likeme run; deploy/ has units and compose")
    if last and last[0].outcome == "failed":
        return Check("schedule", False, f"{text}; the last one failed: {last[0].reason}", "/nightly now tries again")
    return Check("schedule", True, text)


def _errors(settings: Settings) -> Check:
    """The newest error in either process's log."""
    found = []
    for name in (LOG, "serve.log"):
        path = settings.likeme_home / name
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        found += [(when, line, path) for when, line in _ERROR.findall(text)]
    recent = [one for one in found if (datetime.now() - datetime.fromisoformat(one[0])).days < ERRORS_DAYS]  # noqa: DTZ005 - logs are in local time
    if not recent:
        return Check("errors", True, f"none in the last {ERRORS_DAYS} days")
    when, line, path = max(recent)
    text = f"{len(recent)} in the last {ERRORS_DAYS} days, the newest at {when}: {line[:120]}"
    return Check("errors", False, text, f"see {path}; docs/troubleshooting.md goes by symptom")
