"""What may be a username, and how usernames are compared: one key each, however it was typed."""

from __future__ import annotations

import unicodedata
from typing import Final

from jwt_server.errors import InvalidFields

MAX_CHARACTERS: Final = 64

TOO_LONG: Final = f"Longer than {MAX_CHARACTERS} characters."

DECOMPOSED: Final = 4
"""The most code points that one character may come as (UAX #15, canonical decomposition)."""

UNSEEN: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Categories of what nobody sees in a name, or sees differently everywhere: control and format
characters, those without a meaning, halves of surrogate pairs, line ends."""


def normalized(username: str) -> str:
    """The name as it is stored and shown: NFKC, so that one look has one spelling."""
    return unicodedata.normalize("NFKC", username)


def fits(username: str) -> bool:
    """Whether the name has at most MAX_CHARACTERS as stored.

    What is far too long is not even normalized: that takes quadratic time in combining marks.
    """
    if len(username) > DECOMPOSED * MAX_CHARACTERS:
        return False
    return len(normalized(username)) <= MAX_CHARACTERS


def checked(username: str) -> str:
    """The name as a new user may have it; raises InvalidFields with what is wrong."""
    wrong = complaint(username)
    if wrong is not None:
        raise InvalidFields({"username": [wrong]})
    return normalized(username)


def complaint(username: str) -> str | None:
    """What keeps this from being a name, as a sentence; or None."""
    if not username:
        return "Use at least one character."
    if not fits(username):
        return TOO_LONG
    name = normalized(username)
    if name != name.strip():
        return "Leave out the space at its beginning or end."
    if any(unicodedata.category(character) in UNSEEN for character in name):
        return "Leave out control and format characters, and others that can't be seen."
    return None


def username_key(username: str) -> str:
    """The name as it is compared: without case, and composed again, as folding may decompose."""
    return normalized(normalized(username).casefold())
