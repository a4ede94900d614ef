"""What attacks share: servers to try them on, and a host that nothing may be fetched from."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import urlopen

import pytest

from tests.attacks.target import ALGORITHMS, Target, attacked
from tests.attacks.wire import Site, behind_nginx


@pytest.fixture(scope="session")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Target]]:
    """Servers by their algorithm, each started when it is first wanted."""
    found: dict[str, Target] = {}
    with ExitStack() as running:

        def of(algorithm: str) -> Target:
            if algorithm not in found:
                folder = tmp_path_factory.mktemp(algorithm)
                found[algorithm] = running.enter_context(attacked(folder, algorithm, WORKERS="1"))
            return found[algorithm]

        yield of


@pytest.fixture
def target(request: pytest.FixtureRequest, targets: Callable[[str], Target]) -> Target:
    """The server under the algorithm that a test names."""
    return targets(request.param)


@pytest.fixture(scope="session", params=ALGORITHMS)
def strict_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """A server where everybody may sign up, and a refresh token is good once and no second time."""
    folder = tmp_path_factory.mktemp(f"strict-{request.param}")
    with attacked(folder, request.param, SIGNUP="open", REFRESH_GRACE="0") as target:
        yield target


@pytest.fixture
def strict(strict_server: Target) -> Iterator[Target]:
    """That server, whose good token is still good after each test."""
    yield strict_server
    strict_server.still_works()


@dataclass
class Canary:
    """A host that serves whatever is asked for with the same answer, and notes who asks."""

    url: str
    keys: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def canary() -> Iterator[Canary]:
    """A host that offers an attacker's keys at every path; that it does is seen to here."""
    kept: list[Canary] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kept[0].asked.append(self.path)
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
        assert kept[0].asked == ["/control"]
        kept[0].asked.clear()
        yield kept[0]
        server.shutdown()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The service behind nginx."""
    with behind_nginx(tmp_path_factory.mktemp("site")) as site:
        yield site
