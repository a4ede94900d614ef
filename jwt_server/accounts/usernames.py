"""How usernames are compared: one key per name, however it was typed."""

from __future__ import annotations

import unicodedata
from typing import Final

MAX_CHARACTERS: Final = 64


def normalized(username: str) -> str:
    """The name as it is stored and shown: NFKC, so that one look has one spelling."""
    return unicodedata.normalize("NFKC", username)


def username_key(username: str) -> str:
    """The name as it is compared: without case (Unicode's toNFKC_Casefold, in short)."""
    return normalized(normalized(username).casefold())
