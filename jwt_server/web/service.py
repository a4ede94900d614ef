"""What `create_app` puts on the app, and how the routes get at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flask import Flask, current_app, g

from jwt_server.audit import Actor
from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from jwt_server.errors import ConfigurationError
from jwt_server.metrics import Metrics
from jwt_server.metrics import made as new_metrics
from jwt_server.security.hash_queue import HashQueue
from jwt_server.security.key_files import KeyFiles
from jwt_server.security.keys import KeyRing, Secrets
from jwt_server.security.passwords import Hasher
from jwt_server.security.rate_limits import DAY, RateLimits
from jwt_server.security.refresh_tokens import RefreshTokens
from jwt_server.security.tokens import AccessTokens
from jwt_server.web.request import client_address, client_has_left

EXTENSION: Final = "jwt-server"


@dataclass(frozen=True)
class Service:
    """The parts that every request uses; made once, never changed."""

    settings: Settings
    database: Database
    tokens: AccessTokens
    refresh_tokens: RefreshTokens
    hasher: Hasher
    throttle: RateLimits
    metrics: Metrics
    clock: Callable[[], float]
    """Unix time in seconds; tests move it."""

    def now(self) -> int:
        """The whole second that is now."""
        return int(self.clock())


def made_of(settings: Settings, clock: Callable[[], float]) -> Service:
    """The parts that these settings ask for. Raises ConfigurationError, as `key_ring`."""
    keys = key_ring(settings)
    metrics = new_metrics()
    return Service(
        settings,
        Database(settings.database, spent=metrics.database.observe),
        AccessTokens(keys, settings.jwt_issuer, settings.jwt_audience),
        RefreshTokens.from_secrets(settings.secret_keys),
        Hasher(settings.salt_rounds, make_hash_queue(settings, metrics)),
        RateLimits.from_secrets(
            settings.secret_keys,
            pair=settings.throttle_pair,
            account=settings.throttle_account,
            address=settings.throttle_address,
        ),
        metrics,
        clock,
    )


def make_hash_queue(settings: Settings, metrics: Metrics) -> HashQueue:
    """The lane of this process."""
    return HashQueue(
        settings.hash_concurrency,
        settings.hash_queue,
        settings.hash_wait,
        gone=client_has_left,
        in_line=metrics.hash_line.track_inprogress(),
        waited=metrics.hash_wait.observe,
    )


def key_ring(settings: Settings) -> KeyRing:
    """Where access tokens get their keys from.

    Raises ConfigurationError with a line for each key that can't be used.
    """
    if settings.jwt_algorithm == Secrets.algorithm:
        return Secrets(settings.jwt_secrets)
    ring = KeyFiles(settings.jwt_keys_dir, settings.jwt_algorithm)
    if mistakes := ring.mistakes():
        raise ConfigurationError(mistakes)
    return ring


def current_service() -> Service:
    """The service of the app that handles this request or runs this command."""
    service: Service = current_app.extensions[EXTENSION]
    return service


def get_db() -> Connection:
    """This request's connection, taken from the pool when it is first asked for."""
    connection: Connection | None = g.get("db")
    if connection is None:
        connection = g.db = current_service().database.acquire()
    return connection


def pool() -> Database:
    """The database, with this request's connection given back: for what takes its time."""
    database = current_service().database
    connection: Connection | None = g.pop("db", None)
    if connection is not None:
        database.release(connection)
    return database


def current_actor(user_id: int | None = None) -> Actor:
    """Who does what this request does, for the audit log; nobody is signed in without an id."""
    service = current_service()
    return Actor(user_id, client_address(service.settings.trusted_proxies), service.now())


def audited_since() -> int:
    """From when on the rows of the audit log are kept; Unix time."""
    service = current_service()
    return service.now() - service.settings.audit_retention * DAY


def init_app(app: Flask, service: Service) -> None:
    """Put the service on the app, and give each request's connection back at its end."""
    app.extensions[EXTENSION] = service

    @app.teardown_appcontext
    def release_db(_error: BaseException | None) -> None:
        pool()
