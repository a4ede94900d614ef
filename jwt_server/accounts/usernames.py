"""How usernames are compared: one key per name, however it was typed."""

from __future__ import annotations

import unicodedata
from typing import Final

MAX_CHARACTERS: Final = 64

DECOMPOSED: Final = 4
"""The most code points that one character may come as (UAX #15, canonical decomposition)."""


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


def username_key(username: str) -> str:
    """The name as it is compared: without case, and composed again, as folding may decompose."""
    return normalized(normalized(username).casefold())
