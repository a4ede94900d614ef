"""How much tests that make up their own requests make up: CI has minutes for it."""

from __future__ import annotations

import os

IN_CI = os.environ.get("CI") == "true"

FUZZED = 100 if IN_CI else 30
"""Requests for each operation by schemathesis: in CI that takes two minutes and more."""


def examples(few: int) -> int:
    """Examples of hypothesis's, which cost some milliseconds each: 15 s in all in CI."""
    return few * 4 if IN_CI else few
