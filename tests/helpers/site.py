"""The service behind the nginx of deploy/, as its users reach it: TLS, a name, a Unix socket."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from werkzeug.datastructures import Headers

from tests.helpers.databases import create_database, database_in
from tests.helpers.http import Response
from tests.helpers.nginx import nginx
from tests.helpers.secrets import find_secrets
from tests.helpers.server import BASE_ENVIRONMENT, ROOT, START_SECONDS, gunicorn
from tests.helpers.waiting import free_port, until

NAME = "auth.example.com"
CONFIGURATION = (ROOT / "deploy" / "nginx.conf").read_text()


@dataclass(frozen=True)
class Site:
    """An nginx with the site of deploy/."""

    folder: Path
    """Holds the certificate, the service's database and its log."""
    port: int
    plain_port: int
    """Where it listens without TLS."""

    @property
    def log_file(self) -> Path:
        """The service's log."""
        return self.folder / "server.log"

    def context(self) -> ssl.SSLContext:
        """Return a TLS context that trusts the site's certificate."""
        return ssl.create_default_context(cafile=str(self.folder / "fullchain.pem"))

    def connect(self, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """Open a TLS connection to the site."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return (context or self.context()).wrap_socket(raw, server_hostname=NAME)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Send a request over TLS."""
        connection = http.client.HTTPConnection(NAME)  # HTTPSConnection reads all certificates
        connection.sock = self.connect()
        return _response(connection, method, path, body, headers or {})

    def send_plain(self, method: str, path: str, body: str | None = None) -> Response:
        """Send a request without TLS."""
        connection = http.client.HTTPConnection("127.0.0.1", self.plain_port, timeout=60)
        return _response(connection, method, path, body, {"Host": NAME})


def _response(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | str | None,
    headers: dict[str, str],
) -> Response:
    with closing(connection):
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Response(response.status, Headers(response.getheaders()), response.read())


def accepts(path: Path) -> bool:
    """Tell whether a server listens on a Unix socket, which exists a moment before it does."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        return True
    return False


@contextmanager
def service_on_socket(folder: Path, **settings: str) -> Iterator[Path]:
    """Run gunicorn on a Unix socket, as the systemd unit does; yields the socket's path."""
    path = folder / "http.sock"
    create_database(database_in(folder))
    environment = BASE_ENVIRONMENT | {"HOST": f"unix:{path}", "TRUSTED_PROXIES": "1"} | settings
    log_file = folder / "server.log"
    process = gunicorn(folder, environment, log_file)
    try:
        until(partial(accepts, path), START_SECONDS)
        yield path
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert find_secrets(log_file.read_text()) == []


@contextmanager
def site(
    folder: Path,
    service: Path | Sequence[int],
    *,
    limits: bool = True,
    rate: str = "2r/s",
    more: str = "",
) -> Iterator[Site]:
    """Run nginx in front of the service; without `limits`, it stops no flood of sign-ins.

    `service` is its socket, or the ports of two hosts. `rate` is that of sign-ins beyond the burst,
    `more` is added to the configuration.
    """
    port, plain_port = free_port(), free_port()
    configuration = more + configure(folder, service, port, plain_port)
    assert "rate=2r/s" in configuration
    configuration = configuration.replace("rate=2r/s", f"rate={rate}")
    if not limits:
        configuration = re.sub(r" *limit_req zone=.*\n", "", configuration)
        assert "limit_req zone" not in configuration
    with nginx(folder, configuration, port):
        yield Site(folder, port, plain_port)


def configure(folder: Path, service: Path | Sequence[int], port: int, plain_port: int) -> str:
    """Return the site of deploy/ with a test's paths and ports."""
    write_certificate(folder)
    configuration = CONFIGURATION
    replacements = upstream(service) | {
        "/etc/letsencrypt/live/auth.example.com/fullchain.pem": str(folder / "fullchain.pem"),
        "/etc/letsencrypt/live/auth.example.com/privkey.pem": str(folder / "privkey.pem"),
        "/etc/nginx/jwt-server-proxy.conf": str(ROOT / "deploy" / "jwt-server-proxy.conf"),
        "    listen [::]:443 ssl http2;\n": "",
        "    listen [::]:80;\n": "",
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "listen 80;": f"listen 127.0.0.1:{plain_port};",
        "root /var/www/html;": f"root {folder}/html;",
    }
    for original, replacement in replacements.items():
        assert original in configuration
        configuration = configuration.replace(original, replacement)
    return configuration


def upstream(service: Path | Sequence[int]) -> dict[str, str]:
    """Return what to replace in the site for a socket, or for two hosts."""
    socket_line = "    server unix:/run/jwt-server/http.sock;\n"
    if isinstance(service, Path):
        return {socket_line: f"    server unix:{service};\n"}
    return {socket_line: "", "#zone ": "zone "} | {
        f"#server 10.0.0.1{number}:3000 ": f"server 127.0.0.1:{port} "
        for number, port in enumerate(service, 1)
    }


def write_certificate(folder: Path) -> None:
    """Write a self-signed certificate for the site, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
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
    (folder / "fullchain.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
