"""Who may sign in, and what has happened to each account since which pts.

The two-step password is Telegram's SRP (https://core.telegram.org/api/srp); the server keeps g^x, never the words.
"""

import os
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

from telethon.password import big_num_for_hash, compute_digest, num_bytes_for_hash, sha256, xor
from telethon.tl import types

from bot.sandbox.mtproto.faults import RpcRefusal
from bot.sandbox.mtproto.handshake import GENERATOR, PRIME
from bot.sandbox.things import Event, Message

_P = PRIME.to_bytes(256, "big")
_G = big_num_for_hash(GENERATOR)


@dataclass(frozen=True, slots=True)
class Happening:
    """One step of an account's pts."""

    pts: int
    kind: Literal["message", "edited", "deleted"]
    message: Message


class TwoStep:
    """One account's second step."""

    def __init__(self, password: str) -> None:
        self._algorithm = types.PasswordKdfAlgoSHA256SHA256PBKDF2HMACSHA512iter100000SHA256ModPow(
            salt1=os.urandom(32), salt2=os.urandom(32), g=GENERATOR, p=_P
        )
        self._verifier = int.from_bytes(compute_digest(self._algorithm, password), "big")
        self._open: dict[int, tuple[int, bytes]] = {}  # srp_id -> (b, B)

    def ask(self) -> Any:
        """account.password: a fresh challenge."""
        b, srp_id = secrets.randbits(2048), secrets.randbits(62)
        multiplier = int.from_bytes(sha256(_P, _G), "big")
        public = (multiplier * self._verifier + pow(GENERATOR, b, PRIME)) % PRIME
        self._open[srp_id] = b, big_num_for_hash(public)
        return types.account.Password(
            new_algo=self._algorithm,
            new_secure_algo=types.SecurePasswordKdfAlgoUnknown(),
            secure_random=os.urandom(32),
            has_password=True,
            current_algo=self._algorithm,
            srp_B=self._open[srp_id][1],
            srp_id=srp_id,
        )

    def check(self, proof: Any) -> None:
        """Raise where the proof does not fit the challenge."""
        b, public = self._open.pop(proof.srp_id, (0, b""))
        if not public:
            raise RpcRefusal(400, "SRP_ID_INVALID")
        theirs = num_bytes_for_hash(proof.A)
        u = int.from_bytes(sha256(theirs, public), "big")
        shared = pow(int.from_bytes(proof.A, "big") * pow(self._verifier, u, PRIME), b, PRIME)
        expected = sha256(
            xor(sha256(_P), sha256(_G)),
            sha256(self._algorithm.salt1),
            sha256(self._algorithm.salt2),
            theirs,
            public,
            sha256(big_num_for_hash(shared)),
        )
        if not secrets.compare_digest(expected, proof.M1):
            raise RpcRefusal(400, "PASSWORD_HASH_INVALID")


@dataclass(slots=True)
class Account:
    """One person as Telegram knows him. `codes` are those sent to his other devices, by phone_code_hash."""

    user_id: int
    phone: str
    two_step: TwoStep | None = None
    codes: dict[str, str] = field(default_factory=dict)
    happenings: list[Happening] = field(default_factory=list)
    takeout: int | None = None

    @property
    def pts(self) -> int:
        """The account's persistent timestamp."""
        return 1 + len(self.happenings)

    @property
    def last_code(self) -> str:
        """The code that his other devices show."""
        return list(self.codes.values())[-1]

    def send_code(self) -> str:
        """Send a code; returns its hash."""
        code_hash = secrets.token_hex(8)
        self.codes[code_hash] = f"{secrets.randbelow(100_000):05}"
        return code_hash

    def check_code(self, code_hash: str, code: str) -> None:
        """Raise where it is not the code that was sent."""
        if code_hash not in self.codes:
            raise RpcRefusal(400, "PHONE_CODE_EXPIRED")
        if not secrets.compare_digest(self.codes[code_hash], code):
            raise RpcRefusal(400, "PHONE_CODE_INVALID")

    def note(self, event: Event) -> Happening | None:
        """Take an event of the world into the account's sequence."""
        if event.kind not in ("message", "edited", "deleted"):
            return None
        happening = Happening(self.pts + 1, event.kind, event.what)
        self.happenings.append(happening)
        return happening

    def since(self, pts: int) -> list[Happening]:
        """What happened after `pts`, in order."""
        return self.happenings[max(0, pts - 1) :]
