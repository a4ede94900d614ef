"""Usernames: which are valid, and how they are compared, whatever their spelling."""

import re
import unicodedata
from typing import Final

from jwt_server.errors import InvalidFields

MAX_CHARACTERS: Final = 64

TOO_LONG: Final = f"Longer than {MAX_CHARACTERS} characters."

INVISIBLE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Control, format, unassigned and private-use characters, surrogates, line separators."""

OTHER_INVISIBLE: Final = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0]"
    r"|[\U000e0100-\U000e01ef]"
)
"""Default_Ignorable_Code_Point (DerivedCoreProperties.txt) in other categories, and the blank
braille pattern."""


def normalize(username: str) -> str:
    """Return the name as it is stored and shown: NFKC, without the space that phones add."""
    return unicodedata.normalize("NFKC", username.strip())


def fits(username: str) -> bool:
    """Whether the name has at most MAX_CHARACTERS as stored.

    A far longer one is not normalized, which takes quadratic time in combining marks.
    """
    decomposed = 4 * MAX_CHARACTERS  # a character has at most 4 code points (UAX #15)
    return len(username) <= decomposed and len(normalize(username)) <= MAX_CHARACTERS


def validate(username: str) -> str:
    """Return a new username as it is stored. Raises InvalidFields."""
    if problem := find_problem(username):
        raise InvalidFields({"username": [problem]})
    return normalize(username)


def find_problem(username: str) -> str | None:
    """Return why this is not a valid username, as a sentence, or None."""
    if not fits(username):
        return TOO_LONG
    name = normalize(username)
    if not name:
        return "Use at least one character."
    if name != name.strip():
        return "Remove the space at the beginning or end."
    categories = set(map(unicodedata.category, name))
    if OTHER_INVISIBLE.search(name) or not INVISIBLE_CATEGORIES.isdisjoint(categories):
        return "Remove control, format and other invisible characters."
    return None


def username_key(username: str) -> str:
    """Return the name as it is compared: casefolded, normalized again after folding."""
    return normalize(normalize(username).casefold())
