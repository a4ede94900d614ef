"""Where the service listens, and what is said if it can't."""

from __future__ import annotations

import errno
import re
import socket
from dataclasses import replace
from typing import Any

import pytest

from jwt_server.config import Settings
from jwt_server.errors import ConfigurationError
from jwt_server.listeners import format_address, hosts, is_loopback, require_listeners
from tests.helpers.waiting import free_port


def test_loopback_hosts() -> None:
    loopback = ("127.0.0.1", "127.9.9.9", "::1", "localhost")
    public = ("0.0.0.0", "::", "192.0.2.1", "example.com", "unix:/run/x")

    assert [host for host in (*loopback, *public) if is_loopback(host)] == [*loopback]


def test_localhost_is_ipv4_and_ipv6_and_any_other_host_is_taken_as_it_is(
    settings: Settings,
) -> None:
    assert hosts(settings) == ["127.0.0.1", "::1"]
    for host in ("0.0.0.0", "::", "127.0.0.1", "example.com", "unix:/run/x"):
        assert hosts(replace(settings, host=host)) == [host]


@pytest.mark.parametrize(("missing", "expected"), [("127.0.0.1", ["::1"]), ("::1", ["127.0.0.1"])])
def test_localhost_is_what_the_system_has_of_it(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, missing: str, expected: list[str]
) -> None:
    bind = socket.socket.bind

    class Socket(socket.socket):
        def bind(self, address: Any) -> None:
            if address[0] == missing:
                raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
            bind(self, address)

    monkeypatch.setattr(socket, "socket", Socket)

    assert hosts(settings) == expected


@pytest.mark.parametrize(
    ("host", "taken", "shown"),
    [
        ("localhost", "127.0.0.1", "127.0.0.1"), ("localhost", "::1", "[::1]"),
        ("::", "127.0.0.1", "[::]"), ("::", "0.0.0.0", "[::]"), ("::", "::1", "[::]"),
        ("0.0.0.0", "127.0.0.1", "0.0.0.0"), ("0.0.0.0", "::1", None),
        ("127.0.0.1", "::1", None), ("::1", "0.0.0.0", None),
    ],
)  # fmt: skip
def test_a_port_that_is_taken_on_one_family_is_refused_where_gunicorn_needs_it(
    settings: Settings, host: str, taken: str, shown: str | None
) -> None:
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    with socket.create_server((taken, free_port()), family=family) as other:
        port = other.getsockname()[1]
        wanted = replace(settings, host=host, port=port)
        if shown is None:
            require_listeners(wanted)
            return
        with pytest.raises(ConfigurationError) as refused:
            require_listeners(wanted)

    [line] = refused.value.mistakes
    assert line.startswith(f"PORT: Can't listen on {shown}:{port} (Address already in use). ")
    assert re.search(r" PORT=\d+\.$", line)
    require_listeners(wanted)


def test_a_unix_socket_is_not_a_port(settings: Settings) -> None:
    require_listeners(replace(settings, host="unix:/nowhere/x"))

    assert format_address("unix:/run/x", 3000) == "unix:/run/x"
