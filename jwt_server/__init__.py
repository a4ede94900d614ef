"""jwt-server: a small login service for browser front ends.

`create_app` wires the parts together and decides nothing; docs/architecture.md tells where
each line lives.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from flask import Flask

from jwt_server import cli
from jwt_server.auth import routes as auth_routes
from jwt_server.auth import session_routes, verify
from jwt_server.config import Settings, process_settings
from jwt_server.me import routes as me_routes
from jwt_server.ops import docs, health, logs
from jwt_server.pets import routes as pets_routes
from jwt_server.web import bodies, envelope, openapi, problems, requests, routing, service
from jwt_server.web.responses import App

__version__ = "0.1.0"


def create_app(settings: Settings | None = None, clock: Callable[[], float] = time.time) -> Flask:
    """Make the WSGI application.

    Without settings it takes those of the process; the clock tells Unix time in seconds.
    Raises ConfigurationError with one line for each mistake in the settings.
    """
    settings = settings or process_settings()
    logs.register(settings.log_format)
    for warning in settings.warnings:
        logging.getLogger(__name__).warning(warning)
    app = App(__name__, static_folder=None)
    made = service.made_of(settings, clock)
    service.register(app, made)
    routing.register(app)
    bodies.register(app)
    requests.register(app, settings.cors_origins)
    envelope.register(app, made.metrics, settings.trusted_proxies)
    problems.register(app)
    cli.register(app)
    api = openapi.register(app, __version__)
    for part in (auth_routes, session_routes, verify, me_routes, pets_routes, health, docs):
        api.register_blueprint(part.bp)
    return app
