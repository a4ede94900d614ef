"""The policy for new passwords: long enough, and not what attackers try first.

There are no composition rules, which make passwords worse (NIST SP 800-63B section 3.1.1.2).
"""

import secrets
from functools import cache
from importlib.metadata import distribution
from itertools import chain
from runpy import run_path
from typing import Final
from unicodedata import normalize

from jwt_server.errors import InvalidFields
from jwt_server.security import passwords

MIN_BESIDE_USERNAME: Final = 5

ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
"""Without characters that look alike; 5 bits each."""
GROUP: Final = 4
GROUPS: Final = 7


def validate(password: str, username: str, min_length: int, field: str = "password") -> None:
    """Raise InvalidFields unless this can be the user's new password."""
    if problem := find_problem(password, username, min_length):
        raise InvalidFields({field: [problem]})


def find_problem(password: str, username: str, min_length: int) -> str | None:
    """Return why this can't be the user's new password, as a sentence, or None."""
    if not passwords.fits(password):
        return f"Use at most {passwords.MAX_CHARACTERS} characters."
    password = passwords.normalize(password)
    if len(password) < min_length:
        return f"Use at least {min_length} characters."
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in password):
        return "NUL and invalid UTF-8 are not allowed."
    if f"\0{password.casefold()}\0" in common_words():
        return "This is one of the most common passwords or words. Choose another."
    folded, name = _fold(password), _fold(username)
    if name in folded and len(folded.replace(name, "", 1)) < MIN_BESIDE_USERNAME:
        return (
            "This is little more than the username."
            f" Use at least {MIN_BESIDE_USERNAME} other characters."
        )
    return None


@cache
def common_words() -> str:
    """Return zxcvbn's words between NULs: a set takes ten times the memory, in each worker.

    All lists: each word is in one of them only, so common passwords that are names aren't in the
    list of passwords. Its package, which builds more of them, would slow down the start.
    """
    path = str(distribution("zxcvbn").locate_file("zxcvbn/frequency_lists.py"))
    return "\0".join(["", *chain.from_iterable(run_path(path)["FREQUENCY_LISTS"].values()), ""])


def _fold(text: str) -> str:
    """Remove case and compatibility forms; NFKC again, because folding may decompose."""
    return normalize("NFKC", normalize("NFKC", text).casefold())


def generate_password(min_length: int) -> str:
    """Generate a random password of at least 140 bits, in groups that are easy to read out."""
    count = max(GROUPS, min_length // (GROUP + len("-")) + 1)
    groups = ("".join(secrets.choice(ALPHABET) for _ in range(GROUP)) for _ in range(count))
    return "-".join(groups)
