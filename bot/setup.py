"""`likeme setup`: from nothing to a working installation. What is answered is tried at once and kept in .env."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import dotenv
from telegram import Bot, Message, Update
from telegram.error import Conflict, InvalidToken, TelegramError

from bot import account, machine, sync, terminal, work
from bot.account import SESSION
from bot.asking import Person
from bot.history import summary
from bot.settings import Settings, load
from bot.texts import Reader, say, spoken, writing_to
from bot.voice import Voice
from storage.errors import BadInput, LikemeError, ModelError, NotSignedIn
from storage.records import Account

ENV = Path(".env")
POLL_SECONDS = 10
APPS = "https://my.telegram.org/apps"


@dataclass(slots=True)
class Walk:
    """The person who is led, and what he has answered so far."""

    person: Person
    home: Path | None

    @property
    def settings(self) -> Settings:
        """As .env and the environment say now."""
        return load(self.home)

    def keep(self, **values: object) -> None:
        """Write answers down: the file is replaced whole, and its owner's alone."""
        try:
            ENV.touch(mode=0o600)
            ENV.chmod(0o600)
            for name, value in values.items():
                dotenv.set_key(ENV, name, str(value), quote_mode="auto")
        except OSError as error:
            where = f"{ENV.resolve()} can't be written ({error.strerror})"
            raise BadInput(f"{where}: run likeme setup in a folder of yours.") from error
        for name, value in values.items():
            if name in os.environ and os.environ[name] != str(value):
                self.person.tell(f"  ! {name} is set in the environment too, which wins over .env: unset it there")

    def good(self, line: str) -> None:
        """A thing that is well."""
        self.person.tell(f"  ✓ {line}")

    def wrong(self, line: str) -> None:
        """A thing that is not, and what to do."""
        self.person.tell(f"  ✗ {line}")


async def walk(home: Path | None, person: Person) -> None:
    """Every step in turn; one whose answer is there and works asks nothing."""
    led = Walk(person, home)
    person.tell("Ctrl-C stops at any time: what you have answered stays in .env, likeme setup goes on from there.")
    if home is not None:
        led.keep(LIKEME_HOME=home)
    for number, (title, step) in enumerate(STEPS, 1):
        person.tell(f"\n{number}  {title}")
        await step(led)
    person.tell("\nAll set. likeme doctor looks at everything; likeme run starts the bot: write /help to it.")


async def _token(led: Walk) -> None:
    token = led.settings.bot_token.get_secret_value()
    if not token:
        led.person.tell("  In Telegram write to @BotFather: /newbot, a name, a username. It gives you a token.")
    while True:
        token = token or led.person.ask("  The token", secret=True)
        try:
            async with _bot(led.settings, token) as bot:
                name = bot.username
            break
        except InvalidToken:
            led.wrong("Telegram knows no such token: copy it again from @BotFather.")
            token = ""
        except TelegramError as error:
            led.wrong(f"Telegram can't be reached ({type(error).__name__}): check the network.")
            token = led.person.ask("  The token (Enter: the same again)", default=token, secret=True)
    if token != led.settings.bot_token.get_secret_value():
        led.keep(BOT_TOKEN=token)
    led.good(f"@{name} answers")


def _bot(settings: Settings, token: str = "") -> Bot:
    return Bot(token or settings.bot_token.get_secret_value(), base_url=f"{settings.bot_api_url}/bot")


async def _owner(led: Walk) -> None:
    async with _bot(led.settings) as bot:
        if led.settings.owner_id and await _reaches(bot, led.settings.owner_id):
            led.good(f"it writes to user {led.settings.owner_id} and obeys nobody else")
            return
        if led.settings.owner_id:
            led.wrong(f"The bot can't write to OWNER_ID {led.settings.owner_id}.")
        led.person.tell(f"  From your own account write anything to @{bot.username} (https://t.me/{bot.username}) …")
        while True:
            written = await _first_message(led, bot)
            user = written.from_user
            assert user is not None
            handle = f", @{user.username}" if user.username else ""
            if led.person.agrees(f"  {user.full_name}{handle} (user {user.id}) has written. Is that you?"):
                break
            led.person.tell("  Then it goes unanswered. Waiting for you …")
        led.keep(OWNER_ID=user.id)
        with writing_to(Reader(spoken(user.language_code) or Reader().language)):
            await bot.send_message(user.id, say("setup_owner", name=user.first_name))
        led.good(f"user {user.id} is the owner")


async def _reaches(bot: Bot, user: int) -> bool:
    try:
        return await bot.send_chat_action(user, "typing")
    except TelegramError:
        return False


async def _first_message(led: Walk, bot: Bot) -> Message:
    """The next thing that a person writes to the bot in private; older ones count, they are confirmed as they come."""
    offset, told = None, False
    while True:
        try:
            updates = await bot.get_updates(
                offset=offset, timeout=POLL_SECONDS, read_timeout=POLL_SECONDS + 5, allowed_updates=[Update.MESSAGE]
            )
        except Conflict:
            if not told:
                led.wrong("Another program reads what this bot is told (likeme run?): stop it; I go on by myself.")
            told, updates = True, ()
            await asyncio.sleep(2)
        for update in updates:
            offset = update.update_id + 1
            message = update.message
            if message and message.from_user and message.chat.type == "private":
                await bot.get_updates(offset=offset, timeout=0, allowed_updates=[Update.MESSAGE])
                return message


