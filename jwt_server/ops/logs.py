"""Log lines: to standard error, each with the id of the request that it belongs to."""

from __future__ import annotations

import logging

from flask import has_request_context

from jwt_server.web.envelope import request_id

# What no line tells, gunicorn's neither, is not looked up for each.
logging.logThreads = logging.logMultiprocessing = False


class RequestFormatter(logging.Formatter):
    """Adds the request's id, or a dash outside of requests."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with `%(request_id)s` filled in."""
        if not hasattr(record, "request_id"):
            record.request_id = request_id() if has_request_context() else "-"
        return super().format(record)


def register() -> None:
    """Send the log to standard error, unless the process has set up logging already."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        RequestFormatter("%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # `db upgrade` says itself what it ran; yoyo would tell every statement.
    logging.getLogger("yoyo.migrations").setLevel(logging.WARNING)
