"""deploy/nginx.conf in a real nginx, in front of a gunicorn on a Unix socket."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import DAY, run_at_once
from tests.helpers.description import password_operations
from tests.helpers.factories import CREDENTIALS, bearer, token
from tests.helpers.nginx import needs_nginx
from tests.helpers.server import ROOT
from tests.helpers.site import CONFIGURATION, NAME, Site, service_on_socket, site


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The service's socket."""
    with service_on_socket(tmp_path_factory.mktemp("site")) as path:
        yield path


@pytest.fixture(scope="module")
def nginx_site(service: Path) -> Iterator[Site]:
    with site(service.parent, service) as running:
        yield running


@needs_nginx
def test_the_original_clients_sign_in_and_read_their_pets(nginx_site: Site) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    signed_in = nginx_site.send("POST", "/auth", urlencode(CREDENTIALS), form)
    pets = nginx_site.send("GET", "/my-pets", headers=bearer(signed_in.text))

    assert pets.text == '[{"name":"Bunny","species":"dog"},{"name":"Ru","species":"cat"}]'
    assert pets.headers["Strict-Transport-Security"] == "max-age=63072000; includeSubDomains"
    assert pets.headers["X-Content-Type-Options"] == "nosniff"
    assert "nginx/" not in str(pets.headers)


@needs_nginx
def test_http_is_redirected_to_https(nginx_site: Site) -> None:
    response = nginx_site.send_plain("GET", "/docs?a=b")

    assert response.status == 301
    assert response.headers["Location"] == f"https://{NAME}/docs?a=b"


@needs_nginx
@pytest.mark.parametrize("path", ["/auth", "/my-pets", "/openapi.json", "/"])
def test_a_post_over_http_is_refused_and_not_redirected(nginx_site: Site, path: str) -> None:
    response = nginx_site.send_plain("POST", path, urlencode(CREDENTIALS))

    assert (response.status, response.text) == (403, f"Use https://{NAME}.")
    assert "Location" not in response.headers


@needs_nginx
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/healthz", {}, 200), ("/docs", {}, 200), ("/nowhere", {}, 404), ("/metrics", {}, 404),
     ("/pets", {"Content-Length": "70000"}, 413), ("/pets", {"Cookie": "x" * 40_000}, 431)],
    ids=str,
)  # fmt: skip
def test_every_response_has_the_security_headers_once(
    nginx_site: Site, path: str, headers: dict[str, str], status: int
) -> None:
    answer = nginx_site.send("POST" if status == 413 else "GET", path, headers=headers)

    assert answer.status == status
    assert answer.headers.getlist("X-Content-Type-Options") == ["nosniff"]
    [policy] = answer.headers.getlist("Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "includeSubDomains" in answer.headers["Strict-Transport-Security"]


ORIGIN = {"Origin": "https://app.example.com"}


@needs_nginx
@pytest.mark.parametrize("accept", ["application/json", "application/json, text/plain, */*"])
@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/me", {"Host": "a b"}, 400, "bad_request"),
        ("GET", "/metrics", {}, 404, "not_found"),
        ("TRACE", "/me", {}, 405, "method_not_allowed"),
        ("POST", "/pets", {"Content-Length": "70000"}, 413, "body_too_large"),
        ("GET", "/me", {"Cookie": "x" * 40_000}, 431, "headers_too_large"),
        ("GET", "/me", {"Transfer-Encoding": "x"}, 501, "method_not_implemented"),
    ],
    ids=str,
)
def test_scripts_can_read_the_errors_that_nginx_makes(
    nginx_site: Site, accept: str, method: str, path: str, headers: dict[str, str],
    status: int, code: str,
) -> None:  # fmt: skip
    answer = nginx_site.send(method, path, headers=ORIGIN | {"Accept": accept} | headers)

    assert answer.status == status
    assert answer.headers.getlist("Access-Control-Allow-Origin") == ["*"]
    assert answer.headers.getlist("Access-Control-Expose-Headers") == ["Retry-After"]
    assert answer.headers["Cache-Control"] == "no-store"
    if accept == "application/json":
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = json.loads(answer.body)
        assert (problem["status"], problem["code"]) == (status, code)
        assert problem.keys() == {"type", "title", "status", "detail", "code"}
    else:
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.text.endswith(".")


@needs_nginx
def test_a_url_that_is_too_long_is_414_with_cors_headers(nginx_site: Site) -> None:
    answer = nginx_site.send("GET", "/" + "x" * 17_000, headers=ORIGIN)

    assert (answer.status, answer.text) == (414, "The URL is too long.")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@needs_nginx
