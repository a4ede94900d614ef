"""Whether a secret looks as if it could be guessed.

Nobody can tell random bytes by looking at them, but what people type and copy can be told: it has
words in it, repeats itself, or has few different characters. What `openssl rand` and the like write
comes through.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

BITS: Final = 90
"""What a secret must have by the frequencies of its bytes; 32 random hexadecimal digits have 98 or
more."""

WORDS: Final = (
    "secret", "passw", "change", "example", "default", "admin", "qwert",
    "testing", "jwt-s", "jwt_s", "your-", "your_", "travis", "horse",
)  # fmt: skip
"""Of five letters and more, as shorter ones occur by chance."""


def weakness(secret: bytes) -> str | None:
    """What makes a secret look guessable, or None."""
    text = secret.decode("latin-1").casefold()
    if any(word in text for word in WORDS):
        return "it has a word in it that many such have"
    if bits(secret) < BITS:
        return f"of its {len(secret)} bytes just {len(set(secret))} differ"
    if repeats_itself(secret):
        return "it repeats itself"
    if all(each.isalpha() or each in " -_.,'" for each in text) and secret == secret.lower():
        return "it is made of small letters alone, as words are"
    return None


def bits(secret: bytes) -> float:
    """How much there is to guess, if each byte were drawn by the frequencies of all."""
    size = len(secret)
    return -sum(count * math.log2(count / size) for count in Counter(secret).values())


def repeats_itself(secret: bytes) -> bool:
    """Whether it is one piece, over and over."""
    return any(secret[size:] == secret[:-size] for size in range(1, len(secret) // 2 + 1))
