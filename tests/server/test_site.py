"""deploy/nginx.conf: the site as people reach it, through a real nginx and a Unix socket."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from flask import Flask
from flask.testing import FlaskClient

from tests.helpers.app import MakeApp
from tests.helpers.description import password_operations
from tests.helpers.factories import CREDENTIALS, bearer, open_session, token
from tests.helpers.http import Response
from tests.helpers.nginx import needs_nginx, nginx
from tests.helpers.secrets import find_secrets
from tests.helpers.server import BASE_ENVIRONMENT, ROOT, Server, flask, free_port, gunicorn

NAME = "auth.example.com"
SITE = (ROOT / "deploy" / "nginx.conf").read_text()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for the site, and its key; made once."""
    paths = folder / "fullchain.pem", folder / "privkey.pem"
    if paths[0].exists():
        return paths
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, SHA256())
    )
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Path]:
    """The service on a Unix socket, as the systemd unit has it."""
    path = folder / "http.sock"
    environment = BASE_ENVIRONMENT | {"HOST": f"unix:{path}", "TRUSTED_PROXIES": "1"}
    for command in ("init-db", "seed"):
        assert flask(folder, environment, command).returncode == 0
    open_session(folder / "server.db")
    process = gunicorn(folder, environment, folder / "server.log")
    try:
        deadline = time.monotonic() + 20
        while not path.exists():
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.05)
        yield path
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert find_secrets((folder / "server.log").read_text()) == []


def configured(folder: Path, service: Path, port: int, plain: int) -> str:
    """The site of deploy/ with this test's paths and ports; all else as it stands there."""
    chain, key = certificate(folder)
    replaced = SITE
    for written, real in {
        "unix:/run/jwt-server/http.sock": f"unix:{service}",
        "/etc/letsencrypt/live/auth.example.com/fullchain.pem": str(chain),
        "/etc/letsencrypt/live/auth.example.com/privkey.pem": str(key),
        "/etc/nginx/jwt-server-proxy.conf": str(ROOT / "deploy" / "jwt-server-proxy.conf"),
        "    listen [::]:443 ssl http2;\n": "",
        "    listen [::]:80;\n": "",
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "root /var/www/html;": f"root {folder}/html;",
    }.items():
        assert written in replaced
        replaced = replaced.replace(written, real)
    return replaced


@pytest.fixture(scope="module")
def site(folder: Path, service: Path) -> Iterator[Server]:
    port, plain = free_port(), free_port()
    with nginx(folder, configured(folder, service, port, plain), port) as server:
        yield replace(server, host=str(plain))  # where the unencrypted side listens


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "fullchain.pem"))


