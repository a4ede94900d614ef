"""Responses without a default content type, and compact JSON in UTF-8."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import lru_cache
from itertools import chain
from typing import Any, Final, cast
from wsgiref.types import WSGIEnvironment

from flask import Flask, Request, Response
from flask.typing import ResponseReturnValue
from werkzeug.routing import Map, MapAdapter
from werkzeug.sansio.utils import get_host

from jwt_server.errors import TransactionConflict

FAST_STATUSES: Final = frozenset({200, 401, 403, 422})

MAX_CONFLICTS: Final = 3

STREAM_BYTES: Final = 64 * 1024
"""Size from which a JSON document is sent in parts."""

# Created once: `json.dumps` creates an encoder per call for all but its default format.
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class PlainResponse(Response):
    """A response without a content type unless one is set; Flask's default is HTML."""

    default_mimetype = None

    def get_wsgi_response(
        self, environ: WSGIEnvironment
    ) -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
        """Return body, status and headers, skipping Werkzeug's checks for a plain response."""
        if (
            self.is_sequence
            and environ["REQUEST_METHOD"] in ("GET", "POST")
            and self.status_code in FAST_STATUSES
            and "Content-Length" in self.headers  # the body was set as a whole, as bytes
            and "Location" not in self.headers
            and not self._on_close
        ):
            return cast("list[bytes]", self.response), self.status, self.headers.to_wsgi_list()
        return super().get_wsgi_response(environ)


def json_response(
    content: Any, status: int = 200, content_type: str = "application/json"
) -> Response:
    """Return compact JSON in UTF-8, members in the order given."""
    return PlainResponse(_encode(content), status, content_type=content_type)


def json_array(pages: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Yield a JSON array in parts, one for each page of its elements."""
    separator = "["
    for page in pages:
        if page:
            yield separator + _encode(page)[1:-1]
            separator = ","
    yield "[]" if separator == "[" else "]"


def json_object(members: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield a JSON object in parts, from members in parts."""
    separator = "{"
    for name, parts in members.items():
        yield f"{separator}{_encode(name)}:"
        yield from parts
        separator = ","
    yield "}"


def stream_json(parts: Iterator[str], slot: AbstractContextManager[None]) -> Response:
    """Return JSON of any size, sent as its parts are made; a short document as a whole.

    The first parts are made at once, so that an error in them becomes a response. `slot` is held
    while a long document is sent, because a slow client keeps a thread.
    """
    head = b""
    for part in parts:
        head += part.encode()
        if len(head) > STREAM_BYTES:
            held = ExitStack()
            held.enter_context(slot)
            body = chain([head], map(str.encode, parts))
            response = PlainResponse(body, content_type="application/json")
            response.call_on_close(held.close)
            return response
    return PlainResponse(head, content_type="application/json")


class App(Flask):
    """Flask with these responses."""

    response_class = PlainResponse

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function: none is a coroutine, so no call has to check for one."""
        return func

    def dispatch_request(self) -> ResponseReturnValue:
        """Call the view; again, a few times, if its transaction came into conflict with others."""
        for _ in range(MAX_CONFLICTS):
            with suppress(TransactionConflict):
                return super().dispatch_request()
        return super().dispatch_request()

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Match a request by its path alone: no route depends on the Host header.

        To parse it takes as long as to find the route, so each is checked once.
        """
        if request is None:
            return super().create_url_adapter(None)
        environ = request.environ
        check_host(environ.get("HTTP_HOST", ""))
        return self.url_map.bind(
            "",
            environ.get("SCRIPT_NAME"),
            url_scheme=environ["wsgi.url_scheme"],
            default_method=environ["REQUEST_METHOD"],
            path_info=environ["PATH_INFO"].encode("latin-1").decode(errors="replace"),
        )


@lru_cache(64)
def check_host(host: str) -> None:
    """Raise BadHost, which is a 400, for a Host header that is not a host."""
    Map().bind(get_host("http", host))
