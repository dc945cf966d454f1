"""The owner's own account through Telethon: sign-in, a connection, cloud drafts.

The session file is full access to the account: 0600, in the home folder, and one process's at a time.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from telethon import TelegramClient, errors, functions, types
from telethon.crypto import rsa
from telethon.sessions import MemorySession

from bot.alone import alone
from bot.settings import Settings, require_api
from bot.texts import duration, say
from storage.errors import BadInput, LikemeError, NotSignedIn, TelegramError
from storage.records import Account

log = logging.getLogger(__name__)

SESSION = "account.session"
TRIES = 3
_ENDED = (errors.UnauthorizedError, errors.AuthKeyNotFound, errors.AuthKeyError)


class Held(TelegramError):
    """Another process has the account in its hands."""


class Asking(Protocol):
    """Whom sign-in asks; the terminal, in a real run."""

    def phone(self) -> str:
        """The account's phone number."""

    def code(self) -> str:
        """The code that Telegram has sent."""

    def password(self) -> str:
        """The two-step password."""

    def tell(self, line: str) -> None:
        """A word in between."""


class OwnAccount:
    """A signed-in client, connected."""

    def __init__(self, client: TelegramClient) -> None:
        self.client = client

    async def me(self) -> Account:
        """Whose account it is."""
        with telegram_errors():
            return _account(await self.client.get_me())

    async def draft(self, chat_id: int) -> str:
        """What stands unsent in a chat's input line, on all the owner's devices; "" for nothing."""
        with telegram_errors():
            peer = types.InputDialogPeer(await self._peer(chat_id))
            found = await self.client(functions.messages.GetPeerDialogsRequest([peer]))
            return getattr(found.dialogs[0].draft, "message", "") or ""

    async def put_draft(self, chat_id: int, text: str, replaces: str = "") -> bool:
        """Put words into a chat's input line; nothing is sent. `replaces` is what we put there before.

        False, and nothing done, where something else stands there: the owner has typed it.
        """
        if await self.draft(chat_id) not in ("", replaces, text):
            return False
        with telegram_errors():
            await self.client(functions.messages.SaveDraftRequest(await self._peer(chat_id), text))
        return True

    async def _peer(self, chat_id: int) -> Any:
        try:
            return await self.client.get_input_entity(chat_id)
        except ValueError:
            raise TelegramError(say("account_no_chat", chat_id=chat_id)) from None


@asynccontextmanager
async def opened(settings: Settings, *, live: bool = False) -> AsyncIterator[OwnAccount]:
    """The signed-in account, connected; `live`: it receives updates.

    NotSignedIn where there is no session or Telegram has ended it, TelegramError where it can't be reached.
    """
    path = settings.likeme_home / SESSION
    if not path.exists():
        raise NotSignedIn("You are not signed in: likeme login first.")
    async with _connected(settings, live=live) as client:
        with telegram_errors():
            signed_in = await client.is_user_authorized()
        if not signed_in:
            raise NotSignedIn(say("account_over"))
        yield OwnAccount(client)


async def login(settings: Settings, ask: Asking, accept: Callable[[Account], Any]) -> Account:
    """Sign in and keep the session. `accept` is awaited before: what it raises signs out again."""
    path = settings.likeme_home / SESSION
    useless = not path.exists()
    try:
        async with _connected(settings) as client:
            with telegram_errors():
                if not await client.is_user_authorized():
                    useless = True
                    await _sign_in(client, ask)
                owner = _account(await client.get_me())
            try:
                await accept(owner)
            except LikemeError:
                useless = True
                await client(functions.auth.LogOutRequest())
                raise
            useless = False
    finally:
        if useless:
            path.unlink(missing_ok=True)
    return owner


async def logout(settings: Settings) -> bool:
    """End the session on the server and delete its file. False: Telegram had ended it before."""
    path = settings.likeme_home / SESSION
    if not path.exists():
        raise NotSignedIn("You are not signed in: there is nothing to end.")
    try:
        async with opened(settings) as account:
            with telegram_errors():
                await account.client(functions.auth.LogOutRequest())
        ended = True
    except NotSignedIn:
        ended = False
    path.unlink(missing_ok=True)
    return ended


async def check_app(settings: Settings) -> None:
    """Whether API_ID and API_HASH belong together; nobody is signed in for it. BadInput says so."""
    require_api(settings)
    client = _client(settings, MemorySession())
    try:
        with telegram_errors():
            await client.connect()
            await client(
                functions.auth.ExportLoginTokenRequest(settings.api_id, settings.api_hash.get_secret_value(), [])
            )
    finally:
        await client.disconnect()


