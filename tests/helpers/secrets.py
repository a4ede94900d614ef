"""Finds what no log may contain: passwords, tokens, keys, Authorization headers."""

from __future__ import annotations

import re
from typing import Final

from tests.helpers.factories import CREDENTIALS, JWT_SECRET, SECRET_KEY

SECRETS: Final = tuple(
    map(
        re.compile,
        (
            re.escape(CREDENTIALS["password"]),
            re.escape(SECRET_KEY.decode()),
            re.escape(JWT_SECRET.decode()),
            "PRIVATE KEY",
            r"eyJ(?:hbGci|0eXAi|[\w-]{20})",  # an access token, whole or cut; not a session ID
            r"\.\d+\.[\w-]{20,}",  # a refresh token, without its session ID
            r"\$2[abxy]\$|\$bcrypt-sha256\$",
        ),
    )
)
IN_ANY_CASE: Final = tuple(
    map(
        re.compile,
        (
            "correct horse",  # passwords of other users
            "a long passphrase",
            r"b(?:earer|asic) [\w+/=-]",
        ),
    )
)
# Each starts with a fixed text, which is found many times faster than by one expression for all.


def find_secrets(log: str) -> list[str]:
    """Return each secret in a log; those that may be in any case are returned in lower case."""
    found = [each for secret in SECRETS for each in secret.findall(log)]
    lower = log.lower()
    return found + [each for secret in IN_ANY_CASE for each in secret.findall(lower)]
