"""How a client spends its time: one operation after the other, with a rest when it is asked to."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tests.torture import accounts, pets, sessions
from tests.torture.client import Client
from tests.torture.wire import PATIENCE, Lost

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
"""What is done, and how often."""

MOST_SESSIONS: Final = 30
"""Fewer than the service lets a user have, so that none ends by itself."""


class Gate:
    """Where clients rest while the records are compared, so that these say what is."""

    def __init__(self, clients: int) -> None:
        self.clients = clients
        self.resting = 0
        self.closed = False
        self.changed = threading.Condition()

    def close(self) -> None:
        """Have all clients rest; waits until they do."""
        with self.changed:
            self.closed = True
            if not self.changed.wait_for(lambda: self.resting == self.clients, 2 * PATIENCE):
                raise RuntimeError("a client does not come to rest")

    def open(self) -> None:
        """Have them go on."""
        with self.changed:
            self.closed = False
            self.changed.notify_all()

    def rest(self) -> None:
        """Rest while it is closed."""
        with self.changed:
            self.resting += 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: not self.closed)
            self.resting -= 1

    def leave(self) -> None:
        """Be waited for no longer."""
        with self.changed:
            self.clients -= 1
            self.changed.notify_all()


def live(client: Client, gate: Gate) -> None:
    """Operate until it is over; never raises."""
    try:
        while not client.weather.over.is_set():
            with suppress(Lost):
                operate(client)
            if client.account.unseen:
                with suppress(Lost):
                    client.insist(lambda: client.settle() >= 0)
            if gate.closed:
                gate.rest()
    except Exception:  # noqa: BLE001 - whatever it is, the run must tell of it
        client.lose(f"the client fell over:\n{traceback.format_exc()}")
    finally:
        client.wire.close()
        gate.leave()


def operate(client: Client) -> None:
    """One operation. Raises Lost where something on the way to it was not answered."""
    if not client.account.user_id:
        accounts.sign_up(client)
    elif len(client.account.live()) > MOST_SESSIONS:
        sessions.sign_out_many(client)
    else:
        [operation] = client.rng.choices(list(OPERATIONS), list(OPERATIONS.values()))
        operation(client)
