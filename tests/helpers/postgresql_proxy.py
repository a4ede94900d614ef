"""A TCP proxy in front of PostgreSQL that counts how often its clients wait for the server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from socketserver import StreamRequestHandler, ThreadingTCPServer

from tests.helpers.postgresql import Cluster

PROTOCOL_3 = (3 << 16).to_bytes(4)
"""The version in a startup message; requests for encryption have other numbers there."""

WAITED_FOR = b"QS"
"""The types of messages after which a client waits: Query, and Sync at the end of others."""


@dataclass
class CountingProxy:
    """A running proxy, for one client at a time. `url` is that of the database `jwt_server`."""

    url: str
    round_trips: int = 0
    """How often clients have waited for the server, without connecting."""


@contextmanager
def counting_proxy(cluster: Cluster) -> Iterator[CountingProxy]:
    """Run a proxy in front of a cluster; its clients don't use TLS."""

    class Handler(StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            server = socket.create_connection(("127.0.0.1", cluster.port))
            with server, suppress(OSError):
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(target=_copy, args=(server, self.connection))
                back.start()
                self.forward(server)
                server.shutdown(socket.SHUT_WR)
                back.join()

        def forward(self, server: socket.socket) -> None:
            """Forward what a client sends: messages up to the startup message have no type."""
            has_started = False
            while header := self.rfile.read(5 if has_started else 4):
                body = self.rfile.read(int.from_bytes(header[-4:]) - 4)
                proxy.round_trips += has_started and header[:1] in WAITED_FOR
                server.sendall(header + body)
                has_started = has_started or body[:4] == PROTOCOL_3

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as listener:
        own = f"127.0.0.1:{listener.server_address[1]}"
        url = cluster.url.replace(cluster.address, own)
        proxy = CountingProxy(f"{url}?sslmode=disable&gssencmode=disable")
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown()
            thread.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
