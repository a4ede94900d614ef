"""The upper limit: a WSGI application that only sends a constant response."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PETS = b'[{"name":"Bunny","species":"dog"},{"name":"Ru","species":"cat"}]'
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(PETS)))]


def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Send the pets of the demo user to everybody."""
    start_response("200 OK", HEADERS)
    return [PETS]
