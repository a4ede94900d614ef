"""The CPU time of every parser of what clients send: linear, and little at the largest size."""

from __future__ import annotations

import time

import pytest

from jwt_server.database import Database
from tests.helpers.adversarial import CASES, FACTORS, ORIGIN, Case
from tests.helpers.app import MakeApp

LINEAR = FACTORS[-1] / FACTORS[0]
SLACK = 3
"""A quadratic parser has 8 times the time of a linear one."""


def twenty_milliseconds() -> float:
    """Return the CPU time of 400,000 additions: 20 ms on a machine of usual speed."""
    before, total = time.thread_time(), 0
    for number in range(100_000):
        total += number
    return 4 * (time.thread_time() - before)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_parsing_takes_linear_time_and_under_20_ms(
    make_app: MakeApp, database: Database, travis: dict[str, str], case: Case
) -> None:
    app = make_app(trusted_proxies=1, cors_origins=(ORIGIN,))
    seconds = [case.seconds(app, factor, travis) for factor in FACTORS]

    assert seconds[-1] < twenty_milliseconds(), seconds
    assert seconds[-1] < LINEAR * SLACK * seconds[0], seconds
