"""The metrics for Prometheus.

To count something else, extend Metrics. Errors need nothing: each is counted by its code.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jwt_server.security.refresh_tokens import Retry

SIGN_IN: Final = ("POST", "/auth")
SIGNED_IN: Final = "signed_in"  # the outcome of a successful sign-in; else it is the error's code

REQUEST_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
WAIT_SECONDS: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
DATABASE_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 2.5)

# What alerts watch starts at 0: Prometheus sees no increase in a series that appears.
WATCHED: Final = (
    ("/auth", "wrong_credentials"),
    ("/auth", "hashing_busy"),
    ("/auth/refresh", "refresh_token_reused"),
    ("/auth/token", "wrong_credentials"),
    ("/auth/token", "hashing_busy"),
    ("/auth/token", "refresh_token_reused"),
)

# Ignore PROMETHEUS_MULTIPROC_DIR of the environment; the metrics server makes a folder of its own.
values.ValueClass = values.MutexValue


class Metrics:
    """The metrics of one app, all 0 at first. Times are in seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        histogram = partial(Histogram, registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        self.requests = histogram(
            "jwt_server_request_seconds", "Duration of requests.",
            ("method", "route", "status"), buckets=REQUEST_SECONDS,
        )  # fmt: skip
        self.refusals = counter(
            "jwt_server_refusals", "Requests refused, by code.", ("route", "code")
        )
        self.sign_ins = counter("jwt_server_sign_ins", "Sign-ins, by outcome.", ("outcome",))
        self.refresh_retries = counter(
            "jwt_server_refresh_retries",
            "Replaced refresh tokens that got their successor again.", ("reason",),
        )  # fmt: skip
        self.hash_queue = Gauge(
            "jwt_server_hash_line", "Passwords that wait to be hashed.",
            registry=self.registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.hash_wait = histogram(
            "jwt_server_hash_wait_seconds", "Time that a password waited to be hashed.",
            buckets=WAIT_SECONDS,
        )  # fmt: skip
        self.database = histogram(
            "jwt_server_database_seconds", "Time in the database, per connection used.",
            buckets=DATABASE_SECONDS,
        )  # fmt: skip
        self._observers: dict[tuple[str, str, str], Callable[[float], None]] = {}
        self._start_at_0()

    def _start_at_0(self) -> None:
        self.sign_ins.labels(SIGNED_IN)
        for reason in (Retry.SAME_KEY, Retry.NO_KEY, Retry.OTHER_KEY):
            self.refresh_retries.labels(reason)
        for route, code in WATCHED:
            self.refusals.labels(route, code)
            if route == SIGN_IN[1]:
                self.sign_ins.labels(code)

    def count(
        self, method: str, route: str, status: str, code: str | None, seconds: float, *,
        is_sign_in: bool = False,
    ) -> None:  # fmt: skip
        """Count a request; `code` is that of its error, if any. A sign-in is marked, unless it is
        the original's.

        Clients must not choose the labels, since each combination is kept.
        """
        key = method, route, status
        observe = self._observers.get(key)
        if observe is None:  # the library's own lookup is slower
            observe = self._observers[key] = self.requests.labels(*key).observe
        observe(seconds)
        if code is not None:
            self.refusals.labels(route, code).inc()
        if is_sign_in or (method, route) == SIGN_IN:
            self.sign_ins.labels(code or SIGNED_IN).inc()


class FileSizes(Collector):
    """The current sizes of the database and its write-ahead log."""

    def __init__(self, database: Path) -> None:
        self.database = database

    def collect(self) -> Iterable[Metric]:
        """Return a gauge for each file; 0 for one that is missing."""
        for name, path in (("database", self.database), ("wal", Path(f"{self.database}-wal"))):
            size = path.stat().st_size if path.exists() else 0
            yield GaugeMetricFamily(f"jwt_server_{name}_bytes", f"Size of the {name}.", size)
