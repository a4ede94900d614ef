"""How many requests the tests generate: more in CI, which has the time."""

from __future__ import annotations

import os

IN_CI = os.environ.get("CI") == "true"

SCHEMATHESIS_EXAMPLES = 20 if IN_CI else 2
"""Requests for each operation by schemathesis."""

RAW_REQUESTS = 10_000 if IN_CI else 2_500
"""Random and mutated requests to a real gunicorn."""


def examples(count: int) -> int:
    """Return how many examples hypothesis generates where a developer's run has `count`."""
    return count * 2 if IN_CI else count
