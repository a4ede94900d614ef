"""The log, on standard error: JSON for machines or text for people.

Each record is one line and has the id of its request. Text from clients can't add lines or control
a terminal: unprintable characters are escaped in both formats.
"""

import json
import logging
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final

from flask import has_request_context, request

from jwt_server.web.middleware import ID, LINE

STANDARD: Final = {*vars(logging.makeLogRecord({})), "message", "asctime"}
"""The attributes of a record that are not from `extra`."""

# No line shows these, so they are not looked up.
logging.logThreads = logging.logMultiprocessing = False


def init_app(log_format: str) -> None:
    """Log to standard error, unless logging is configured already."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(log_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # `flask run` would log each request again, with its query; only these lines have " - - [".
    logging.getLogger("werkzeug").addFilter(lambda record: " - - [" not in str(record.msg))


def formatter(log_format: str) -> logging.Formatter:
    """Return the formatter for a value of LOG_FORMAT."""
    return JsonLines() if log_format == "json" else TextLines()


class JsonLines(logging.Formatter):
    """Formats a record as a JSON object, with what was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        if record.msg is LINE:
            return _format_request(record)
        members: dict[str, Any] = {"time": _time(record), "level": record.levelname}
        members |= {"logger": record.name, "pid": record.process, "message": record.getMessage()}
        members |= {name: value for name, value in vars(record).items() if name not in STANDARD}
        if request_id := _request_id(record):
            members["request_id"] = request_id
        if record.exc_info:
            members["exc_info"] = self.formatException(record.exc_info)
        # JSON allows DEL as it is.
        return json.dumps(members, default=str).replace("\x7f", "\\u007f")


def _format_request(record: Any) -> str:
    """Format the line of a request without a dictionary, which takes twice as long."""
    method, route, status, code, milliseconds, user_id, address = record.args
    return (
        f'{{"time": "{_time(record)}", "level": {quoted(record.levelname)},'
        f' "logger": {quoted(record.name)}, "pid": {record.process},'
        f' "message": {quoted(f"{method} {route} {status}")},'
        f' "request_id": {quoted(record.request_id)}, "method": {quoted(method)},'
        f' "route": {quoted(route)}, "status": {status if status.isdigit() else "null"},'
        f' "code": {"null" if code is None else quoted(code)},'
        f' "duration_ms": {milliseconds:.2f},'
        f' "user_id": {"null" if user_id is None else int(user_id)},'
        f' "address": {quoted(address)}}}'
    )


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _request_id(record: logging.LogRecord) -> str | None:
    found: str | None = getattr(record, "request_id", None)
    if found is None and has_request_context():
        found = request.environ.get(ID)
    return found


class TextLines(logging.Formatter):
    """Formats a record for people; the lines of an exception are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and those of its exception and stack."""
        message = record.getMessage()
        if record.msg is LINE and isinstance(record.args, tuple):
            message = LINE % tuple("-" if each in {None, ""} else each for each in record.args)
        lines = [
            f"{self.formatTime(record)} {record.levelname} {record.name}"
            f" [{_request_id(record) or '-'}] {printable(message)}"
        ]
        if record.exc_info:
            lines += _indented(self.formatException(record.exc_info))
        if record.stack_info:
            lines += _indented(record.stack_info)
        return "\n".join(lines)


def printable(text: str) -> str:
    r"""Escape unprintable characters, such as line ends and `\x1b`."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _indented(text: str) -> list[str]:
    # Not `splitlines`, which splits at other characters, too.
    return [f"    {printable(line)}" for line in text.split("\n")]
