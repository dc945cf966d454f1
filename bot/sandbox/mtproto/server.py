"""The listener on loopback: key exchange, encrypted requests, answers, updates to every signed-in client.

async with MtprotoServer.start(world) as telegram:
    telegram.add_account(1001, "447700900001", password="…")
    client.session.set_dc(2, "127.0.0.1", telegram.port)
    telethon.crypto.rsa.add_key(telegram.public_key, old=False)
"""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from telethon.tl import functions, types

from bot.sandbox.mtproto import handshake, objects
from bot.sandbox.mtproto.accounts import Account, TwoStep
from bot.sandbox.mtproto.channel import Channel, Incoming, result
from bot.sandbox.mtproto.faults import Drop, Faults, RpcRefusal
from bot.sandbox.mtproto.frames import Frames
from bot.sandbox.mtproto.handshake import Handshake
from bot.sandbox.mtproto.methods import Methods, has, update_of, updates
from bot.sandbox.mtproto.sign_in import API_HASH, API_ID, Device, SignIn
from bot.sandbox.things import Event
from bot.sandbox.world import World

__all__ = ["API_HASH", "API_ID", "MtprotoServer"]

_UNKNOWN_KEY = struct.pack("<i", -404)
_IGNORED = (types.MsgsAck, types.MsgsStateInfo)
_WRAPPERS = (
    functions.InvokeWithLayerRequest,
    functions.InitConnectionRequest,
    functions.InvokeWithoutUpdatesRequest,
    functions.InvokeWithTakeoutRequest,
    functions.InvokeAfterMsgRequest,
)


@dataclass(slots=True, eq=False)
class _Connection:
    frames: Frames
    handshake: Handshake = field(default_factory=Handshake)
    device: Device | None = None
    session: int | None = None
    wants_updates: bool = False


