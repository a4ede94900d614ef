"""Password hashes, verified in equal time whether or not the user exists.

New hashes are bcrypt_sha256: bcrypt over an HMAC-SHA-256 of the password, so that nothing is cut at
72 bytes. Plain bcrypt hashes verify by the first 72 bytes.
"""

import unicodedata
import warnings
from dataclasses import dataclass
from typing import Final

from passlib.exc import PasslibHashWarning
from passlib.hash import bcrypt, bcrypt_sha256

from jwt_server.security.hash_queue import HashQueue

NO_HASH: Final = ""
"""A stored hash that matches no password."""

MAX_CHARACTERS: Final = 256
BCRYPT_BYTES: Final = 72

# passlib warns on standard error of padding bits that are set; such hashes verify all the same.
warnings.filterwarnings("ignore", category=PasslibHashWarning)


@dataclass(frozen=True)
class Hasher:
    """Hashes and verifies in a slot of the queue; each method raises HashingBusy."""

    rounds: int
    """bcrypt's cost (log2)."""
    queue: HashQueue

    def hash(self, password: str) -> str:
        """Hash with a fresh salt."""
        return self.queue.run(hash_password, password, self.rounds)

    def verify(self, password: str, stored: str) -> bool:
        """Verify as `verify_password`."""
        return self.queue.run(verify_password, password, stored, self.rounds)

    def verify_and_renew(self, password: str, stored: str) -> str | None:
        """Return the hash to store: the same, or one of today's kind and cost; None if wrong."""
        return self.queue.run(verify_and_renew, password, stored, self.rounds)


def verify_and_renew(password: str, stored: str, rounds: int) -> str | None:
    """Return the hash to store: the same, or one of today's kind and cost; None if wrong."""
    form = _find_form(password, stored, rounds)
    if form is None:
        return None
    is_current = bcrypt_sha256.identify(stored) and hash_cost(stored) == rounds
    if is_current and form == normalize(password):
        return stored
    return hash_password(password, rounds)


def hash_password(password: str, rounds: int) -> str:
    """Hash with a fresh salt."""
    bcrypt.set_backend("bcrypt")
    return str(bcrypt_sha256.using(rounds=rounds).hash(normalize(password)))


def verify_password(password: str, stored: str, rounds: int) -> bool:
    """Return whether `stored` is a hash of the password, in either form."""
    return _find_form(password, stored, rounds) is not None


def normalize(password: str) -> str:
    """Return the password as it is hashed: NFC, as keyboards differ (RFC 8265 section 4.2)."""
    return unicodedata.normalize("NFC", password)


def fits(password: str) -> bool:
    """Whether the password has at most MAX_CHARACTERS in NFC; see `names.fits`."""
    return len(password) <= 4 * MAX_CHARACTERS and len(normalize(password)) <= MAX_CHARACTERS


def _find_form(password: str, stored: str, rounds: int) -> str | None:
    """Return the form of the password that `stored` is a hash of, or None.

    Older releases hashed what was sent. Where that is not NFC, both are tried, whatever is stored.
    """
    forms = dict.fromkeys((normalize(password), password))
    return next((form for form in forms if _verify(form, stored, rounds)), None)


def _verify(password: str, stored: str, rounds: int) -> bool:
    """Return whether `stored` is a hash of exactly this.

    A failure costs what a hash at `rounds` costs, whatever is stored.
    """
    bcrypt.set_backend("bcrypt")  # tests it once; without this, not thread-safe
    cost = hash_cost(stored)
    if cost is None:
        _spend(password, rounds)
        return False
    if bcrypt_sha256.identify(stored):
        matches = bcrypt_sha256.verify(password, stored)
    else:
        matches = bcrypt.verify(password.encode()[:BCRYPT_BYTES], stored)
    if matches:
        return True
    for missing in range(cost, rounds):  # 2^rounds - 2^cost = 2^cost + ... + 2^(rounds - 1)
        _spend(password, missing)
    return False


def hash_cost(stored: str) -> int | None:
    """Return the cost of a hash (log2), or None if it is not usable."""
    handler = bcrypt_sha256 if bcrypt_sha256.identify(stored) else bcrypt
    try:
        parsed = handler.from_string(stored)
    except ValueError:
        return None
    return int(parsed.rounds) if parsed.checksum else None  # without one it was cut off


def _spend(password: str, rounds: int) -> None:
    """Do the work of one check at this cost, against a hash that no password has."""
    bcrypt_sha256.verify(password, f"$bcrypt-sha256$v=2,t=2b,r={rounds}${'.' * 22}${'.' * 31}")
