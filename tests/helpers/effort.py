"""How much tests that make up their own requests make up: CI has minutes for it."""

from __future__ import annotations

import os

IN_CI = os.environ.get("CI") == "true"

FUZZED = 40 if IN_CI else 20
"""Requests for each operation by schemathesis: in CI that takes a minute and more."""


def examples(few: int) -> int:
    """Examples of hypothesis's, which cost some milliseconds each: some seconds in all in CI."""
    return few * 2 if IN_CI else few
