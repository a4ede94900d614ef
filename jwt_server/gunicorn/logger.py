"""gunicorn's own log, in the service's format."""

from typing import Any, Final

from gunicorn import glogging

from jwt_server import logs
from jwt_server.config import process_settings

# The start of gunicorn's messages that continue with parts of a request.
BAD_REQUEST: Final = "Invalid request from ip="
FAILED_REQUEST: Final = "Error handling request"


class Logger(glogging.Logger):
    """Keeps what clients sent out of gunicorn's log: it may be a token or a password."""

    def setup(self, cfg: Any) -> None:
        """Use the service's formatter."""
        super().setup(cfg)  # type: ignore[no-untyped-call]  # gunicorn has no types
        for handler in self.error_log.handlers:
            handler.setFormatter(logs.formatter(process_settings().log_format))

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log a warning; of a bad request only the kind of error, without the header or path."""
        if msg.startswith(BAD_REQUEST):
            client, _, error = msg.partition(": ")
            msg = f"{client}: {error.partition(': ')[0]}"
        super().warning(msg, *args, **kwargs)  # type: ignore[no-untyped-call]  # as above

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log an exception, without the path of the request that failed."""
        if msg.startswith(FAILED_REQUEST):
            msg, args = FAILED_REQUEST, ()
        super().exception(msg, *args, **kwargs)  # type: ignore[no-untyped-call]  # as above