def test_responses_of_the_service_get_no_second_cors_headers(nginx_site: Site) -> None:
    for headers, expected in ((ORIGIN, ["*"]), ({}, [])):
        answer = nginx_site.send("GET", "/my-pets", headers=headers)

        assert answer.status == 403
        assert answer.headers.getlist("Access-Control-Allow-Origin") == expected
        assert answer.headers.getlist("Cache-Control") == ["no-store"]


@needs_nginx
@pytest.mark.parametrize("path", ["/.error.text", "/.error.json", "/.preflight"])
def test_the_pages_of_errors_are_not_public(nginx_site: Site, path: str) -> None:
    answer = nginx_site.send("GET", path)

    assert (answer.status, answer.text) == (404, "Not found.")


@needs_nginx
def test_certbots_challenge_is_served(nginx_site: Site) -> None:
    challenge = nginx_site.folder / "html" / ".well-known" / "acme-challenge" / "x"
    challenge.parent.mkdir(parents=True)
    challenge.write_text("proof")
    assert nginx_site.send_plain("GET", "/.well-known/acme-challenge/x").text == "proof"


@needs_nginx
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_http_2_is_spoken_over_tls_1_2_and_up(nginx_site: Site, version: ssl.TLSVersion) -> None:
    context = nginx_site.context()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with nginx_site.connect(context) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        assert "GCM" in connection.cipher()[0] or "CHACHA20" in connection.cipher()[0]  # type: ignore[index]  # there is one after the handshake


@needs_nginx
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_older_tls_is_refused(nginx_site: Site) -> None:
    context = nginx_site.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        nginx_site.connect(context)


@needs_nginx
def test_the_client_can_not_set_its_address(nginx_site: Site) -> None:
    claims = {
        "X-Forwarded-For": "203.0.113.9, 198.51.100.7",
        "Forwarded": "for=203.0.113.9",
        "X-Real-IP": "203.0.113.9",
        "Content-Type": "application/json",
        "Accept": "application/json",
    }
    signed_in = nginx_site.send("POST", "/auth", json.dumps(CREDENTIALS), claims)
    token = json.loads(signed_in.body)["access_token"]
    listed = nginx_site.send("GET", "/auth/sessions", headers=bearer(token))

    current = next(each for each in json.loads(listed.body) if each["current"])
    assert current["address"] == "127.0.0.1"
    assert "203.0.113.9" not in listed.text


