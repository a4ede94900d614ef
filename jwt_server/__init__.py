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
from jwt_server.auth import routes as auth
from jwt_server.config import Settings, process_settings
from jwt_server.database import Database
from jwt_server.ops import health, logs
from jwt_server.pets import routes as pets
from jwt_server.security.tokens import AccessTokens
from jwt_server.web import bodies, problems, requests, responses, routing, service


def create_app(settings: Settings | None = None, clock: Callable[[], float] = time.time) -> Flask:
    """Make the WSGI application.

    Without settings it takes those of the process; the clock tells Unix time in seconds.
    Raises ConfigurationError with one line for each mistake in the settings.
    """
    settings = settings or process_settings()
    logs.register()
    for warning in settings.warnings:
        logging.getLogger(__name__).warning(warning)
    app = Flask(__name__, static_folder=None)
    tokens = AccessTokens(settings.jwt_secrets, settings.jwt_issuer, settings.jwt_audience)
    service.register(app, service.Service(settings, Database(settings.database), tokens, clock))
    routing.register(app)
    bodies.register(app)
    responses.register(app)
    requests.register(app, settings.cors_origins)
    problems.register(app)
    cli.register(app)
    for bp in (auth.bp, pets.bp, health.bp):
        app.register_blueprint(bp)
    return app
