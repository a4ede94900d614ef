"""Custom claims: a JSON object per user whose members go into the user's access tokens."""

import json
from collections.abc import Iterable
from math import isfinite
from typing import Any, Final

from jwt_server.errors import InvalidFields
from jwt_server.security.primitives import UNSTORABLE

MAX_BYTES: Final = 1024
"""As compact JSON in UTF-8, so that no token nears its limit."""
MAX_DEPTH: Final = 4
MAX_INTEGER: Final = 2**53 - 1
"""The largest that every parser reads exactly (RFC 7493 section 2.2)."""

RESERVED: Final = frozenset({
    "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "admin", "auth_time", "amr", "acr",
    "azp", "scope", "client_id", "cnf", "act", "typ",
})  # fmt: skip
"""Registered claims (https://www.iana.org/assignments/jwt) and those of the service."""


def encode(claims: object) -> str:
    """Return claims as they are stored: compact JSON. Raises InvalidFields."""
    if problem := find_problem(claims):
        raise InvalidFields({"claims": [problem]})
    return _compact(claims)


def find_problem(claims: object) -> str | None:
    """Return why these can't be the claims of a user, as a sentence, or None."""
    if not isinstance(claims, dict):
        return "Send a JSON object."
    if _is_deeper(claims, MAX_DEPTH):  # first, as the rest would exceed Python's recursion limit
        return f"Nested more than {MAX_DEPTH} deep."
    if reserved := sorted(name for name in claims if name.casefold() in RESERVED):
        return f"Reserved for the service or by standards: {', '.join(reserved)}."
    if problem := next(filter(None, map(_problem_of, _names_and_values(claims))), None):
        return problem
    size = len(_compact(claims).encode())
    return f"{size} bytes of compact JSON; at most {MAX_BYTES}." if size > MAX_BYTES else None


def _problem_of(value: object) -> str | None:
    if isinstance(value, str) and UNSTORABLE.search(value):
        return "NUL and lone surrogates are not allowed."
    if isinstance(value, float) and not isfinite(value):
        return "Infinite numbers are not allowed."
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return f"Send an integer beyond ±{MAX_INTEGER} as a string: many parsers round it."
    return None


def _compact(claims: object) -> str:
    return json.dumps(claims, ensure_ascii=False, separators=(",", ":"))


def _children(value: object) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    return levels == 0 or any(_is_deeper(child, levels - 1) for child in _children(value))


def _names_and_values(value: object) -> Iterable[object]:
    yield value
    if isinstance(value, dict):
        yield from value
    for child in _children(value):
        yield from _names_and_values(child)
