"""Finds what no log may contain: passwords, tokens, keys, Authorization headers."""

from __future__ import annotations

import re
from typing import Final

from tests.helpers.factories import CREDENTIALS, JWT_SECRET, SECRET_KEY

SECRET: Final = re.compile(
    "|".join(
        (
            re.escape(CREDENTIALS["password"]),
            re.escape(SECRET_KEY.decode()),
            re.escape(JWT_SECRET.decode()),
            "(?i:correct horse|a long passphrase)",  # passwords of other users
            "PRIVATE KEY",
            r"eyJ(?:hbGci|0eXAi|[\w-]{20})",  # an access token, whole or cut; not a session ID
            r"\b[\w-]{22}\.\d+\.[\w-]{20,}",  # a refresh token
            r"(?i:bearer|basic) [\w+/=-]",
            r"\$2[abxy]\$|\$bcrypt-sha256\$",
        )
    )
)


def find_secrets(log: str) -> list[str]:
    """Return each secret in a log."""
    return [found.group() for found in SECRET.finditer(log)]
