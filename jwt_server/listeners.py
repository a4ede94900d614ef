"""Where the service listens, and whether it can."""

import errno
import ipaddress
import socket
import time
from contextlib import suppress
from typing import Final

from jwt_server.config import Settings
from jwt_server.errors import ConfigurationError

WAIT_SECONDS: Final = 5
"""How long to wait at the start for a port that workers of a killed service still have."""


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect; false for a Unix socket, which has a proxy."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def format_address(host: str, port: int) -> str:
    """Return where to listen, as people and gunicorn write it; a Unix socket has no port."""
    if host.startswith("unix:"):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def hosts(settings: Settings) -> list[str]:
    """Return the hosts to listen on: localhost is IPv4, IPv6, or both, as the system has them."""
    if settings.host != "localhost":
        return [settings.host]
    found = []
    for host in ("127.0.0.1", "::1"):
        with suppress(OSError):
            _listen(host, 0)
            found.append(host)
    return found


def _listen(host: str, port: int) -> None:
    """Listen for a moment. Raises OSError as gunicorn would: its socket at `::` has IPv4, too."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen()


def require_port(host: str, port: int, wait_seconds: int = 0, *, prefix: str = "") -> None:
    """Raise ConfigurationError if the service can't listen there, now or in `wait_seconds`.

    `prefix` is that of the settings which say where.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return _listen(host, port)
        except OSError as error:
            is_taken = error.errno == errno.EADDRINUSE
            if not is_taken or time.monotonic() >= deadline:
                name, advice = f"{prefix}HOST", "an address of this machine"
                if is_taken or error.errno == errno.EACCES:
                    name = f"{prefix}PORT"
                    advice = f"another, such as {name}={port % 64_000 + 1000}"
                text = f"{name}: Can't listen on {format_address(host, port)} ({error.strerror})."
                raise ConfigurationError([f"{text} Set {advice}."]) from error
        time.sleep(0.1)


def require_listeners(settings: Settings, wait_seconds: int = 0) -> None:
    """Require the port at each of the hosts; gunicorn itself replaces a Unix socket."""
    for host in [] if settings.is_socket else hosts(settings):
        require_port(host, settings.port, wait_seconds)
