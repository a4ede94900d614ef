"""gunicorn's own log, as the service wants it."""

from __future__ import annotations

from typing import Any, Final

from gunicorn import glogging

from jwt_server import logs
from jwt_server.config import process_settings

# How gunicorn's lines begin that go on with what a client sent.
BAD_REQUEST: Final = "Invalid request from ip="
FAILED_REQUEST: Final = "Error handling request"


class Logger(glogging.Logger):
    """Writes gunicorn's lines as the service's own, and nothing into them of what a client sent.

    As they come, they show headers and paths that are amiss: with a token, or a password.
    """

    def setup(self, cfg: Any) -> None:
        """Set the log up."""
        super().setup(cfg)  # type: ignore[no-untyped-call]  # as above
        for handler in self.error_log.handlers:
            handler.setFormatter(logs.formatter(process_settings().log_format))

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """A warning; of a bad request just what is wrong with it."""
        if msg.startswith(BAD_REQUEST):
            who, _, error = msg.partition(": ")
            msg = f"{who}: {error.partition(': ')[0]}"
        super().warning(msg, *args, **kwargs)  # type: ignore[no-untyped-call]  # as above

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """An exception; of a request that failed not its path."""
        if msg.startswith(FAILED_REQUEST):
            msg, args = FAILED_REQUEST, ()
        super().exception(msg, *args, **kwargs)  # type: ignore[no-untyped-call]  # as above
