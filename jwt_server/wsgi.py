"""The WSGI application, for servers and `flask --app jwt_server.wsgi`."""

import gc
import sys

from jwt_server.app import create_app
from jwt_server.errors import ConfigurationError

try:
    app = create_app()
except ConfigurationError as error:
    # One line per mistake and no traceback. gunicorn takes a worker's exit code 3 for "can't boot"
    # and stops; after any other it would start workers for ever.
    print(error, file=sys.stderr)
    raise SystemExit(3) from error

gc.freeze()  # so that no collection looks through all this, not even at the end of a command
