"""Encrypted messages of one authorization key (https://core.telegram.org/mtproto/description), the server's half."""

import os
import secrets
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from telethon.crypto import AES, AuthKey
from telethon.extensions import BinaryReader
from telethon.network.mtprotostate import MTProtoState
from telethon.tl.core import GzipPacked, MessageContainer, TLMessage

VECTOR, TRUE, FALSE, RPC_RESULT = 0x1CB5C415, 0x997275B5, 0xBC799737, 0xF35C6D01


@dataclass(frozen=True, slots=True)
class Incoming:
    """What one encrypted payload held. `salt` is the client's idea of the server's."""

    salt: int
    session: int
    messages: tuple[Any, ...]  # TLMessage: msg_id, seq_no, obj


@dataclass(slots=True)
class Channel:
    """One key's way in and out."""

    key: AuthKey
    salt: int = field(default_factory=lambda: secrets.randbits(62))
    _last_id: int = 0
    _content: int = 0

    def open(self, payload: bytes) -> Incoming:
        """Decrypt and check. ConnectionError where the payload was not made with this key."""
        message_key = payload[8:24]
        plain = AES.decrypt_ige(payload[24:], *MTProtoState._calc_key(self.key.key, message_key, True))
        if sha256(self.key.key[88:120] + plain).digest()[8:24] != message_key:
            raise ConnectionError("a message whose key does not fit")
        salt, session, message_id, sequence, length = struct.unpack_from("<qqqii", plain)
        with BinaryReader(plain[32 : 32 + length]) as reader:
            first = TLMessage(message_id, sequence, reader.tgread_object())
        return Incoming(salt, session, tuple(_unpacked(first)))

    def seal(self, session: int, body: bytes, *, is_answer: bool) -> bytes:
        """Encrypt one message of the server's."""
        self._content += 1
        head = struct.pack("<qqqii", self.salt, session, self._next_id(is_answer), 2 * self._content - 1, len(body))
        plain = head + body
        plain += os.urandom(-(len(plain) + 12) % 16 + 12)
        message_key = sha256(self.key.key[96:128] + plain).digest()[8:24]
        secret = AES.encrypt_ige(plain, *MTProtoState._calc_key(self.key.key, message_key, False))
        return bytes(struct.pack("<Q", self.key.key_id) + message_key + secret)

    def _next_id(self, is_answer: bool) -> int:
        """Seconds since 1970 in the upper half; ends in 01 for an answer, in 11 for an update."""
        number = int(time.time() * 2**32) & ~3
        self._last_id = max(number, (self._last_id & ~3) + 4) | (1 if is_answer else 3)
        return self._last_id


def result(request_id: int, value: Any) -> bytes:
    """rpc_result: a TL object, a bool, or a vector of objects."""
    return struct.pack("<Iq", RPC_RESULT, request_id) + _body(value)


def _body(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I", TRUE if value else FALSE)
    if isinstance(value, list):
        return struct.pack("<Ii", VECTOR, len(value)) + b"".join(map(bytes, value))
    whole = bytes(value)
    packed = bytes(GzipPacked(whole)) if len(whole) > 512 else whole
    return packed if len(packed) < len(whole) else whole


def _unpacked(message: Any) -> Iterator[Any]:
    """Messages out of containers and out of gzip."""
    if isinstance(message.obj, MessageContainer):
        for inner in message.obj.messages:
            yield from _unpacked(inner)
    elif isinstance(message.obj, GzipPacked):
        with BinaryReader(message.obj.data) as reader:
            yield TLMessage(message.msg_id, message.seq_no, reader.tgread_object())
    else:
        yield message
