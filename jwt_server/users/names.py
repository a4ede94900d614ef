"""Usernames: which are valid, and how they are compared, whatever their spelling."""

import unicodedata
from typing import Final

from jwt_server.errors import InvalidFields

MAX_CHARACTERS: Final = 64

TOO_LONG: Final = f"Longer than {MAX_CHARACTERS} characters."

MAX_DECOMPOSITION: Final = 4
"""Maximum code points of one decomposed character (UAX #15)."""

INVISIBLE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Control, format, unassigned and private-use characters, surrogates, line separators."""

INVISIBLE_CHARACTERS: Final = frozenset(
    chr(code)
    for first, last in [
        (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2800, 0x2800),
        (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF),
    ]
    for code in range(first, last + 1)
)  # fmt: skip
"""Default_Ignorable_Code_Point (DerivedCoreProperties.txt) in other categories, and the blank
braille pattern."""


def normalize(username: str) -> str:
    """Return the name as it is stored and shown (NFKC)."""
    return unicodedata.normalize("NFKC", username)


def fits(username: str) -> bool:
    """Whether the name has at most MAX_CHARACTERS as stored.

    A far longer one is not normalized, which takes quadratic time in combining marks.
    """
    if len(username) > MAX_DECOMPOSITION * MAX_CHARACTERS:
        return False
    return len(normalize(username)) <= MAX_CHARACTERS


def validate(username: str) -> str:
    """Return a new username as it is stored. Raises InvalidFields."""
    problem = find_problem(username)
    if problem is not None:
        raise InvalidFields({"username": [problem]})
    return normalize(username)


def find_problem(username: str) -> str | None:
    """Return why this is not a valid username, as a sentence, or None."""
    if not username:
        return "Use at least one character."
    if not fits(username):
        return TOO_LONG
    name = normalize(username)
    if name != name.strip():
        return "Remove the space at the beginning or end."
    if any(map(is_invisible, name)):
        return "Remove control, format and other invisible characters."
    return None


def is_invisible(character: str) -> bool:
    """Whether the character can't be seen, or looks different everywhere."""
    return (
        character in INVISIBLE_CHARACTERS or unicodedata.category(character) in INVISIBLE_CATEGORIES
    )


def username_key(username: str) -> str:
    """Return the name as it is compared: casefolded, normalized again after folding."""
    return normalize(normalize(username).casefold())
