"""Fixtures of the attacks: services to attack, and a host that nothing may be fetched from."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import urlopen

import pytest

from tests.attacks.target import Target, attacked
from tests.attacks.wire import RawSite, Service
from tests.helpers.site import service_on_socket, site


@pytest.fixture(scope="session")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Target]]:
    """Return the target of an algorithm, made when it is first needed."""
    found: dict[str, Target] = {}
    with ExitStack() as running:

        def of(algorithm: str) -> Target:
            if algorithm not in found:
                folder = tmp_path_factory.mktemp(algorithm)
                found[algorithm] = running.enter_context(attacked(folder, algorithm))
            return found[algorithm]

        yield of


@pytest.fixture
def target(
    request: pytest.FixtureRequest,
    targets: Callable[[str], Target],
    caplog: pytest.LogCaptureFixture,
) -> Target:
    """The target of the algorithm that a test names; EdDSA if it names none."""
    return replace(targets(getattr(request, "param", "EdDSA")), log=caplog)


@pytest.fixture(scope="session")
def strict_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A service where everybody may sign up, and a refresh token can be used once only."""
    folder = tmp_path_factory.mktemp("strict")
    with attacked(folder, "HS256", signup="open", refresh_grace=0) as target:
        yield target


@pytest.fixture
def strict(strict_target: Target) -> Iterator[Target]:
    """That service; checks that its good token is still good after each test."""
    yield strict_target
    strict_target.still_works()


@dataclass
class Canary:
    """A host with the same response at every path, which records the requests."""

    url: str
    keys: list[dict[str, Any]] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def canary() -> Iterator[Canary]:
    """A host that offers an attacker's keys at every path, as is checked first."""
    kept: list[Canary] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kept[0].requested.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"keys": kept[0].keys}).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.append(Canary(f"http://127.0.0.1:{server.server_port}"))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with urlopen(f"{kept[0].url}/control", timeout=10) as answer:  # noqa: S310 - our own
            assert answer.status == 200
        assert kept[0].requested == ["/control"]
        kept[0].requested.clear()
        yield kept[0]
        server.shutdown()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with one worker, on a Unix socket."""
    with service_on_socket(tmp_path_factory.mktemp("service"), WORKERS="1") as path:
        yield Service(path)


@pytest.fixture(scope="session")
def raw_site(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawSite]:
    """The service behind the nginx of deploy/ without its limits: a test sends more than a client
    may.
    """
    with site(tmp_path_factory.mktemp("site"), service.socket, limits=False) as running:
        yield RawSite(running, service)
