"""The service's parts, made once per app, and what each request takes from them."""

from collections.abc import Callable
from typing import Final

from flask import Flask, current_app, g

from jwt_server.audit import Actor
from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from jwt_server.metrics import Metrics
from jwt_server.security.hash_queue import HashQueue, KeyedLimit
from jwt_server.security.key_files import load_keys
from jwt_server.security.passwords import Hasher
from jwt_server.security.rate_limits import DAY, RateLimits
from jwt_server.security.refresh_tokens import RefreshTokens
from jwt_server.security.tokens import AccessTokens
from jwt_server.web.request import before_waiting, client_address, client_disconnected

EXTENSION: Final = "jwt-server"

MAX_STREAMS_AT_ONCE: Final = 4


class Service:
    """The parts that requests and commands use; never changed.

    `clock` returns Unix time in seconds; tests move it. Raises ConfigurationError for unusable
    keys.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        issuer, audience = settings.jwt_issuer, settings.jwt_audience
        self.settings, self.clock, self.metrics = settings, clock, Metrics()
        self.tokens = AccessTokens(load_keys(settings), issuer, audience, settings.jwt_typ)
        self.refresh_tokens = RefreshTokens(settings.secret_keys)
        self.database = Database(
            settings.database,
            observe_seconds=self.metrics.database.observe,
            before_waiting=before_waiting,
        )
        queue = HashQueue(
            settings.hash_concurrency,
            settings.hash_queue,
            settings.hash_wait,
            before_waiting=before_waiting,
            client_left=client_disconnected,
            track_queued=self.metrics.hash_queue.track_inprogress(),
            observe_wait=self.metrics.hash_wait.observe,
        )
        self.hasher = Hasher(settings.salt_rounds, queue)
        self.rate_limits = RateLimits(settings)
        # Of long responses to a user, because a slow client keeps a thread.
        self.streams = KeyedLimit(MAX_STREAMS_AT_ONCE)

    def now(self) -> int:
        """Return the current Unix time in whole seconds."""
        return int(self.clock())


def current_service() -> Service:
    """Return the service of the app that handles this request or runs this command."""
    service: Service = current_app.extensions[EXTENSION]
    return service


def get_db() -> Connection:
    """Return this request's connection; the first call takes it from the pool."""
    connection: Connection | None = g.get("db")
    if connection is None:
        connection = g.db = current_service().database.acquire()
    return connection


def release_connection() -> None:
    """Return this request's connection to the pool, if it has one; `get_db` takes another."""
    connection: Connection | None = g.pop("db", None)
    if connection is not None:
        current_service().database.release(connection)


def current_actor(user_id: int | None = None) -> Actor:
    """Return who acts in this request, for the audit log; without an id, nobody is signed in."""
    return Actor(user_id, client_address(), current_service().now())


def audit_cutoff() -> int:
    """Return the Unix time before which rows of the audit log are deleted."""
    service = current_service()
    return service.now() - service.settings.audit_retention * DAY


def init_app(app: Flask, service: Service) -> None:
    """Put the service on the app, and release each request's connection at its end."""
    app.extensions[EXTENSION] = service
    app.teardown_appcontext(lambda _error: release_connection())