@needs_nginx
@pytest.mark.parametrize(
    "request_line",
    ["GET /healthz", "GET http://{other}/healthz", "GET //{other}/healthz", "CONNECT {other}",
     "GET /healthz?url=http://{other}/", "GET @{other}/healthz"],
)  # fmt: skip
def test_nginx_connects_to_no_host_that_a_request_names(
    nginx_site: Site, request_line: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        other = f"127.0.0.1:{elsewhere.getsockname()[1]}"
        named = "".join(
            f"{name}: {other}\r\n" for name in ("Host", "X-Forwarded-Host", "Forwarded", "X-Host")
        )
        with nginx_site.connect() as connection:
            line = request_line.format(other=other)
            connection.sendall(f"{line} HTTP/1.1\r\n{named}Connection: close\r\n\r\n".encode())
            answer = connection.recv(65536)

        assert re.match(rb"HTTP/1.1 (200|400|404|405) ", answer)
        elsewhere.settimeout(0.2)
        with pytest.raises(TimeoutError):
            elsewhere.accept()


@pytest.mark.parametrize("name", ["nginx.conf", "nginx-auth-request.conf"])
def test_no_nginx_configuration_has_an_upstream_from_the_request(name: str) -> None:
    text = re.sub("#.*", "", (ROOT / "deploy" / name).read_text())
    upstreams = dict(re.findall(r"upstream (\w+) \{\s+server (\S+);", text))
    passed = re.findall(r"(?:proxy|fastcgi|grpc|uwsgi|scgi)_pass (\S+);", text)

    assert upstreams.keys() == {re.split(r"/+", each)[1] for each in passed}
    assert not [each for each in passed if "$" in each.partition("//")[2].partition("/")[0]]
    for address in upstreams.values():
        assert address.startswith(("unix:/", "127.0.0.1:"))
    assert "resolver" not in text


@needs_nginx
def test_a_body_that_is_too_large_never_reaches_the_service(nginx_site: Site) -> None:
    before = nginx_site.log_file.read_text().count("POST /pets")
    answer = nginx_site.send("POST", "/pets", b"x" * 65_537, bearer(token()))

    assert answer.status == 413
    assert nginx_site.log_file.read_text().count("POST /pets") == before


@needs_nginx
@pytest.mark.parametrize("path", ["/metrics", "/metrics/"])
def test_metrics_are_not_public(nginx_site: Site, path: str) -> None:
    assert nginx_site.send("GET", path).status == 404


@needs_nginx
def test_slow_bodies_occupy_no_thread_of_the_service(nginx_site: Site) -> None:
    slow = []
    for _ in range(80):  # more than a worker has threads
        connection = nginx_site.connect()
        connection.sendall(b"POST /pets HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        slow.append(connection)

    assert nginx_site.send("GET", "/healthz").text == "alive"
    for connection in slow:
        connection.close()


@needs_nginx
def test_a_flood_of_sign_ins_is_limited_by_nginx(service: Path, tmp_path: Path) -> None:
    with site(tmp_path, service, rate="1r/m") as nginx_site:  # whatever time the requests take
        answers = [nginx_site.send("POST", path) for path in ["/auth", "/auth/"] * 12]
        preflight = nginx_site.send("OPTIONS", "/auth")
        other = nginx_site.send("GET", "/healthz")

    statuses = [answer.status for answer in answers]
    assert set(statuses) == {422, 429}
    assert statuses.count(422) >= 20
    assert (preflight.status, other.status) == (200, 200)
    stopped = next(answer for answer in answers if answer.status == 429)
    assert stopped.text == "That was too much at once. Try again in a few seconds."
    assert stopped.headers["Retry-After"] == "10"
    assert stopped.headers["X-Content-Type-Options"] == "nosniff"
    assert stopped.headers["Access-Control-Allow-Origin"] == "*"


@needs_nginx
@pytest.mark.parametrize(
    ("network", "elsewhere"),
    [(["203.0.113.9"], ["203.0.113.8", "::ffff:203.0.113.7"]),
     ([f"2001:db8:0:a0a::{number:x}:0" for number in range(22)], ["2001:db8:0:a0b::1:0"])],
    ids=["IPv4 address", "IPv6 /64"],
)  # fmt: skip
def test_nginx_limits_clients_by_network(
    tmp_path: Path, network: list[str], elsewhere: list[str]
) -> None:
    client = "set_real_ip_from 127.0.0.1; real_ip_header X-Test-Client;\n"
    with site(tmp_path, tmp_path / "nobody.sock", more=client, rate="1r/m") as stopped:

        def post(address: str) -> int:
            return stopped.send("POST", "/auth", headers={"X-Test-Client": address}).status

        statuses = [post(address) for address, _ in zip(cycle(network), range(22), strict=False)]
        assert statuses == [503] * 21 + [429]
        assert {post(address) for address in elsewhere} == {503}


@needs_nginx
def test_a_stopped_service_is_503_with_a_message(tmp_path: Path) -> None:
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-a"}
    with site(tmp_path, tmp_path / "nobody.sock") as stopped:
        preflight = stopped.send("OPTIONS", "/my-pets", headers=ORIGIN | asked)
        answer = stopped.send("GET", "/my-pets", headers=ORIGIN)

    assert (preflight.status, preflight.body) == (204, b"")  # or a script would see no 503
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert preflight.headers["Access-Control-Allow-Methods"] == "PUT"
    assert preflight.headers["Access-Control-Allow-Headers"] == "x-a"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Methods" not in answer.headers
    assert answer.status == 503
    assert answer.text == "The login service is away for a moment. Try again in a few seconds."
    assert answer.headers["Retry-After"] == "5"
    for name in ("Strict-Transport-Security", "X-Content-Type-Options", "Content-Security-Policy"):
        assert answer.headers[name]


def test_nginx_limits_exactly_the_routes_that_hash(client: FlaskClient) -> None:
    [limited] = re.findall(r'"~(\^\S+ .*\$)" \$client_network;', CONFIGURATION)

    for hashes in password_operations(client.get("/openapi.json").get_json()):
        assert re.search(limited, hashes)
        assert re.search(limited, f"{hashes}/")
    for cheap in (
        "POST /auth/refresh", "GET /me", "PATCH /me", "GET /auth/verify", "POST /authx",
        "POST /x/auth", "OPTIONS /auth", "DELETE /me/x",
    ):  # fmt: skip
        assert not re.search(limited, cheap)


NO_ADDRESSES = [
    "unknown", "_hidden", "<script>", "fe80::1%<script>", "[fe80::1%eth0]:443", "203.0.113.9:",
    "203.0.113.9:https", "203.0.113.9:443:443", "[203.0.113.9", "[2001:db8::1]443", "[]:443",
    "203.0.113.09", "2130706433", "for=203.0.113.9", "\x85\xa0203.0.113.9", "1" * 5000,
]  # fmt: skip


@pytest.fixture
def address(make_app: MakeApp, database: object) -> Any:
    """Sign in through a chain of proxies; returns the address that the session has."""

    def recorded(trusted: int, forwarded: str | None, peer: str) -> str:
        app: Flask = make_app(trusted_proxies=trusted)
        headers = {"Accept": "application/json"}
        if forwarded is not None:
            headers["X-Forwarded-For"] = forwarded
        client = app.test_client()
        told = client.post(
            "/auth", json=CREDENTIALS, headers=headers, environ_overrides={"REMOTE_ADDR": peer}
        ).get_json()
        rows = client.get("/auth/sessions", headers=bearer(told["access_token"])).get_json()
        return str(next(row for row in rows if row["current"])["address"])

    return recorded


@pytest.mark.parametrize(
    ("trusted", "forwarded", "peer", "expected"),
    [
        (0, "203.0.113.9", "198.51.100.7", "198.51.100.7"),
        (1, "203.0.113.9", "127.0.0.1", "203.0.113.9"),
        (1, "6.6.6.6, 203.0.113.9", "127.0.0.1", "203.0.113.9"),
        (2, "6.6.6.6, 203.0.113.9, 10.0.0.1", "127.0.0.1", "203.0.113.9"),
        (2, "203.0.113.9", "127.0.0.1", "127.0.0.1"),  # one is missing: it is not believed
        (1, None, "", ""),
        (1, "", "127.0.0.1", "127.0.0.1"),
        *[(1, f"6.6.6.6, {entry}", "127.0.0.1", "127.0.0.1") for entry in NO_ADDRESSES],
        *[
            (1, f"6.6.6.6, {entry}", "127.0.0.1", "203.0.113.9")
            for entry in (
                "203.0.113.9:51008",
                '"203.0.113.9:443"',
                "::ffff:203.0.113.9",
                "[::ffff:203.0.113.9]:443",
            )
        ],
        *[
            (1, f"6.6.6.6, {entry}", "127.0.0.1", "2001:db8::1")
            for entry in (
                "[2001:db8::1]:443",
                "[2001:DB8::1]",
                '"[2001:db8::1]:443"',
                '"[2001:db8::1]"',
                "[2001:0db8:0000:0000:0000:0000:0000:0001]:65535",
            )
        ],
        (1, "2001:DB8::1", "127.0.0.1", "2001:db8::1"),
        (0, None, "::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
def test_trusted_proxies_says_how_many_are_believed(
    address: Any, trusted: int, forwarded: str | None, peer: str, expected: str
) -> None:
    assert address(trusted, forwarded, peer) == expected


def test_clients_are_limited_by_address_whatever_the_port(
    make_app: MakeApp, database: object
) -> None:
    client = make_app(trusted_proxies=1, signup="open").test_client()

    def sign_up(forwarded: str) -> int:
        body = CREDENTIALS | {"password": "correct horse"}
        headers = {"X-Forwarded-For": forwarded}
        return client.post("/users", json=body, headers=headers).status_code

    assert {sign_up(f"203.0.113.{number}:51008") for number in range(11)} == {409}
    assert [sign_up(f"192.0.2.1:{port}") for port in range(50_000, 50_011)] == [409] * 10 + [429]


def test_a_missing_client_address_is_logged_once_a_minute(
    make_app: MakeApp, database: object, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(trusted_proxies=1)
    clock.advance(DAY)  # since others have used this app

    def post(forwarded: str | None) -> int:
        sent = {"data": "", "environ_overrides": {"REMOTE_ADDR": "10.0.0.7"}}
        headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
        return app.test_client().post("/auth", **sent, headers=headers).status_code

    def warnings() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]

    for forwarded in (*NO_ADDRESSES, None):
        caplog.clear()
        assert set(run_at_once(partial(post, forwarded), 8)) == {422}
        [line] = warnings()
        shown = r"[0-9A-Fa-f.:\[\]? ]{0,100}"  # no other text of the client
        assert re.fullmatch(
            f"no client address in X-Forwarded-For '{shown}'"
            r" \(TRUSTED_PROXIES=1\): 10\.0\.0\.7 counts", line,
        )  # fmt: skip
        clock.advance(59)
        post(forwarded)
        assert len(warnings()) == 1
        clock.advance(1)


def test_a_health_check_without_a_proxy_is_no_warning(
    make_app: MakeApp, database: object, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_app(trusted_proxies=1).test_client()
    caplog.clear()

    assert client.get("/healthz").status_code == client.head("/readyz").status_code == 200

    assert {record.levelname for record in caplog.records} <= {"INFO"}