@contextmanager
def telegram_errors() -> Iterator[None]:
    """Telethon's errors as likeme's: what happened, and what to do."""
    try:
        yield
    except _ENDED as error:
        raise NotSignedIn(say("account_over")) from error
    except errors.FloodWaitError as error:
        raise TelegramError(say("telegram_wait", wait=duration(error.seconds))) from error
    except errors.ApiIdInvalidError as error:
        raise BadInput(say("account_wrong_app")) from error
    except errors.RPCError as error:
        raise TelegramError(say("telegram_refused", reason=type(error).__name__.removesuffix("Error"))) from error
    except (OSError, ValueError) as error:  # ValueError: Telethon's word for «failed five times»
        raise TelegramError(say("telegram_away", reason=type(error).__name__)) from error


async def _sign_in(client: TelegramClient, ask: Asking) -> None:
    phone = await _send_code(client, ask)
    for tries_left in reversed(range(TRIES)):
        try:
            await client.sign_in(phone, ask.code())
            return
        except errors.SessionPasswordNeededError:
            await _second_step(client, ask)
            return
        except (errors.PhoneCodeInvalidError, errors.PhoneCodeEmptyError):
            ask.tell(f"That is not the code; {tries_left} tries left.")
        except errors.PhoneCodeExpiredError:
            ask.tell("That code has expired; Telegram sends another one.")
            await client.send_code_request(phone)
    raise BadInput(f"{TRIES} wrong codes: likeme login starts again.")


async def _send_code(client: TelegramClient, ask: Asking) -> str:
    for _ in range(TRIES):
        phone = ask.phone()
        try:
            await client.send_code_request(phone)
            return phone
        except (errors.PhoneNumberInvalidError, TypeError):
            ask.tell("Telegram knows no such number; give it with the country's code, as +49 …")
    raise BadInput(f"{TRIES} numbers that Telegram does not know: likeme login starts again.")


async def _second_step(client: TelegramClient, ask: Asking) -> None:
    for tries_left in reversed(range(TRIES)):
        try:
            await client.sign_in(password=ask.password())
            return
        except (errors.PasswordHashInvalidError, errors.PasswordEmptyError):
            ask.tell(f"That is not the password; {tries_left} tries left.")
    raise BadInput(f"{TRIES} wrong passwords: likeme login starts again.")


@asynccontextmanager
async def _connected(settings: Settings, *, live: bool = False) -> AsyncIterator[TelegramClient]:
    require_api(settings)
    home = settings.likeme_home
    # Two processes with one session would overwrite each other's state.
    with alone(home / "account.lock", Held(say("account_held"))):
        client = _client(settings, _session_file(home), live)
        try:
            with telegram_errors():
                await client.connect()
            yield client
        finally:
            await client.disconnect()


def _session_file(home: Path) -> str:
    path = home / SESSION
    path.touch(mode=0o600)
    path.chmod(0o600)
    return str(path)


def _client(settings: Settings, session: str | MemorySession, live: bool = False) -> TelegramClient:
    client = TelegramClient(
        session,
        settings.api_id,
        settings.api_hash.get_secret_value(),
        flood_sleep_threshold=0,  # Telethon's own sleep would use up a request's retries
        sequential_updates=True,
        receive_updates=live,
        device_model="likeme",
        base_logger=_log_of_telethon(),
    )
    if settings.mtproto_server:
        host, _, port = settings.mtproto_server.rpartition(":")
        if not host or not port.isdigit():
            raise BadInput(f"MTPROTO_SERVER: {settings.mtproto_server} is no host:port.")
        client.session.set_dc(2, host, int(port))
        rsa.add_key(_key(settings), old=False)
    return client


def _key(settings: Settings) -> str:
    try:
        return Path(settings.mtproto_key).read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise BadInput(f"MTPROTO_KEY: {settings.mtproto_key or 'no file'} can't be read as a key.") from error


def _log_of_telethon() -> logging.Logger:
    discreet = _Discreet("telethon", logging.WARNING)
    discreet.parent = log
    return discreet


class _Discreet(logging.Logger):
    """Telethon's warnings without their values, which may be requests: words, codes and phone numbers."""

    def getChild(self, suffix: str) -> "_Discreet":
        return self

    def handle(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0]:
            record.msg = f"{record.msg} [{record.exc_info[0].__name__}]"
        record.args, record.exc_info = (), None
        super().handle(record)


def _account(user: Any) -> Account:
    return Account(user.id, user.first_name or "", user.last_name or "", user.username or "")
