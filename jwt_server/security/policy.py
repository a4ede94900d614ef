"""Which passwords may be new: long enough, and not what an attacker tries first.

No composition rules: they make passwords worse (NIST SP 800-63B section 3.1.1.2).
"""

from __future__ import annotations

import secrets
from itertools import chain
from typing import Final
from unicodedata import normalize

from zxcvbn.frequency_lists import FREQUENCY_LISTS

from jwt_server.security.passwords import MAX_CHARACTERS

COMMON: Final = frozenset(chain.from_iterable(FREQUENCY_LISTS.values()))
"""All of the lists: each password is in one of them alone, so that of names and words which are
common passwords, such as jennifer and chocolate, the list of passwords has none.
"""

LITTLE: Final = 4
"""So many characters beside the username make it no password yet."""

# Without the letters and digits that are taken for each other; 5 bits a character.
ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
GROUP: Final = 4
GROUPS: Final = 7


def complaint(password: str, username: str, min_length: int) -> str | None:
    """What keeps this from being the user's new password, as a sentence; or None.

    Lengths are in characters, as sent.
    """
    if len(password) < min_length:
        return f"Use at least {min_length} characters."
    if len(password) > MAX_CHARACTERS:
        return f"Use at most {MAX_CHARACTERS} characters."
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in password):
        return "Leave out NUL, and what is no UTF-8."
    if password.casefold() in COMMON:
        return "This is one of the most common passwords or words, and tried first. Choose another."
    folded, name = _folded(password), _folded(username)
    if name in folded and len(folded.replace(name, "", 1)) <= LITTLE:
        return f"This is little more than the username. Add more than {LITTLE} characters."
    return None


def _folded(text: str) -> str:
    """The text without case and without ways to spell it; as NFKC, since folding may decompose."""
    return normalize("NFKC", normalize("NFKC", text).casefold())


def generated(min_length: int) -> str:
    """A fresh random password of 140 bits or more, in groups that can be read out."""
    count = max(GROUPS, min_length // (GROUP + len("-")) + 1)
    groups = ("".join(secrets.choice(ALPHABET) for _ in range(GROUP)) for _ in range(count))
    return "-".join(groups)
