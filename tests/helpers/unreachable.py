"""Hosts that don't answer: one accepts connections and says nothing, the other drops packets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


class SilentHost:
    """A socket that accepts connections, and says nothing."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.port: int = listener.getsockname()[1]

    def connections(self) -> int:
        """Return how many have connected since the last call."""
        count = 0
        while True:
            try:
                self.listener.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1


@contextmanager
def silent_host() -> Iterator[SilentHost]:
    """Listen on a port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listener.settimeout(0)
        yield SilentHost(listener)


@contextmanager
def host_that_drops_packets() -> Iterator[int]:
    """Yield a port of 127.0.0.1 at which no connection is refused or made.

    Its queue of connections is full: so the system drops further SYN packets.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(address)
        yield address[1]
