"""What gunicorn's arbiter leaves to itself when it executes itself anew, for new code.

A process keeps its number, its open files and its children through an exec(2), but forgets all that
it knew of them. So it is told that in a variable of the environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from gunicorn import sock
from gunicorn.workers.workertmp import WorkerTmp

from jwt_server.errors import ConfigurationError

NAME: Final = "JWT_SERVER_HANDOVER"
LISTENERS: Final = "GUNICORN_FD"
"""gunicorn's own variable. It keeps a process from going into the background a second time."""


@dataclass(frozen=True)
class Handover:
    """Files are the numbers under which they are open."""

    fixed: Sequence[str]
    """The settings that only a restart changes, as their values."""
    listeners: Sequence[int]
    systemd: bool
    """Whether these are systemd's, which keeps them."""
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


def leave(server: Any) -> Handover:
    """What an arbiter has to leave."""
    return Handover(
        fixed=server.fixed,
        listeners=[listener.fileno() for listener in server.LISTENERS],
        systemd=server.systemd,
        workers=[(pid, each.tmp.fileno(), each.share) for pid, each in server.WORKERS.items()],
        note=server.note,
    )


def received() -> Handover | None:
    """What this process has left to itself; None at a first start."""
    told = os.environ.get(NAME)
    return Handover(**json.loads(told)) if told else None


def require_fixed(fixed: Sequence[str]) -> None:
    """Raise ConfigurationError where a reload would change what only a restart does."""
    left = received()
    if left and list(left.fixed) != list(fixed):
        raise ConfigurationError(
            [
                "HOST, PORT, METRICS_HOST, METRICS_PORT, DATABASE_URL: a reload can't change"
                f" {' and '.join(left.fixed)}. Set them back, or restart the service."
            ]
        )


def take(server: Any) -> Handover | None:
    """Give an arbiter that is just starting the sockets and workers that were left to it."""
    left = received()
    if left is None:
        return None
    for name in (NAME, LISTENERS):
        del os.environ[name]
    left.keep_open(through_exec=False)
    if left.listeners:  # with --reuse-port each worker has its own
        server.LISTENERS = sock.create_sockets(  # type: ignore[no-untyped-call]  # gunicorn has no types
            server.cfg, server.log, left.listeners
        )
    server.systemd = left.systemd
    if server.pidfile is not None:  # it says the right number already, so gunicorn has not made it
        server.pidfile.pid = server.pid
    server.WORKERS = {
        pid: Predecessor(pid, share, Heartbeat(file)) for pid, file, share in left.workers
    }
    return left
