"""Any WSGI server can run the app: it conforms to PEP 3333, and granian serves it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.validate import validator

import pytest
from flask import Flask
from werkzeug.test import Client

from tests.helpers.databases import create_database, database_in
from tests.helpers.factories import bearer, token
from tests.helpers.http import send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, answering, environment
from tests.helpers.waiting import free_port

FORM = "application/x-www-form-urlencoded"
CREDENTIALS = "username=travis&password=mypassword"
PETS = '[{"name":"Bunny","species":"dog"},{"name":"Ru","species":"cat"}]'


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("POST", "/auth", {"data": CREDENTIALS, "content_type": FORM}, 200),
        ("POST", "/auth", {}, 422),
        ("GET", "/my-pets", {}, 403),
        ("GET", "/pets", {}, 401),
        ("HEAD", "/healthz", {}, 200),
        ("GET", "/docs/docs.js", {}, 200),
        ("GET", "/nowhere", {}, 404),
        ("PUT", "/auth", {}, 405),
        ("OPTIONS", "/pets", {"headers": {
            "Origin": "http://x", "Access-Control-Request-Method": "PUT"}}, 204),
    ],
)  # fmt: skip
def test_responses_conform_to_pep_3333(
    app: Flask, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    with Client(validator(app)).open(path, method=method, **options) as answer:
        assert answer.status_code == status
        assert answer.headers["X-Request-ID"]


@pytest.fixture(scope="module")
def granian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server started by the command of docs/deployment.md, with one worker."""
    folder = tmp_path_factory.mktemp("granian")
    create_database(database_in(folder))
    port, log_file = free_port(), folder / "wsgi.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [
                sys.executable, "-m", "granian", "--interface", "wsgi", "--workers", "1",
                "--blocking-threads", "65", "--no-ws", "--port", str(port), "jwt_server.wsgi:app",
            ],
            cwd=folder, env=environment(folder, BASE_ENVIRONMENT | {"SALT_ROUNDS": "8"}),
            stdout=log, stderr=log,
        )  # fmt: skip
    with answering(port, process, log_file, 30) as server:
        yield server


@pytest.mark.slow
def test_granian_responds_as_gunicorn_does(granian: Server) -> None:
    signed_in = send_to_server(granian, "POST", "/auth", {}, CREDENTIALS, FORM)
    pets = send_to_server(granian, "GET", "/my-pets", bearer(signed_in.text))
    refused = send_to_server(granian, "GET", "/my-pets")
    large = send_to_server(granian, "POST", "/auth", {}, "x" * 70_000, FORM)

    assert pets.text == PETS
    assert (refused.status, refused.text) == (403, "No token.")
    assert large.status == 413


def reads_during_sign_ins(server: Server) -> int:
    """Read, one request after the other, until sixteen simultaneous sign-ins are done."""
    wrong, reads = "username=nobody%d&password=wrong", 0
    with ThreadPoolExecutor(16) as pool:
        sign_ins = [
            pool.submit(send_to_server, server, "POST", "/auth", {}, wrong % number, FORM)
            for number in range(16)
        ]
        while not all(future.done() for future in sign_ins):
            reads += send_to_server(server, "GET", "/my-pets", bearer(token())).status == 200
    assert {future.result().status for future in sign_ins} == {401}
    return reads


@pytest.mark.slow
def test_under_granian_sign_ins_do_not_block_reads(granian: Server) -> None:
    """If they did, there would be one read each time."""
    assert any(reads_during_sign_ins(granian) > 1 for _ in range(10))
