"""Ids as text, in paths, cursors and tokens: one spelling each, never more than fits.

Eighteen digits are within the 63 bits that the database holds; no table gets so far.
"""

from __future__ import annotations

import re
from typing import Final

PATTERN: Final = "[1-9][0-9]{0,17}"
LARGEST: Final = 10**18 - 1

_ID: Final = re.compile(PATTERN, re.ASCII)


def parse(text: str) -> int | None:
    """The id that a text spells, or None."""
    return int(text) if _ID.fullmatch(text) else None
