"""What tokens, cursors and request bodies share: strict JSON, base64url, ids, key derivation."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final, NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ID_PATTERN: Final = "[1-9][0-9]{0,17}"
MAX_ID: Final = 10**18 - 1
"""Fits the database's 63 bits."""

UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
"""What JSON can spell, and PostgreSQL or UTF-8 can't: NUL and lone surrogates."""

_ID: Final = re.compile(ID_PATTERN, re.ASCII)


class SentText(str):
    """A value of a form or query, which may stand for a number, a boolean or an object."""

    __slots__ = ()


def parse_id(text: str) -> int | None:
    """Return the id that a text spells, or None; each id has one spelling."""
    return int(text) if _ID.fullmatch(text) else None


def derive_key(secret: bytes, purpose: str) -> bytes:
    """Derive a 256-bit key for one purpose (HKDF-SHA-256 without a salt, RFC 5869)."""
    return HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(secret)


def base64url_encode(data: bytes) -> str:
    """Encode as base64url without padding (RFC 7515 section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def base64url_decode(text: str) -> bytes:
    """Decode base64url. Raises ValueError for padding, other characters and stray bits."""
    decoded = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64url_encode(decoded) != text:
        raise ValueError("not canonical base64url")
    return decoded


def load_json(text: bytes) -> Any:
    """Parse one JSON text (RFC 8259), more strictly than the standard library.

    That one guesses UTF-16, keeps the last of two equal members and takes NaN, so that two parsers
    may see different things. Raises ValueError with a message for the client.
    """
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique_members,
            parse_constant=_refuse_constant,
            parse_int=_parse_integer,
        )
    except UnicodeDecodeError:
        raise ValueError("The JSON is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"Invalid JSON at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise ValueError("The JSON is nested too deeply.") from None


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("A member of a JSON object is repeated.")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value.")


def _parse_integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python's limit; its message is about Python's settings
        raise ValueError("A number in the JSON has too many digits.") from None
