"""auth.* and account.*: a code, a two-step password, a takeout session, a sign-out."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from telethon.tl import types

from bot.sandbox.mtproto import objects
from bot.sandbox.mtproto.accounts import Account
from bot.sandbox.mtproto.channel import Channel
from bot.sandbox.mtproto.faults import RpcRefusal
from bot.sandbox.things import TELEGRAM
from bot.sandbox.world import World

API_ID, API_HASH = 4242, "0123456789abcdef0123456789abcdef"


@dataclass(slots=True, eq=False)
class Device:
    """One authorization key, and who has signed in with it. `half`: who still owes the two-step password."""

    channel: Channel
    account: Account | None = None
    half: Account | None = None
    revoked: bool = False


class SignIn:
    """The methods, by their names in the schema."""

    def __init__(self, world: World, accounts: dict[str, Account]) -> None:
        self._world = world
        self._accounts = accounts  # by phone

    def methods(self) -> dict[str, Any]:
        """What may be called; those of `OPEN` by anybody."""
        return {
            "SendCode": self._send_code,
            "ResendCode": self._resend_code,
            "SignIn": self._sign_in,
            "GetPassword": self._password,
            "CheckPassword": self._check_password,
            "ExportLoginToken": self._login_token,
            "LogOut": self._log_out,
            "InitTakeoutSession": self._begin_takeout,
            "FinishTakeoutSession": self._finish_takeout,
        }

    OPEN = frozenset(
        {"SendCode", "ResendCode", "SignIn", "GetPassword", "CheckPassword", "GetConfig", "ExportLoginToken"}
    )

    def _send_code(self, device: Device, request: Any) -> Any:
        _check_app(request)
        return self._sent(self._by_phone(request.phone_number))

    def _login_token(self, device: Device, request: Any) -> Any:
        _check_app(request)
        return types.auth.LoginToken(expires=datetime.now(UTC) + timedelta(seconds=30), token=secrets.token_bytes(32))

    def _resend_code(self, device: Device, request: Any) -> Any:
        return self._sent(self._by_phone(request.phone_number))

    def _sent(self, account: Account) -> Any:
        code_hash = account.send_code()
        if TELEGRAM in self._world.users:
            self._world.write(TELEGRAM, account.user_id, f"Login code: {account.last_code}. Give it to nobody.")
        return types.auth.SentCode(type=types.auth.SentCodeTypeApp(length=5), phone_code_hash=code_hash)

    def _sign_in(self, device: Device, request: Any) -> Any:
        account = self._by_phone(request.phone_number)
        account.check_code(request.phone_code_hash, request.phone_code or "")
        account.codes.clear()
        if account.two_step is not None:
            device.half = account
            raise RpcRefusal(401, "SESSION_PASSWORD_NEEDED")
        return self._enter(device, account)

    def _password(self, device: Device, request: Any) -> Any:
        account = device.half or device.account
        if account is None or account.two_step is None:
            raise RpcRefusal(401, "AUTH_KEY_UNREGISTERED")
        return account.two_step.ask()

    def _check_password(self, device: Device, request: Any) -> Any:
        if device.half is None or device.half.two_step is None:
            raise RpcRefusal(401, "AUTH_KEY_UNREGISTERED")
        device.half.two_step.check(request.password)
        return self._enter(device, device.half)

    def _enter(self, device: Device, account: Account) -> Any:
        device.account, device.half, device.revoked = account, None, False
        return types.auth.Authorization(user=objects.user(self._world, account.user_id, account.user_id))

    def _log_out(self, device: Device, request: Any) -> Any:
        device.account = None
        return types.auth.LoggedOut()

    def _begin_takeout(self, device: Device, request: Any) -> Any:
        assert device.account is not None
        device.account.takeout = secrets.randbits(62)
        return types.account.Takeout(id=device.account.takeout)

    def _finish_takeout(self, device: Device, request: Any) -> bool:
        assert device.account is not None
        device.account.takeout = None
        return True

    def _by_phone(self, phone: str) -> Account:
        account = self._accounts.get(phone.removeprefix("+"))
        if account is None:
            raise RpcRefusal(400, "PHONE_NUMBER_INVALID")
        return account


def _check_app(request: Any) -> None:
    if (request.api_id, request.api_hash) != (API_ID, API_HASH):
        raise RpcRefusal(400, "API_ID_INVALID")
