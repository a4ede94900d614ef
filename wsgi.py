"""The WSGI application of a checkout: `gunicorn wsgi:app`, `flask --app wsgi`."""

from jwt_server.wsgi import app

__all__ = ["app"]
