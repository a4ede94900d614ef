"""What is counted, for Prometheus.

To count something else, add a field to Metrics and make it in `made`. What is refused needs
nothing: each refusal is counted by its code. `ops/scrape.py` shows the figures to Prometheus.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SIGN_IN: Final = ("POST", "/auth")
"""Method and route of a sign-in."""

SIGNED_IN: Final = "signed_in"
"""The outcome of a sign-in that was not refused; of another it is the refusal's code."""

REQUEST_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
WAIT_SECONDS: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
DATABASE_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 2.5)

# What an alarm waits for is there from the start, as 0: Prometheus sees no rise in what appears.
AWAITED: Final = (
    ("/auth", "wrong_credentials"),
    ("/auth", "hashing_busy"),
    ("/auth/refresh", "refresh_token_reused"),
)


@dataclass(frozen=True)
class Metrics:
    """The figures of one app. Times are in seconds."""

    registry: CollectorRegistry
    requests: Histogram
    """By method, route and status."""
    refusals: Counter
    """By route and code."""
    sign_ins: Counter
    """By outcome."""
    hash_line: Gauge
    """How many are in line for the hashing lane."""
    hash_wait: Histogram
    """How long those who got their turn have waited for it."""
    database: Histogram
    """How long the database has worked, and been waited for, each time a connection was taken."""
    _requests_of: dict[tuple[str, str, str], Callable[[float], None]] = field(
        default_factory=dict, repr=False
    )

    def count(self, method: str, route: str, status: str, code: str | None, seconds: float) -> None:
        """Count a request; `code` is its refusal's, None where it was not refused.

        Each of them must be of a fixed set, whatever clients send: they are kept for ever.
        """
        key = method, route, status
        observe = self._requests_of.get(key)
        if observe is None:  # to look it up in the library takes 2 µs
            observe = self._requests_of[key] = self.requests.labels(*key).observe
        observe(seconds)
        if code is not None:
            self.refusals.labels(route, code).inc()
        if (method, route) == SIGN_IN:
            self.sign_ins.labels(code or SIGNED_IN).inc()


def made() -> Metrics:
    """New figures, all 0."""
    registry = CollectorRegistry()
    metrics = Metrics(
        registry,
        Histogram(
            "jwt_server_request_seconds", "Time that a request took.",
            ("method", "route", "status"), buckets=REQUEST_SECONDS, registry=registry,
        ),
        Counter(
            "jwt_server_refusals", "Requests refused, by code.", ("route", "code"),
            registry=registry,
        ),
        Counter("jwt_server_sign_ins", "Sign-ins, by outcome.", ("outcome",), registry=registry),
        Gauge(
            "jwt_server_hash_line", "Passwords in line to be hashed.", registry=registry,
            multiprocess_mode="livesum",
        ),
        Histogram(
            "jwt_server_hash_wait_seconds", "Time that a password was in line.",
            buckets=WAIT_SECONDS, registry=registry,
        ),
        Histogram(
            "jwt_server_database_seconds", "Time in the database, by connection taken.",
            buckets=DATABASE_SECONDS, registry=registry,
        ),
    )  # fmt: skip
    metrics.sign_ins.labels(SIGNED_IN)
    for route, code in AWAITED:
        metrics.refusals.labels(route, code)
        if route == SIGN_IN[1]:
            metrics.sign_ins.labels(code)
    return metrics
