"""deploy/nginx-auth-request.conf in a real nginx, with a gunicorn and an application."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.helpers.application import Application, serving
from tests.helpers.factories import bearer, token
from tests.helpers.http import Response, send_to_server
from tests.helpers.nginx import needs_nginx, nginx
from tests.helpers.server import BASE_ENVIRONMENT, ROOT, Server, running
from tests.helpers.waiting import free_port

pytestmark = needs_nginx


class Failing(Application):
    """A login service whose database fails."""

    status = 503

    def answer(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    do_GET = answer  # noqa: N815 - http.server's name


class Missing(Failing):
    """A server that is no login service."""

    status = 404


@contextmanager
def nginx_before(folder: Path, login: int, behind: int) -> Iterator[Server]:
    """Run nginx with the login service and the application on these ports."""
    port = free_port()
    site = (ROOT / "deploy" / "nginx-auth-request.conf").read_text()
    for written, real in (("3000", login), ("8000", behind), ("8080", port)):
        assert f"127.0.0.1:{written};" in site
        site = site.replace(f"127.0.0.1:{written};", f"127.0.0.1:{real};")
    with nginx(folder, f"client_body_buffer_size 1m;\n{site}", port) as server:
        yield server


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("login"), BASE_ENVIRONMENT) as server:
        yield server


@pytest.fixture(scope="module")
def site(login: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("nginx")
    with serving(Application) as behind, nginx_before(folder, login.port, behind) as server:
        yield server


def seen(answer: Response) -> dict[str, str]:
    headers: dict[str, str] = json.loads(answer.body)["headers"]
    return {name.lower(): value for name, value in headers.items()}


def test_the_application_gets_the_user_and_no_token(site: Server) -> None:
    answer = send_to_server(site, "GET", "/any/page", bearer(token()))

    headers = seen(answer)
    assert answer.status == 200
    assert headers["x-auth-user-id"] == "1"
    assert headers["x-auth-username"] == "travis"
    assert headers["x-auth-admin"] == "false"
    assert "authorization" not in headers


@pytest.mark.parametrize("name", ["X-Auth-User-Id", "x-auth-username", "X-AUTH-ADMIN"])
def test_identity_headers_of_the_client_are_overwritten(site: Server, name: str) -> None:
    answer = send_to_server(site, "GET", "/", bearer(token()) | {name: "true"})

    assert seen(answer)[name.lower()] in {"1", "travis", "false"}


CONFIGURATION = (ROOT / "deploy" / "nginx-auth-request.conf").read_text()
BLANKED = re.findall(r'proxy_set_header (\S+) "";', CONFIGURATION.split("location = /_verify")[0])


@pytest.mark.parametrize("spelled", [str, str.lower, str.upper], ids=["", "lower", "upper"])
def test_other_identity_headers_are_removed(site: Server, spelled: Callable[[str], str]) -> None:
    claimed = {spelled(name): "root" for name in BLANKED if "-" in name}
    assert {
        "X-AUTH-EMAIL", "X-AUTH-REQUEST-USER", "X-FORWARDED-USER", "REMOTE-USER", "REMOTE-GROUPS",
        "X-WEBAUTH-USER", "X-AUTHENTICATED-USER", "X-AUTHENTIK-USERNAME", "X-AUTHENTIK-GROUPS",
        "X-GOOG-AUTHENTICATED-USER-EMAIL", "CF-ACCESS-AUTHENTICATED-USER-EMAIL",
        "X-REAL-IP", "X-FORWARDED-HOST", "X-FORWARDED-PREFIX",
    } <= {name.upper() for name in claimed}  # fmt: skip

    answer = send_to_server(site, "GET", "/", bearer(token()) | claimed)

    assert "root" not in seen(answer).values()


SET_HERE = ("X-Forwarded-For", "X-Forwarded-Proto")


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_only_nginx_says_where_a_request_comes_from(site: Server, method: str) -> None:
    names = [*SET_HERE, "Forwarded", "Proxy", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Prefix"]
    assert set(names) == set(
        re.findall(
            r"proxy_set_header (X-Forwarded\S+|Forwarded|Proxy|X-Real-IP) ",
            (ROOT / "deploy" / "jwt-server-proxy.conf").read_text(),
        )
    )
    headers = bearer(token()) if method == "GET" else PREFLIGHT

    answer = send_to_server(site, method, "/", headers | dict.fromkeys(names, "6.6.6.6"))

    assert answer.status == 200
    assert "6.6.6.6" not in seen(answer).values()
    assert seen(answer)["x-forwarded-for"] == "127.0.0.1"
    assert seen(answer)["x-forwarded-proto"] == "http"


@pytest.mark.parametrize(
    "name", ["X_Auth_User_Id", "X-Auth_Admin", "X-Auth-User.Id", "REMOTE_USER"]
)
def test_ambiguous_header_names_are_removed(site: Server, name: str) -> None:
    assert (
        "root"
        not in seen(send_to_server(site, "GET", "/", bearer(token()) | {name: "root"})).values()
    )


def test_the_documentation_lists_the_removed_and_the_set_headers() -> None:
    told = (ROOT / "docs" / "verifiers.md").read_text()

    for name in [*BLANKED, *SET_HERE, "X-Auth-User-Id", "X-Auth-Username", "X-Auth-Admin"]:
        assert f"`{name}`" in told, name


def test_a_body_reaches_the_application_and_not_the_login_service(site: Server) -> None:
    body = "x" * 100_000  # the login service accepts 64 KiB

    answer = send_to_server(site, "POST", "/", bearer(token()), body, "text/plain")

    assert answer.status == 200
    assert json.loads(answer.body)["body"] == body


@pytest.mark.parametrize("headers", [{}, bearer("x"), {"X-Auth-User-Id": "1"}])
def test_requests_without_a_valid_token_are_401(site: Server, headers: dict[str, str]) -> None:
    answer = send_to_server(site, "GET", "/", headers)

    assert answer.status == 401
    challenge = 'Bearer error="invalid_token"' if "Authorization" in headers else "Bearer"
    assert answer.headers.getlist("WWW-Authenticate") == [challenge]


def test_an_unreadable_header_is_401(site: Server) -> None:
    answer = send_to_server(site, "GET", "/", {"Authorization": "Bearer \x7f"})

    assert answer.status == 401
    assert answer.headers.getlist("WWW-Authenticate") == ['Bearer error="invalid_token"']
    good = send_to_server(site, "GET", "/", bearer(token()))
    assert (good.status, good.headers.getlist("WWW-Authenticate")) == (200, [])


ORIGIN = {"Origin": "https://app.example.com"}
PREFLIGHT = ORIGIN | {
    "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization",
}  # fmt: skip


def test_a_preflight_reaches_the_application_without_a_user(site: Server) -> None:
    claimed = {
        "X-Auth-User-Id": "1", "X-Remote-User": "root", "Authorization": f"Bearer {token()}",
        "X-HTTP-Method-Override": "DELETE", "X-HTTP-Method": "DELETE", "Cookie": "session=1",
        "X-Method-Override": "DELETE", "Connection": "upgrade", "Upgrade": "websocket",
    }  # fmt: skip

    answer = send_to_server(
        site,
        "OPTIONS",
        "/",
        PREFLIGHT | claimed,
        "_method=DELETE",
        "application/x-www-form-urlencoded",
    )

    assert answer.status == 200
    assert json.loads(answer.body)["body"] == ""
    assert seen(answer) == {name.lower(): value for name, value in PREFLIGHT.items()} | {
        "host": "127.0.0.1", "x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("OPTIONS", ORIGIN),
        ("GET", PREFLIGHT),
        ("POST", PREFLIGHT),
        ("GET", {"Origin": "OPTIONS / HTTP/1.1", "Access-Control-Request-Method": "OPTIONS / x"}),
        ("GET", PREFLIGHT | {"X-HTTP-Method-Override": "OPTIONS"}),
    ],
)
def test_what_is_no_preflight_needs_a_token(
    site: Server, method: str, headers: dict[str, str]
) -> None:
    assert send_to_server(site, method, "/", headers).status == 401


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 401),
        ("/", bearer("x"), 401),
        ("/", {"Authorization": "Bearer \x7f"}, 401),
        ("/_verify", {}, 404),
        ("/_verify", bearer("x"), 404),
        ("/.error", {}, 404),
        ("/", {"Host": "a b"}, 400),
        ("/", {"Transfer-Encoding": "x"}, 501),
        ("/", {"Content-Length": "2000000"}, 413),
        ("/" + "x" * 9_000, {}, 414),
        ("/", {"Cookie": "x" * 40_000}, 431),
    ],
    ids=str,
)
def test_scripts_can_read_the_errors_that_nginx_makes(
    site: Server, path: str, headers: dict[str, str], status: int
) -> None:
    answer = send_to_server(site, "GET", path, ORIGIN | headers)

    assert answer.status == status
    assert answer.headers.getlist("Access-Control-Allow-Origin") == ["*"]
    assert answer.headers["Access-Control-Expose-Headers"] == "Retry-After, WWW-Authenticate"
    assert answer.headers["Content-Type"] == "text/plain"
    assert ("WWW-Authenticate" in answer.headers) is (status == 401)
    assert "<html>" not in answer.text
    assert answer.headers["Server"] == "nginx"


def test_responses_of_the_application_are_passed_on_unchanged(site: Server) -> None:
    answer = send_to_server(site, "GET", "/", bearer(token()) | ORIGIN)

    assert answer.status == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_stopped_application_is_502_behind_a_preflight_that_succeeds(
    login: Server, tmp_path: Path
) -> None:
    with nginx_before(tmp_path, login.port, free_port()) as site:
        preflight = send_to_server(site, "OPTIONS", "/", PREFLIGHT)
        answer = send_to_server(site, "GET", "/", bearer(token()) | ORIGIN)

    assert (preflight.status, preflight.body) == (204, b"")
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert preflight.headers["Access-Control-Allow-Methods"] == "PUT"
    assert preflight.headers["Access-Control-Allow-Headers"] == "authorization"
    assert answer.status == 502
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Retry-After"] == "2"


class Upgrading(Application):
    """An application that accepts every upgrade, and echoes the bytes after it."""

    def answer(self) -> None:
        if "Upgrade" not in self.headers:
            super().answer()
            return
        self.send_response(101)
        self.send_header("Upgrade", self.headers["Upgrade"])
        self.send_header("Connection", self.headers["Connection"])
        self.end_headers()
        self.wfile.write(self.rfile.read(5))

    do_GET = answer  # noqa: N815 - http.server's name


def test_only_a_websocket_upgrades_the_connection(login: Server, tmp_path: Path) -> None:
    def upgrade(site: Server, protocol: str, authorization: str) -> bytes:
        request = (
            f"GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\n{authorization}"
            f"Upgrade: {protocol}\r\n\r\nhello"
        )
        with socket.create_connection((site.host, site.port), timeout=10) as connection:
            connection.sendall(request.encode())
            return b"".join(iter(lambda: connection.recv(65536), b""))

    header = f"Authorization: Bearer {token()}\r\n"
    with (
        serving(Upgrading) as behind,
        nginx_before(tmp_path, login.port, behind) as site,
    ):
        accepted = upgrade(site, "WebSocket", header)
        refused = upgrade(site, "websocket", "")
        others = [upgrade(site, protocol, header) for protocol in ("h2c", "websocket, h2c")]

    assert accepted.startswith(b"HTTP/1.1 101 ")
    assert accepted.endswith(b"\r\n\r\nhello")
    assert refused.startswith(b"HTTP/1.1 401 ")
    for other in others:
        assert other.startswith(b"HTTP/1.1 200 ")
        assert b'"Upgrade"' not in other


@contextmanager
def recording() -> Iterator[tuple[int, list[bytes]]]:
    """Run a login service that accepts everybody, and records every byte that it receives."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as connection:
                connection.settimeout(0.5)  # also records what comes after the request
                with suppress(TimeoutError):
                    while chunk := connection.recv(65536):
                        received.append(chunk)
                connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], received
        thread.join(timeout=120)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_login_service_gets_only_the_token(tmp_path: Path, method: str) -> None:
    headers = {
        "Cookie": "a=b", "User-Agent": "Phone/1", "X-Auth-Admin": "true", "Expect": "",
        "X-Forwarded-For": "10.0.0.1", "Content-Encoding": "gzip", "Transfer-Id": "1",
    }  # fmt: skip
    with (
        recording() as (login, received),
        serving(Application) as behind,
        nginx_before(tmp_path, login, behind) as site,
    ):
        body = "the body" if method == "POST" else None
        answer = send_to_server(site, method, "/", bearer("x.y.z") | headers, body, "text/plain")

    assert answer.status == 200
    asked, *got, end, rest = b"".join(received).decode().split("\r\n")
    assert asked == "GET /auth/verify HTTP/1.1"
    assert sorted(got) == ["Authorization: Bearer x.y.z", "Host: 127.0.0.1"]
    assert (end, rest) == ("", "")


def test_the_subrequest_is_not_public(site: Server) -> None:
    assert send_to_server(site, "GET", "/_verify", bearer(token())).status == 404
    assert (
        send_to_server(site, "TRACE", "/", bearer(token())).text == "This method is not supported."
    )


def test_a_stopped_or_failing_login_service_is_503(tmp_path: Path) -> None:
    responses = []
    with (
        serving(Application) as behind,
        serving(Failing) as failing,
        serving(Missing) as missing,
    ):
        for login in (free_port(), failing, missing):
            with nginx_before(tmp_path, login, behind) as site:
                responses.append(send_to_server(site, "GET", "/", bearer(token())))

    for response in responses:
        assert response.status == 503
        assert response.headers["Retry-After"] == "2"
        assert "travis" not in response.text
