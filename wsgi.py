"""What a WSGI server or `flask --app wsgi` loads."""

from jwt_server import create_app
from jwt_server.errors import ConfigurationError

try:
    app = create_app()
except ConfigurationError as error:
    # One line per mistake and no traceback, whatever the server.
    raise SystemExit(str(error)) from error
