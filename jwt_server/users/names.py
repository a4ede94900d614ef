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

BLANK: Final = frozenset(
    chr(code)
    for first, last in [
        (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2800, 0x2800),
        (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF),
    ]
    for code in range(first, last + 1)
)  # fmt: skip
"""Marks, letters and a symbol that nobody sees either: what is left of Default_Ignorable_Code_Point
(DerivedCoreProperties.txt) beside UNSEEN, and the braille pattern without dots."""


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
    if any(unicodedata.category(each) in UNSEEN or each in BLANK for each in name):
        return "Leave out control and format characters, and others that can't be seen."
    return None


def username_key(username: str) -> str:
    """The name as it is compared: without case, and composed again, as folding may decompose."""
    return normalized(normalized(username).casefold())
