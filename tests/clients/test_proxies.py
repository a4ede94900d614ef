"""Proxies with the configurations of docs/verifiers.md, where they are installed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clients.conftest import given
from tests.helpers.application import Application, serving
from tests.helpers.factories import bearer
from tests.helpers.http import send_to_server
from tests.helpers.server import PROXY_PATH, ROOT, Server, running_proxy
from tests.helpers.waiting import free_port

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "verifiers.md").read_text()
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def configuration(text: str, replacements: dict[str, str]) -> str:
    """Return the documented configuration that has a text, with a test's addresses."""
    [block] = (each for each in BLOCKS if text in each)
    for documented, real in replacements.items():
        assert documented in block
        block = block.replace(documented, real)
    return str(block)


@contextmanager
def haproxy(folder: Path, service: Server, application: int) -> Iterator[Server]:
    port = free_port()
    (folder / "key.pem").write_text(f"# kid\n{given(service, 'ES256').public_key}")
    (folder / "haproxy.cfg").write_text(
        "defaults\n    timeout connect 9s\n    timeout client 9s\n    timeout server 9s\n\n"
        + configuration("jwt_verify", {
            ":8080": f"127.0.0.1:{port}",
            "/etc/haproxy/jwt/KID.pem": str(folder / "key.pem"),
            "https://login.example.com": service.url,
            "127.0.0.1:8000": f"127.0.0.1:{application}",
        })
    )  # fmt: skip
    with running_proxy(folder, port, "haproxy", "-db", "-f", "haproxy.cfg") as server:
        yield server


@contextmanager
def caddy(folder: Path, service: Server, application: int) -> Iterator[Server]:
    port = free_port()
    (folder / "Caddyfile").write_text(
        "{\n    admin off\n}\n"
        + configuration("forward_auth", {
            "app.example.com": f"http://127.0.0.1:{port}",
            "127.0.0.1:3000": f"127.0.0.1:{service.port}",
            "127.0.0.1:8000": f"127.0.0.1:{application}",
        })
    )  # fmt: skip
    with running_proxy(folder, port, "caddy", "run") as server:
        yield server


PROXIES = {"haproxy": haproxy, "caddy": caddy}
USER = {
    "haproxy": {"x-auth-user-id": "1"},
    "caddy": {"x-auth-user-id": "1", "x-auth-username": "travis", "x-auth-admin": "false"},
}
WEBSOCKET = {
    "Connection": "Upgrade", "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13",
}  # fmt: skip
FORGED = {"X-Auth-User-Id": "2", "X-Auth-Admin": "true", "X_Auth-Username": "ada"}


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_lets_only_signed_in_users_through_and_says_who_they_are(
    name: str, service: Server, tmp_path: Path
) -> None:
    if shutil.which(name, path=PROXY_PATH) is None:
        pytest.skip(f"{name} is not installed")
    good, *bad = given(service, "ES256").tokens
    with (
        serving(Application) as application,
        PROXIES[name](tmp_path, service, application) as proxy,
    ):
        signed_in = send_to_server(proxy, "GET", "/any/page", bearer(good) | FORGED | WEBSOCKET)
        strangers = [
            send_to_server(proxy, "GET", "/any/page", headers | FORGED)
            for headers in ({}, *map(bearer, bad))
        ]

    headers = {key.lower(): value for key, value in json.loads(signed_in.body)["headers"].items()}
    assert {key: headers[key] for key in headers if re.match("x.auth", key)} == USER[name]
    assert headers["upgrade"] == "websocket"
    assert "authorization" not in headers
    for response in strangers:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert b"headers" not in response.body
