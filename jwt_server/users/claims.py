"""Custom claims: a JSON object per user whose members go into the user's access tokens."""

import json
from collections.abc import Iterable
from typing import Any, Final

from jwt_server.errors import InvalidFields

MAX_BYTES: Final = 1024
"""As compact JSON in UTF-8, so that no token nears its limit."""
MAX_DEPTH: Final = 4

RESERVED: Final = frozenset({
    "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "admin", "auth_time", "amr", "acr",
    "azp", "scope", "client_id", "cnf", "act", "typ",
})  # fmt: skip
"""Registered claims (https://www.iana.org/assignments/jwt) and those of the service."""


def encode(claims: object) -> str:
    """Return claims as they are stored: compact JSON. Raises InvalidFields."""
    if not isinstance(claims, dict):
        raise _invalid("Send a JSON object.")
    if _is_deeper(claims, MAX_DEPTH):  # first, as the rest would exceed Python's recursion limit
        raise _invalid(f"Nested more than {MAX_DEPTH} deep.")
    try:
        text = json.dumps(claims, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except ValueError as error:  # an infinite number, or a lone surrogate
        raise _invalid("Infinite numbers and lone surrogates are not allowed.") from error
    if reserved := sorted(RESERVED & claims.keys()):
        raise _invalid(f"Reserved for the service or by standards: {', '.join(reserved)}.")
    if size > MAX_BYTES:
        raise _invalid(f"{size} bytes of compact JSON; at most {MAX_BYTES} are allowed.")
    if any("\0" in each for each in _strings(claims)):
        raise _invalid("NUL is not allowed.")
    return text


def _invalid(problem: str) -> InvalidFields:
    return InvalidFields({"claims": [problem]})


def _children(value: object) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    return levels == 0 or any(_is_deeper(child, levels - 1) for child in _children(value))


def _strings(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    if isinstance(value, dict):
        yield from value
    for child in _children(value):
        yield from _strings(child)
