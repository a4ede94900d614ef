"""Log lines, to standard error: JSON for machines, or text for people.

Each has the id of the request that it belongs to. No line is more than one, and nothing in it
steers a terminal, whatever text from outside gets into it: JSON escapes, and so does the text.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

from flask import has_request_context, request
from pythonjsonlogger.json import JsonFormatter

from jwt_server.web.middleware import ID, LINE

# What no line tells, gunicorn's neither, is not looked up for each.
logging.logThreads = logging.logMultiprocessing = False

TEXT: Final = "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"

NOBODY: Final = "-"
"""Stands in a text line for what is not there."""

REQUEST: Final = " - - ["
"""What Werkzeug's lines about requests have in them, and its others not."""

_quoted: Final = json.encoder.encode_basestring_ascii
"""A text as JSON has it, whatever is in it."""


def init_app(log_format: str) -> None:
    """Send the log to standard error, unless the process has set up logging already."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(log_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # `flask run` would tell each request once more, with its query and whatever is in that.
    logging.getLogger("werkzeug").addFilter(lambda record: REQUEST not in str(record.msg))
    # `db upgrade` says itself what it ran; yoyo would tell every statement.
    logging.getLogger("yoyo.migrations").setLevel(logging.WARNING)


def formatter(log_format: str) -> logging.Formatter:
    """What writes lines in this format, which is a value of LOG_FORMAT."""
    return JsonLines() if log_format == "json" else TextLines()


class JsonLines(JsonFormatter):
    """An object a line: time, level, logger, process, request, and what the line is about."""

    def __init__(self) -> None:
        renamed = {"levelname": "level", "name": "logger", "process": "pid"}
        super().__init__(
            ["levelname", "name", "process", "message"],
            rename_fields=renamed,
            json_serializer=_serialize,
        )

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        if record.msg is LINE:
            return _access(record)
        if request_id := _request_id(record):
            record.request_id = request_id
        return super().format(record)

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Begin with the time."""
        log_data["time"] = _time(record)
        super().add_fields(log_data, record, message_dict)


def _access(record: Any) -> str:
    """A request's line: most are such, and the library takes four times as long."""
    method, route, status, code, milliseconds, user_id, address = record.args
    return (
        f'{{"time": "{_time(record)}", "level": {_quoted(record.levelname)},'
        f' "logger": {_quoted(record.name)}, "pid": {record.process},'
        f' "message": {_quoted(f"{method} {route} {status}")},'
        f' "request_id": {_quoted(record.request_id)}, "method": {_quoted(method)},'
        f' "route": {_quoted(route)}, "status": {status if status.isdigit() else "null"},'
        f' "code": {"null" if code is None else _quoted(code)},'
        f' "duration_ms": {milliseconds:.2f},'
        f' "user_id": {"null" if user_id is None else int(user_id)},'
        f' "address": {_quoted(address)}}}'
    )


def _serialize(*args: Any, **kwargs: Any) -> str:
    # JSON lets one control character through as it is.
    return json.dumps(*args, **kwargs).replace("\x7f", "\\u007f")


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _request_id(record: logging.LogRecord) -> str | None:
    """The id of the request that the record belongs to, if it does to one."""
    found: str | None = getattr(record, "request_id", None)
    if found is None and has_request_context():
        found = request.environ.get(ID)
    return found


class TextLines(logging.Formatter):
    """A line for people. What follows it of an exception is indented, so that no text in it can
    pass for a line of its own.
    """

    def __init__(self) -> None:
        super().__init__(TEXT)

    def format(self, record: logging.LogRecord) -> str:
        """The line, and what follows it."""
        # Python keeps the text of an exception for the next handler; another's is not indented.
        kept, record.exc_text = record.exc_text, None
        try:
            return super().format(record)
        finally:
            record.exc_text = kept

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The line."""
        record.request_id = _request_id(record) or NOBODY
        if record.msg is LINE and isinstance(record.args, tuple):
            told = (NOBODY if each in {None, ""} else each for each in record.args)
            record.message = LINE % tuple(told)
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - as above
        """The exception, indented."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - as above
        """The stack, indented."""
        return _indented(super().formatStack(stack_info))


def printable(text: str) -> str:
    r"""The text with an escape for each character that can't be seen: line ends, `\x1b`, ..."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _indented(text: str) -> str:
    # Split at line feeds alone: `splitlines` would take other characters for line ends.
    return "\n".join(f"    {printable(line)}" for line in text.split("\n"))