async def _app(led: Walk) -> None:
    settings = led.settings
    if not settings.api_id:
        led.person.tell(f"  An app of yours on {APPS} lets likeme fetch your history and put drafts into input lines.")
        led.person.tell("  You can do without: an export from Telegram Desktop and Telegram Business do as well.")
    elif await _works(led, settings):
        led.good("API_ID and API_HASH belong together")
        return
    while True:
        given = led.person.ask("  API_ID (Enter: without)", default=str(settings.api_id or ""))
        if not given:
            return
        if not given.isdigit():
            led.wrong("It is a number.")
            continue
        api_hash = led.person.ask("  API_HASH", secret=True)
        tried = settings.model_copy(update={"api_id": int(given), "api_hash": type(settings.api_hash)(api_hash)})
        if api_hash and await _works(led, tried):
            led.keep(API_ID=given, API_HASH=api_hash)
            led.good("API_ID and API_HASH belong together")
            return


async def _works(led: Walk, settings: Settings) -> bool:
    try:
        await account.check_app(settings)
    except LikemeError as error:
        led.wrong(str(error))
        return False
    return True


async def _login(led: Walk) -> None:
    settings = led.settings
    if not settings.api_id:
        led.good("left out: it needs an API_ID")
        return
    while True:
        try:
            async with account.opened(settings) as own:
                me = await own.me()
            led.good(f"signed in as {me.first_name} (user {me.user_id})")
            return
        except NotSignedIn:
            pass
        except LikemeError as error:
            led.wrong(str(error))
        if not led.person.agrees("  Sign in to your own account now?"):
            return
        try:
            await account.login(settings, terminal.SigningIn(led.person), lambda who: _accept(settings, who))
        except LikemeError as error:
            led.wrong(str(error))


async def _accept(settings: Settings, who: Account) -> None:
    if settings.owner_id not in (0, who.user_id):
        raise BadInput(f"This account is user {who.user_id}, but the bot's owner is {settings.owner_id}.")
    await sync.accept(settings, who)


async def _history(led: Walk) -> None:
    settings = led.settings
    async with work.database(settings) as database:
        numbers = await summary(database)
    if numbers["messages"]:
        led.good(f"{numbers['messages']:,} messages in {numbers['chats']:,} chats, {numbers['own']:,} of them yours")
        return
    if (settings.likeme_home / SESSION).exists() and led.person.agrees("  Fetch it from your account now?"):
        try:
            report = await terminal.sync_account(settings)
            led.good("; ".join(report.lines()))
            return
        except LikemeError as error:
            led.wrong(f"{error} likeme sync goes on from there.")
    led.person.tell("  In Telegram Desktop: Settings → Advanced → Export Telegram data, format JSON.")
    while path := led.person.ask("  Path of result.json or of its folder (Enter: later)"):
        try:
            brought = await work.import_history(settings, _there(path), None)
            led.good("; ".join(brought.lines()[:2]))
            return
        except LikemeError as error:
            led.wrong(str(error))


def _there(path: str) -> Path:
    return Path(path).expanduser()


async def _model(led: Walk) -> None:
    settings = led.settings
    token = settings.model_token.get_secret_value()
    if settings.model_url and await _answers(led, settings.model_url, token, settings.model_name):
        return
    if not settings.model_url and dotenv.dotenv_values(ENV).get("BASE_MODEL"):
        led.good(f"{dotenv.dotenv_values(ENV)['BASE_MODEL']} on this machine")
        return
    chosen = machine.choose(machine.cards())
    led.person.tell(f"  {chosen.why}.")
    for lacking in machine.lacking(chosen):
        led.wrong(lacking)
    while True:
        url = led.person.ask("  A model server on another machine? Its URL (Enter: here)", default=settings.model_url)
        if not url:
            led.keep(MODEL_URL="", BASE_MODEL=chosen.base_model, QUANTIZATION=chosen.quantization)
            led.good(f"{chosen.base_model} on this machine; BASE_MODEL in .env changes it")
            return
        token = led.person.ask("  Its token (MODEL_TOKEN there)", secret=True)
        name = led.person.ask("  The model's name, if it is vLLM, llama.cpp or Ollama (Enter: likeme serve)")
        if await _answers(led, url, token, name):
            led.keep(MODEL_URL=url, MODEL_TOKEN=token, MODEL_NAME=name)
            return


async def _answers(led: Walk, url: str, token: str, name: str) -> bool:
    voice = Voice(url, token, name)
    try:
        if name:
            await voice.draw(name, [{"role": "user", "content": "hi"}], 1)
        led.good(f"{url} answers with {name or await voice.base_model()}")
        return True
    except ModelError as error:
        led.wrong(str(error))
        return False
    finally:
        await voice.close()


STEPS: tuple[tuple[str, Callable[[Walk], Awaitable[None]]], ...] = (
    ("The bot", _token),
    ("Its owner", _owner),
    ("Your own account: the app", _app),
    ("Your own account: signing in", _login),
    ("Your history", _history),
    ("The model", _model),
)


def main(home: Path | None) -> None:
    """Walk; a stop is no failure, it is told how to go on."""
    try:
        asyncio.run(walk(home, Person()))
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. What you have answered is in .env: likeme setup goes on from there.\n")
        sys.exit(130)
    except BadInput as error:
        raise BadInput(f"{error} What you have answered is in .env: likeme setup goes on from there.") from error
