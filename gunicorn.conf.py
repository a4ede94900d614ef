"""gunicorn's configuration in a checkout, where gunicorn looks for it."""

from jwt_server.gunicorn.conf import *  # noqa: F403 - gunicorn reads every name
