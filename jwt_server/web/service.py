"""What `create_app` puts on the app, and how the routes get at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flask import Flask, current_app, g

from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from jwt_server.security.tokens import AccessTokens

EXTENSION: Final = "jwt-server"


@dataclass(frozen=True)
class Service:
    """The parts that every request uses; made once, never changed."""

    settings: Settings
    database: Database
    tokens: AccessTokens
    clock: Callable[[], float]
    """Unix time in seconds; tests move it."""

    def now(self) -> int:
        """The whole second that is now."""
        return int(self.clock())


def current_service() -> Service:
    """The service of the app that handles this request or runs this command."""
    service: Service = current_app.extensions[EXTENSION]
    return service


def get_db() -> Connection:
    """This request's connection, taken from the pool when it is first asked for."""
    if "db" not in g:
        g.db = current_service().database.acquire()
    connection: Connection = g.db
    return connection


def register(app: Flask, service: Service) -> None:
    """Put the service on the app, and give each request's connection back at its end."""
    app.extensions[EXTENSION] = service

    @app.teardown_appcontext
    def release_db(_error: BaseException | None) -> None:
        connection: Connection | None = g.pop("db", None)
        if connection is not None:
            service.database.release(connection)
