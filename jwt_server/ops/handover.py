"""What gunicorn's arbiter leaves to itself when it executes itself anew, for new code.

A process keeps its number, its open files and its children through an exec(2), but forgets all that
it knew of them. So it is told that in a variable of the environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from gunicorn import sock
from gunicorn.arbiter import Arbiter
from gunicorn.workers.workertmp import WorkerTmp

from jwt_server.errors import ConfigurationError

NAME: Final = "JWT_SERVER_HANDOVER"
LISTENERS: Final = "GUNICORN_FD"
"""gunicorn's own variable. It keeps a process from going into the background a second time."""


@dataclass(frozen=True)
class Handover:
    """Files are the numbers under which they are open."""

    bind: Sequence[str]
    """The addresses that are listened on."""
    listeners: Sequence[int]
    workers: Sequence[tuple[int, int, Sequence[int]]]
    """Of each its process id, the file by which it shows that it lives, and its cores."""
    note: int | None
    """The file of running.py, locked."""

    def environment(self) -> dict[str, str]:
        """The variables that tell it."""
        return {NAME: json.dumps(asdict(self)), LISTENERS: ",".join(map(str, self.listeners))}

    def keep_open(self, *, through_exec: bool) -> None:
        """Whether the files are to stay open through an exec; the sockets always do."""
        files = [file for _, file, _ in self.workers]
        for file in files if self.note is None else [*files, self.note]:
            os.set_inheritable(file, through_exec)


class Heartbeat(WorkerTmp):
    """The file by which an older worker shows that it lives."""

    def __init__(self, file: int) -> None:
        self._tmp = os.fdopen(file, "w+b", 0)


@dataclass
class Predecessor:
    """A worker of before the exec, as gunicorn wants it: older than all that are made now."""

    pid: int
    share: Sequence[int]
    tmp: Heartbeat
    age: int = 0
    aborted: bool = False


def leave(server: Arbiter, note: int | None) -> Handover:
    """What an arbiter has to leave."""
    return Handover(
        bind=server.cfg.settings["bind"].get(),
        listeners=[listener.fileno() for listener in server.LISTENERS],
        workers=[(pid, each.tmp.fileno(), each.share) for pid, each in server.WORKERS.items()],
        note=note,
    )


def received() -> Handover | None:
    """What this process has left to itself; None at a first start."""
    told = os.environ.get(NAME)
    return Handover(**json.loads(told)) if told else None


def require_same_addresses(bind: Sequence[str]) -> None:
    """Raise ConfigurationError where a reload would change what is listened on."""
    left = received()
    if left and list(left.bind) != list(bind):
        raise ConfigurationError(
            [
                "HOST, PORT, METRICS_HOST, METRICS_PORT: a reload can't change what is listened on"
                f" ({', '.join(left.bind)}). Set them back, or restart the service."
            ]
        )


def take(server: Arbiter) -> Handover | None:
    """Give an arbiter that is just starting the sockets and workers that were left to it."""
    left = received()
    if left is None:
        return None
    for name in (NAME, LISTENERS):
        del os.environ[name]
    left.keep_open(through_exec=False)
    server.LISTENERS = sock.create_sockets(  # type: ignore[no-untyped-call]  # gunicorn has no types
        server.cfg, server.log, left.listeners
    )
    server.WORKERS = {
        pid: Predecessor(pid, share, Heartbeat(file)) for pid, file, share in left.workers
    }
    return left
