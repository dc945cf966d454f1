"""The server's half of MTProto's key exchange (https://core.telegram.org/mtproto/auth_key)."""

import os
import secrets
import struct
import time
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha1
from typing import Any

import rsa
from telethon import helpers
from telethon.crypto import AES, AuthKey
from telethon.crypto.rsa import _compute_fingerprint as fingerprint
from telethon.extensions import BinaryReader
from telethon.tl import functions, types

# Telegram's own safe prime of 2048 bits; 3 generates a subgroup of prime order under it.
PRIME = int(
    "C71CAEB9C6B1C9048E6C522F70F13F73980D40238E3E21C14934D037563D930F48198A0AA7C14058229493D22530F4DBFA336F6E0AC92513"
    "9543AED44CCE7C3720FD51F69458705AC68CD4FE6B6B13ABDC9746512969328454F18FAF8C595F642477FE96BB2A941D5BCD1D4AC8CC4988"
    "0708FA9B378E3C4F3A9060BEE67CF9A4A4A695811051907E162753B56B0F6B410DBA74D8A84B2A14B3144E0EF1284754FD17ED950D5965B4"
    "B9DD46582DB1178D169C6BC465B0D6FF9CA3928FEF5B9AE4E418FC15E83EBEA0F87FA9FF5EED70050DED2849F47BF959D956850CE929851F"
    "0D8115F635B105EE2E4E15D04B2454BF6F4FADF034B10403119CD8E3B92FCC5B",
    16,
)
GENERATOR = 3
_PQ = 0x17ED48941A08F981  # the documentation's example: a product of two 31-bit primes for the client to factor


@cache
def key_pair() -> Any:
    """The server's RSA key, made once a process; clients are given `public_key()`."""
    return rsa.newkeys(2048)[1]


def public_key() -> str:
    """The RSA key that a client must trust, PKCS#1 in PEM."""
    key = key_pair()
    return str(rsa.PublicKey(key.n, key.e).save_pkcs1().decode())


@dataclass(slots=True)
class Handshake:
    """One exchange; `answer` each plain request, then `key` is there."""

    nonce: int = 0
    server_nonce: int = field(default_factory=lambda: int.from_bytes(os.urandom(16), "little", signed=True))
    new_nonce: int = 0
    secret: int = 0
    key: AuthKey | None = None

    def answer(self, request: Any) -> Any:
        """The reply to one step. ConnectionError where the client does not play by the rules."""
        if isinstance(request, functions.ReqPqMultiRequest):
            self.nonce = request.nonce
            public = rsa.PublicKey(key_pair().n, key_pair().e)
            return types.ResPQ(self.nonce, self.server_nonce, _PQ.to_bytes(8, "big"), [fingerprint(public)])
        if isinstance(request, functions.ReqDHParamsRequest):
            return self._parameters(request)
        if isinstance(request, functions.SetClientDHParamsRequest):
            return self._agree(request)
        raise ConnectionError("a plain message that is no part of the key exchange")

    def _parameters(self, request: Any) -> Any:
        key = key_pair()
        opened = pow(int.from_bytes(request.encrypted_data, "big"), key.d, key.n).to_bytes(255, "big")
        inner = _read(opened[20:])
        if sha1(bytes(inner)).digest() != opened[:20] or inner.server_nonce != self.server_nonce:
            raise ConnectionError("a key exchange that was tampered with")
        self.new_nonce = inner.new_nonce
        self.secret = secrets.randbits(2040)
        public = pow(GENERATOR, self.secret, PRIME)
        answer = bytes(
            types.ServerDHInnerData(
                self.nonce, self.server_nonce, GENERATOR, _big(PRIME), _big(public), int(time.time())
            )
        )
        hashed = sha1(answer).digest() + answer
        hashed += os.urandom(-len(hashed) % 16)
        return types.ServerDHParamsOk(self.nonce, self.server_nonce, AES.encrypt_ige(hashed, *self._temporary()))

    def _agree(self, request: Any) -> Any:
        opened = AES.decrypt_ige(request.encrypted_data, *self._temporary())
        inner = _read(opened[20:])
        if sha1(bytes(inner)).digest() != opened[:20]:
            raise ConnectionError("a key exchange that was tampered with")
        shared = pow(int.from_bytes(inner.g_b, "big"), self.secret, PRIME)
        # As the client writes it, without leading zeros: both must hash the same bytes.
        self.key = AuthKey(shared.to_bytes((shared.bit_length() + 7) // 8, "big"))
        proof = self.key.calc_new_nonce_hash(self.new_nonce, 1)
        return types.DhGenOk(self.nonce, self.server_nonce, proof)

    def _temporary(self) -> tuple[bytes, bytes]:
        key, iv = helpers.generate_key_data_from_nonce(self.server_nonce, self.new_nonce)
        return key, iv


def read_plain(payload: bytes) -> Any:
    """An unencrypted message: key id 0, message id, length, body."""
    return _read(payload[20:])


def plain(message_id: int, answer: Any) -> bytes:
    """An unencrypted answer."""
    body = bytes(answer)
    return struct.pack("<qqi", 0, message_id, len(body)) + body


def _read(data: bytes) -> Any:
    with BinaryReader(data) as reader:
        return reader.tgread_object()


def _big(number: int) -> bytes:
    return number.to_bytes(256, "big")
