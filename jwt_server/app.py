"""The application factory: wires the parts together and decides nothing."""

import logging
import time
from collections.abc import Callable

from flask import Flask

from jwt_server import cli, logs
from jwt_server.admin import routes as admin_routes
from jwt_server.auth import oauth_routes
from jwt_server.auth import routes as auth_routes
from jwt_server.config import Settings, process_settings
from jwt_server.pets import routes as pets_routes
from jwt_server.users import routes as users_routes
from jwt_server.web import middleware, pages, problems, request, service
from jwt_server.web.responses import App


def create_app(settings: Settings | None = None, clock: Callable[[], float] = time.time) -> Flask:
    """Create the WSGI application.

    Settings default to those of the process; `clock` returns Unix time in seconds.
    Raises ConfigurationError with one line for each mistake in the settings.
    """
    settings = settings or process_settings()
    logs.init_app(settings.log_format)
    for warning in settings.warnings:
        logging.getLogger(__name__).warning(warning)
    app = App(__package__ or __name__, static_folder=None)
    parts = service.Service(settings, clock)
    service.init_app(app, parts)
    request.init_app(app, settings.cors_origins)
    middleware.init_app(app, parts.metrics, settings, clock)
    problems.init_app(app)
    cli.init_app(app)
    for module in (auth_routes, oauth_routes, users_routes, pets_routes, admin_routes, pages):
        app.register_blueprint(module.bp)
    return app