def ask(
    site: Server,
    folder: Path,
    method: str,
    path: str,
    body: bytes | str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Ask over TLS, by the site's name."""
    raw = socket.create_connection(("127.0.0.1", site.port), timeout=10)
    connection = http.client.HTTPSConnection(NAME, timeout=10)
    connection.sock = trusting(folder).wrap_socket(raw, server_hostname=NAME)
    with closing(connection):
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Response(response.status, _headers(response), response.read())


def _headers(response: http.client.HTTPResponse) -> Any:
    return response.headers


@needs_nginx
def test_the_original_clients_sign_in_and_read_their_pets(site: Server, folder: Path) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    signed_in = ask(site, folder, "POST", "/auth", urlencode(CREDENTIALS), form)
    pets = ask(site, folder, "GET", "/my-pets", headers=bearer(signed_in.text))

    assert pets.text == '[{"name":"Bunny","species":"dog"},{"name":"Ru","species":"cat"}]'
    assert pets.headers["Strict-Transport-Security"] == "max-age=63072000; includeSubDomains"
    assert pets.headers["X-Content-Type-Options"] == "nosniff"
    assert "nginx/" not in str(pets.headers)


@needs_nginx
def test_http_is_sent_to_https(site: Server) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", int(site.host), timeout=10)) as plain:
        plain.request("GET", "/docs?a=b", headers={"Host": NAME})
        response = plain.getresponse()

    assert response.status == 301
    assert response.headers["Location"] == f"https://{NAME}/docs?a=b"


@needs_nginx
@pytest.mark.parametrize("path", ["/auth", "/my-pets", "/openapi.json", "/"])
def test_a_program_that_asks_by_http_is_told_so_and_not_led_on(site: Server, path: str) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", int(site.host), timeout=10)) as plain:
        plain.request("POST", path, urlencode(CREDENTIALS), {"Host": NAME})
        response = plain.getresponse()
        text = response.read().decode()

    assert (response.status, text) == (403, f"Use https://{NAME}.")
    assert "Location" not in response.headers


@needs_nginx
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/healthz", {}, 200), ("/docs", {}, 200), ("/nowhere", {}, 404), ("/metrics", {}, 404),
     ("/pets", {"Content-Length": "70000"}, 413), ("/pets", {"Cookie": "x" * 40_000}, 400)],
    ids=str,
)  # fmt: skip
def test_every_answer_has_the_security_headers_once_whoever_makes_it(
    site: Server, folder: Path, path: str, headers: dict[str, str], status: int
) -> None:
    answer = ask(site, folder, "POST" if status == 413 else "GET", path, headers=headers)

    assert answer.status == status
    assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"]
    [policy] = answer.headers.get_all("Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "includeSubDomains" in answer.headers["Strict-Transport-Security"]


@needs_nginx
def test_certbot_finds_what_it_has_put_there(site: Server, folder: Path) -> None:
    challenge = folder / "html" / ".well-known" / "acme-challenge" / "x"
    challenge.parent.mkdir(parents=True)
    challenge.write_text("proof")
    with closing(http.client.HTTPConnection("127.0.0.1", int(site.host), timeout=10)) as plain:
        plain.request("GET", "/.well-known/acme-challenge/x", headers={"Host": NAME})
        assert plain.getresponse().read() == b"proof"


@needs_nginx
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_http_2_is_spoken_over_tls_1_2_and_up(
    site: Server, folder: Path, version: ssl.TLSVersion
) -> None:
    context = trusting(folder)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", site.port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=NAME) as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"
        assert "GCM" in connection.cipher()[0] or "CHACHA20" in connection.cipher()[0]  # type: ignore[index]  # there is one after the handshake


@needs_nginx
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_older_tls_is_refused(site: Server, folder: Path) -> None:
    context = trusting(folder)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", site.port), timeout=10) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(raw, server_hostname=NAME)


@needs_nginx
def test_the_clients_address_is_nginxs_word_and_not_the_clients(site: Server, folder: Path) -> None:
    claims = {
        "X-Forwarded-For": "203.0.113.9, 198.51.100.7",
        "Forwarded": "for=203.0.113.9",
        "X-Real-IP": "203.0.113.9",
        "Content-Type": "application/json",
        "Accept": "application/json",
    }
    signed_in = ask(site, folder, "POST", "/auth", json.dumps(CREDENTIALS), claims)
    token = json.loads(signed_in.body)["access_token"]
    listed = ask(site, folder, "GET", "/auth/sessions", headers=bearer(token))

    current = next(each for each in json.loads(listed.body) if each["current"])
    assert current["address"] == "127.0.0.1"
    assert "203.0.113.9" not in listed.text


@needs_nginx
@pytest.mark.parametrize(
    "request_line",
    ["GET /healthz", "GET http://{other}/healthz", "GET //{other}/healthz", "CONNECT {other}",
     "GET /healthz?url=http://{other}/", "GET @{other}/healthz"],
)  # fmt: skip
def test_nginx_connects_to_the_service_alone_whatever_a_request_names(
    site: Server, folder: Path, request_line: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        other = f"127.0.0.1:{elsewhere.getsockname()[1]}"
        named = "".join(
            f"{name}: {other}\r\n" for name in ("Host", "X-Forwarded-Host", "Forwarded", "X-Host")
        )
        raw = socket.create_connection(("127.0.0.1", site.port), timeout=10)
        with trusting(folder).wrap_socket(raw, server_hostname=NAME) as connection:
            line = request_line.format(other=other)
            connection.sendall(f"{line} HTTP/1.1\r\n{named}Connection: close\r\n\r\n".encode())
            answer = connection.recv(65536)

        assert re.match(rb"HTTP/1.1 (200|400|404|405) ", answer)
        elsewhere.settimeout(0.2)
        with pytest.raises(TimeoutError):
            elsewhere.accept()


@pytest.mark.parametrize("name", ["nginx.conf", "nginx-auth-request.conf"])
def test_no_configuration_of_nginx_has_an_address_that_comes_from_outside(name: str) -> None:
    text = re.sub("#.*", "", (ROOT / "deploy" / name).read_text())
    upstreams = dict(re.findall(r"upstream (\w+) \{\s+server (\S+);", text))
    passed = re.findall(r"(?:proxy|fastcgi|grpc|uwsgi|scgi)_pass (\S+);", text)

    assert upstreams.keys() == {re.split(r"/+", each)[1] for each in passed}
    assert not [each for each in passed if "$" in each.partition("//")[2].partition("/")[0]]
    for address in upstreams.values():
        assert address.startswith(("unix:/", "127.0.0.1:"))
    assert "resolver" not in text


@needs_nginx
def test_what_is_too_large_never_reaches_the_service(site: Server, folder: Path) -> None:
    before = (folder / "server.log").read_text().count("POST /pets")
    answer = ask(site, folder, "POST", "/pets", b"x" * 65_537, bearer(token()))

    assert answer.status == 413
    assert (folder / "server.log").read_text().count("POST /pets") == before


@needs_nginx
@pytest.mark.parametrize("path", ["/metrics", "/metrics/"])
def test_the_figures_are_closed(site: Server, folder: Path, path: str) -> None:
    assert ask(site, folder, "GET", path).status == 404


@needs_nginx
def test_a_slow_body_costs_the_service_nothing(site: Server, folder: Path) -> None:
    slow = []
    for _ in range(80):  # more than a worker has threads
        raw = socket.create_connection(("127.0.0.1", site.port), timeout=10)
        connection = trusting(folder).wrap_socket(raw, server_hostname=NAME)
        connection.sendall(b"POST /pets HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        slow.append(connection)

    assert ask(site, folder, "GET", "/healthz").text == "alive"
    for connection in slow:
        connection.close()


@needs_nginx
def test_a_flood_of_sign_ins_is_stopped_before_the_service(site: Server, folder: Path) -> None:
    answers = [ask(site, folder, "POST", path) for path in ["/auth", "/auth/"] * 20]

    assert ask(site, folder, "OPTIONS", "/auth").status == 200
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {422, 429}
    assert 10 <= statuses.count(422) <= 38  # a busy machine asks more slowly
    stopped = next(answer for answer in answers if answer.status == 429)
    assert stopped.text == "That was too much at once. Try again in a few seconds."
    assert stopped.headers["Retry-After"] == "10"
    assert stopped.headers["X-Content-Type-Options"] == "nosniff"
    assert stopped.headers["Access-Control-Allow-Origin"] == "*"
    assert ask(site, folder, "GET", "/healthz").status == 200  # the rest goes on


@needs_nginx
def test_a_service_that_is_away_is_a_503_that_says_so(folder: Path, tmp_path: Path) -> None:
    port = free_port()
    away = configured(folder, tmp_path / "nobody.sock", port, free_port())
    with nginx(tmp_path, away, port) as site:
        answer = ask(site, folder, "GET", "/my-pets")

    assert answer.status == 503
    assert answer.text == "The login service is away for a moment. Try again in a few seconds."
    assert answer.headers["Retry-After"] == "5"
    for name in ("Strict-Transport-Security", "X-Content-Type-Options", "Content-Security-Policy"):
        assert answer.headers[name]


def test_just_what_hashes_is_limited_as_a_sign_in(client: FlaskClient) -> None:
    [limited] = re.findall(r'"~(\^\S+ .*\$)" \$binary_remote_addr;', SITE)

    for hashes in password_operations(client.get("/openapi.json").get_json()):
        assert re.search(limited, hashes)
        assert re.search(limited, f"{hashes}/")
    for cheap in (
        "POST /auth/refresh", "GET /me", "PATCH /me", "GET /auth/verify", "POST /authx",
        "POST /x/auth", "OPTIONS /auth", "DELETE /me/x",
    ):  # fmt: skip
        assert not re.search(limited, cheap)


@pytest.fixture
def address(make_app: MakeApp, database: object) -> Any:
    """What address is noted of a sign-in behind so many proxies."""

    def noted(trusted: int, forwarded: str | None, peer: str) -> str:
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

    return noted


@pytest.mark.parametrize(
    ("trusted", "forwarded", "peer", "expected"),
    [
        (0, "203.0.113.9", "198.51.100.7", "198.51.100.7"),
        (1, "203.0.113.9", "127.0.0.1", "203.0.113.9"),
        (1, "6.6.6.6, 203.0.113.9", "127.0.0.1", "203.0.113.9"),
        (2, "6.6.6.6, 203.0.113.9, 10.0.0.1", "127.0.0.1", "203.0.113.9"),
        (2, "203.0.113.9", "127.0.0.1", ""),  # one is missing: nobody's word is taken
        (1, None, "", ""),
        (1, "", "127.0.0.1", ""),
        (1, "unknown", "127.0.0.1", ""),
        (1, "<script>", "127.0.0.1", ""),
        (1, "fe80::1%<script>", "127.0.0.1", ""),
        (1, "2001:DB8::1", "127.0.0.1", "2001:db8::1"),
        (0, None, "::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
def test_so_many_proxies_are_believed_and_no_more(
    address: Any, trusted: int, forwarded: str | None, peer: str, expected: str
) -> None:
    assert address(trusted, forwarded, peer) == expected
