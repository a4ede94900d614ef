"""Requests to the app in this process and to a server, with one type of response."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient
from werkzeug.datastructures import Headers

from tests.helpers.server import Server

TIMEOUT = 30
"""Seconds without an answer after which a test fails."""


@dataclass(frozen=True)
class Response:
    """A response, from the app or from a server."""

    status: int
    headers: Headers
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Send = Callable[..., Response]
"""Sends a request: method, path, and by name `headers`, `data` and `content_type`."""


def send_to_app(client: FlaskClient, method: str, path: str, **kwargs: Any) -> Response:
    """Send a request to the app; takes what werkzeug's test client takes."""
    with client.open(path, method=method, **kwargs) as response:
        return Response(response.status_code, response.headers, response.data)


def send_to_server(
    server: Server,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    data: bytes | str | None = None,
    content_type: str | None = None,
) -> Response:
    """Send a request to a server, on a connection of its own."""
    sent = dict(headers or {})
    if content_type is not None:
        sent["Content-Type"] = content_type
    with closing(
        http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT)
    ) as connection:
        connection.request(method, path, data, sent)
        response = connection.getresponse()
        return Response(response.status, Headers(response.getheaders()), response.read())