class MtprotoServer:
    """The running server. Use `MtprotoServer.start`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.faults = Faults()
        self.calls: Counter[str] = Counter()
        self.accounts: dict[str, Account] = {}  # by phone
        self.port = 0
        self._devices: dict[int, Device] = {}  # by the id of their keys
        self._connections: set[_Connection] = set()
        self._acting: _Connection | None = None
        sign_in, methods = SignIn(world, self.accounts), Methods(world)
        self._methods = {**sign_in.methods(), **methods.methods(), "GetConfig": self._config}

    @classmethod
    @asynccontextmanager
    async def start(cls, world: World, port: int = 0) -> AsyncIterator["MtprotoServer"]:
        """Serve `world` on a loopback port (0: any free one) while the block runs."""
        await asyncio.to_thread(handshake.key_pair)  # seconds, the first time
        running = cls(world)
        server = await asyncio.start_server(running._serve, "127.0.0.1", port)
        running.port = server.sockets[0].getsockname()[1]
        stop = world.observe(running._observe)
        try:
            yield running
        finally:
            stop()
            server.close()
            for connection in list(running._connections):
                connection.frames.close()
            await server.wait_closed()

    @property
    def public_key(self) -> str:
        """The RSA key that clients must trust, in PEM."""
        return handshake.public_key()

    def add_account(self, user_id: int, phone: str, password: str = "") -> Account:
        """Let a person of the world sign in with his phone."""
        self.accounts[phone] = Account(user_id, phone, TwoStep(password) if password else None)
        return self.accounts[phone]

    def sessions(self, user_id: int) -> int:
        """How many devices he is signed in on."""
        return len(self._devices_of(user_id))

    def revoke(self, user_id: int) -> None:
        """End all his sessions, as «terminate all other sessions» does."""
        for device in self._devices_of(user_id):
            device.account, device.revoked = None, True
        self.drop_all()

    def _devices_of(self, user_id: int) -> list[Device]:
        return [d for d in self._devices.values() if d.account is not None and d.account.user_id == user_id]

    def drop_all(self) -> None:
        """Lose every connection."""
        for connection in list(self._connections):
            connection.frames.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(Frames(reader, writer))
        self._connections.add(connection)
        try:
            while True:
                self._take(connection, await connection.frames.receive())
                await writer.drain()
        except (EOFError, ConnectionError, Drop, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(connection)
            connection.frames.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def _take(self, connection: _Connection, payload: bytes) -> None:
        key_id = struct.unpack_from("<Q", payload)[0]
        if key_id == 0:
            self._exchange(connection, payload)
            return
        connection.device = self._devices.get(key_id)
        if connection.device is None:
            connection.frames.send(_UNKNOWN_KEY)
            raise ConnectionError("a key that nobody knows")
        self._receive(connection, connection.device.channel, connection.device.channel.open(payload))

    def _exchange(self, connection: _Connection, payload: bytes) -> None:
        request = handshake.read_plain(payload)
        answer = connection.handshake.answer(request)
        message_id = struct.unpack_from("<q", payload, 8)[0]
        connection.frames.send(handshake.plain(message_id | 1, answer))
        if (key := connection.handshake.key) is not None:
            self._devices[key.key_id] = Device(Channel(key))
            connection.handshake = Handshake()

    def _receive(self, connection: _Connection, channel: Channel, incoming: Incoming) -> None:
        messages = [message for message in incoming.messages if not isinstance(message.obj, _IGNORED)]
        if messages and connection.session != incoming.session:
            connection.session = incoming.session
            self._push(connection, types.NewSessionCreated(messages[0].msg_id, incoming.session, channel.salt))
        for message in messages:
            if incoming.salt != channel.salt:
                self._push(connection, types.BadServerSalt(message.msg_id, message.seq_no, 48, channel.salt))
            elif isinstance(message.obj, functions.PingRequest | functions.PingDelayDisconnectRequest):
                self._push(connection, types.Pong(message.msg_id, message.obj.ping_id))
            else:
                self._answer(connection, channel, message)

    def _answer(self, connection: _Connection, channel: Channel, message: Any) -> None:
        assert connection.session is not None
        self._acting = connection
        drop: Drop | None = None
        try:
            value, drop = self._call(connection, message.obj)
        except RpcRefusal as refusal:
            value = types.RpcError(refusal.code, refusal.message)
        finally:
            self._acting = None
        if drop is not None:
            raise drop
        connection.frames.send(channel.seal(connection.session, result(message.msg_id, value), is_answer=True))

    def _call(self, connection: _Connection, request: Any) -> tuple[Any, Drop | None]:
        device = connection.device
        assert device is not None
        takeout, connection.wants_updates = None, True
        while isinstance(request, _WRAPPERS):
            if isinstance(request, functions.InvokeWithoutUpdatesRequest):
                connection.wants_updates = False
            elif isinstance(request, functions.InvokeWithTakeoutRequest):
                takeout = request.takeout_id
            request = request.query
        name = type(request).__name__.removesuffix("Request")
        self.calls[name] += 1
        if device.account is None and name not in SignIn.OPEN:
            raise RpcRefusal(401, "SESSION_REVOKED" if device.revoked else "AUTH_KEY_UNREGISTERED")
        planned = self.faults.next(name)
        if isinstance(planned, RpcRefusal) or (isinstance(planned, Drop) and not planned.after_work):
            raise planned
        if takeout is not None and (device.account is None or takeout != device.account.takeout):
            raise RpcRefusal(400, "TAKEOUT_INVALID")
        if name not in self._methods:
            raise RpcRefusal(400, "METHOD_INVALID")
        return self._methods[name](device, request), planned if isinstance(planned, Drop) else None

    def _observe(self, event: Event) -> None:
        """Tell every account that takes part, on all its devices but the one that did it."""
        chat = self.world.chats.get(event.chat_id) if event.chat_id is not None else None
        if chat is None:
            return
        for account in self.accounts.values():
            if not has(chat, account.user_id):
                continue
            if event.kind == "draft" and event.what.user == account.user_id:
                peer = objects.peer(self.world, chat, account.user_id)
                found = types.UpdateDraftMessage(peer, objects.draft(event.what))
                self._tell(account, updates(self.world, account.user_id, [chat], [found]))
            elif (happening := account.note(event)) is not None:
                self._tell(account, self._pushed(account, happening))

    def _pushed(self, account: Account, happening: Any) -> Any:
        """One happening as it is pushed; plain words of two people take Telegram's short form."""
        message, viewer = happening.message, account.user_id
        chat = self.world.chats[message.chat_id]
        if happening.kind == "message" and chat.kind != "group" and objects.is_plain(message):
            return types.UpdateShortMessage(
                id=message.message_id,
                user_id=objects.other_side(self.world, chat, viewer),
                message=message.text,
                pts=happening.pts,
                pts_count=1,
                date=message.date,
                out=message.sender == viewer,
            )
        return updates(self.world, viewer, [chat], [update_of(self.world, happening, viewer)])

    def _tell(self, account: Account, update: Any) -> None:
        for connection in self._connections:
            signed_in = connection.device is not None and connection.device.account is account
            if signed_in and connection.wants_updates and connection is not self._acting:
                self._push(connection, update)

    def _push(self, connection: _Connection, message: Any) -> None:
        assert connection.device is not None and connection.session is not None
        channel = connection.device.channel
        connection.frames.send(channel.seal(connection.session, bytes(message), is_answer=False))

    def _config(self, device: Device, request: Any) -> Any:
        """help.config: one data centre, this one; the numbers are Telegram's."""
        now = datetime.now(UTC)
        names = types.Config.__init__.__annotations__
        numbers = {name: 0 for name, kind in names.items() if kind is int}
        numbers |= {"this_dc": 2, "message_length_max": 4096, "caption_length_max": 1024, "chat_size_max": 200}
        return types.Config(
            date=now,
            expires=now + timedelta(hours=1),
            test_mode=False,
            dc_options=[types.DcOption(2, "127.0.0.1", self.port)],
            dc_txt_domain_name="",
            me_url_prefix="",
            **numbers,
        )
