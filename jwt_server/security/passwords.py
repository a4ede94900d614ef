"""Password hashes: made, verified, and verified in the same time whether or not they exist.

New hashes are bcrypt_sha256 (bcrypt over an HMAC-SHA-256 of the password, so that nothing is
cut at 72 bytes). Plain bcrypt from older databases verifies by its first 72 bytes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

from passlib.exc import PasslibHashWarning
from passlib.hash import bcrypt, bcrypt_sha256

from jwt_server.security.hash_queue import HashQueue

NO_HASH: Final = ""
"""A stored hash that no password has."""

MAX_CHARACTERS: Final = 256
"""The longest password taken, so that nobody makes us hash a novel."""

BCRYPT_BYTES: Final = 72

# Of hashes with stray bits it warns on standard error; they verify all the same.
warnings.filterwarnings("ignore", category=PasslibHashWarning)

# bcrypt's backend tests itself when it is first used; do it now, before there are threads.
bcrypt.set_backend("bcrypt")
bcrypt_sha256.set_backend("bcrypt")


@dataclass(frozen=True)
class Hasher:
    """Hashes and verifies for a server, each time in the lane; raises HashingBusy."""

    rounds: int
    """bcrypt's cost, as a power of two."""
    queue: HashQueue

    def hash(self, password: str) -> str:
        """A fresh salted hash."""
        with self.queue.slot():
            return hash_password(password, self.rounds)

    def verify(self, password: str, stored: str) -> bool:
        """As `verify_password`."""
        with self.queue.slot():
            return verify_password(password, stored, self.rounds)

    def verify_and_renew(self, password: str, stored: str) -> str | None:
        """The hash to store from now on: the stored one, or a better one; None for a failure."""
        with self.queue.slot():
            if not verify_password(password, stored, self.rounds):
                return None
            if needs_rehash(stored, self.rounds):
                return hash_password(password, self.rounds)
            return stored


def hash_password(password: str, rounds: int) -> str:
    """A fresh salted hash; `rounds` is bcrypt's cost as a power of two."""
    return str(bcrypt_sha256.using(rounds=rounds).hash(password))


def verify_password(password: str, stored: str, rounds: int) -> bool:
    """Whether `stored` is a hash of `password`; NO_HASH stands for a user who does not exist.

    A failure costs what hashing at `rounds` costs: it is made with a dummy where there is no
    usable hash, and topped up where the stored one is cheaper.
    """
    cost = hash_cost(stored)
    if cost is None:
        _spend(password, rounds)
        return False
    if _matches(password, stored):
        return True
    # 2^cost is spent, 2^rounds is due: the difference is 2^cost + ... + 2^(rounds - 1).
    for missing in range(cost, rounds):
        _spend(password, missing)
    return False


def hash_cost(stored: str) -> int | None:
    """The cost of a hash (log2), or None for what is not a usable one."""
    handler = bcrypt_sha256 if bcrypt_sha256.identify(stored) else bcrypt
    try:
        parsed = handler.from_string(stored)
    except ValueError:
        return None
    # Of a hash that was cut after its salt, passlib reads the cost, but can't verify with it.
    return int(parsed.rounds) if parsed.checksum else None


def needs_rehash(stored: str, rounds: int) -> bool:
    """Whether a verified hash is of an older kind or of another cost than new ones."""
    return not bcrypt_sha256.identify(stored) or hash_cost(stored) != rounds


def _matches(password: str, stored: str) -> bool:
    if bcrypt_sha256.identify(stored):
        return bool(bcrypt_sha256.verify(password, stored))
    return bool(bcrypt.verify(password.encode()[:BCRYPT_BYTES], stored))


def _spend(password: str, rounds: int) -> None:
    """Take the time of one check at this cost, against a hash that nothing has."""
    bcrypt_sha256.verify(password, f"$bcrypt-sha256$v=2,t=2b,r={rounds}${'.' * 22}${'.' * 31}")
