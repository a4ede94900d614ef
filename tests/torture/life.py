"""The loop of a client: random operations, and pauses in which the records are compared."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tests.torture import accounts, pets, sessions
from tests.torture.client import Client
from tests.torture.wire import TIMEOUT, NoResponse

OPERATIONS: Final[dict[Callable[[Client], None], int]] = {
    pets.add_pet: 20,
    pets.replace_pet: 12,
    pets.remove_pet: 10,
    sessions.refresh: 20,
    sessions.sign_in: 8,
    sessions.sign_out: 6,
    sessions.sign_out_many: 3,
    sessions.reuse: 3,
    accounts.change_password: 7,
    accounts.rename: 5,
    accounts.delete_account: 3,
}
"""The operations, with their relative frequencies."""

MAX_SESSIONS: Final = 30
"""Below the service's own limit, so that no session is ended by it."""


class Gate:
    """Makes all clients wait while their records are compared."""

    def __init__(self, clients: int) -> None:
        self.clients = clients
        self.waiting = 0
        self.closed = False
        self.changed = threading.Condition()

    def close(self) -> None:
        """Make all clients wait; return when all do."""
        with self.changed:
            self.closed = True
            if not self.changed.wait_for(lambda: self.waiting == self.clients, 2 * TIMEOUT):
                raise RuntimeError("a client does not stop at the gate")

    def open(self) -> None:
        """Let them continue."""
        with self.changed:
            self.closed = False
            self.changed.notify_all()

    def wait(self) -> None:
        """Wait while the gate is closed."""
        with self.changed:
            self.waiting += 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: not self.closed)
            self.waiting -= 1

    def remove_client(self) -> None:
        """Stop expecting one of the clients."""
        with self.changed:
            self.clients -= 1
            self.changed.notify_all()


def run_client(client: Client, gate: Gate) -> None:
    """Run random operations until the clients are stopped; never raises."""
    try:
        while not client.outage.stop_clients.is_set():
            with suppress(NoResponse):
                operate(client)
            if client.account.unanswered_sign_ins:
                with suppress(NoResponse):
                    client.retry(lambda: client.reconcile() >= 0)
            if gate.closed:
                gate.wait()
    except Exception:  # noqa: BLE001 - whatever it is, the run must report it
        client.add_loss(f"the client crashed:\n{traceback.format_exc()}")
    finally:
        client.wire.close()
        gate.remove_client()


def operate(client: Client) -> None:
    """Run one operation. Raises NoResponse if a request before it got no response."""
    if not client.account.user_id:
        accounts.sign_up(client)
    elif len(client.account.active()) > MAX_SESSIONS:
        sessions.sign_out_many(client)
    else:
        [operation] = client.rng.choices(list(OPERATIONS), list(OPERATIONS.values()))
        operation(client)
