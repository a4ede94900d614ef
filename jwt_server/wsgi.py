"""What a WSGI server or `flask --app wsgi` loads; jwt_server.wsgi where there is no checkout."""

import sys

from jwt_server.app import create_app
from jwt_server.errors import ConfigurationError

try:
    app = create_app()
except ConfigurationError as error:
    # One line per mistake and no traceback, whatever the server. gunicorn takes a worker's exit
    # code 3 for "can't boot" and stops; after any other it would try again without end.
    print(error, file=sys.stderr)
    raise SystemExit(3) from error
