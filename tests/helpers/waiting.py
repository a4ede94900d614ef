"""Ports that nothing listens on, and conditions that will be true."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress


def free_port() -> int:
    """Return a port that nothing listens on.

    It is below the ports that the system gives to clients, and random, as tests run in parallel.
    """
    while True:
        port = 10_100 + secrets.randbelow(21_900)  # browsers refuse 10080
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Poll until a condition is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
