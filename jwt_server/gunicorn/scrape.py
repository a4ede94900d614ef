"""How Prometheus gets at the figures of `metrics.py`: on a port of their own, of all workers.

Each worker keeps its figures in files of one folder, in memory where the system has such a place;
whichever worker is asked adds them up. The port is one more of gunicorn's listeners: opened, handed
over and closed as the service's own is, without a process or a thread that could outlive it.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, make_wsgi_app, values
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from jwt_server.config import Settings
from jwt_server.errors import ConfigurationError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

PREFIX: Final = "jwt-server-metrics-"
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of a random name is made in there

PATHS: Final = ("/metrics", "/metrics/")

DEAD: Final = "dead"
"""Stands for the process id where figures are those of all workers that are gone."""

RESERVED: Final = {"counter": 1 << 16, "gauge_livesum": 1 << 12, "histogram": 1 << 19}
"""The kinds of files of a worker, and how many bytes each gets at its start."""

PATIENCE: Final = 5
"""For so many seconds the port may still be a dying predecessor's; gunicorn waits as long."""


def require_free_port(settings: Settings) -> None:
    """Raise ConfigurationError where the port for Prometheus can't be listened on.

    Nothing where this process was handed its listeners by another, which has the port.
    """
    handed_over = "GUNICORN_FD" in os.environ or "LISTEN_FDS" in os.environ
    if not settings.metrics_port or handed_over:
        return
    deadline = time.monotonic() + PATIENCE
    while (error := _try_port(settings)) is not None:
        if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            raise ConfigurationError(
                [
                    f"METRICS_PORT: {settings.metrics_bind} can't be listened on"
                    f" ({error.strerror}). Set another, or 0 for none."
                ]
            )
        time.sleep(0.2)


def _try_port(settings: Settings) -> OSError | None:
    family = socket.AF_INET6 if ":" in settings.metrics_host else socket.AF_INET
    address = settings.metrics_host, settings.metrics_port
    try:
        socket.create_server(address, family=family).close()
    except OSError as error:
        return error
    return None


@cache
def shared_folder() -> Path:
    """Make the folder for this process and its workers, and let the figures be kept there.

    It is locked as long as one of them lives, and what others have left is removed.
    """
    base = MEMORY if os.access(MEMORY, os.W_OK) else Path(gettempdir())
    folder = Path(mkdtemp(prefix=PREFIX, dir=base))
    fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)  # never closed: the workers inherit it
    for abandoned in base.glob(f"{PREFIX}*"):
        _remove_abandoned(abandoned)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue()
    return folder


def _remove_abandoned(folder: Path) -> None:
    with suppress(OSError):  # it is another user's, in use, or just gone
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_uid == os.geteuid():
                shutil.rmtree(folder)
        finally:
            os.close(handle)


def reserve(folder: Path, pid: int) -> None:
    """Take the room that a new worker's figures need.

    They are written to as memory is: without room the system would kill the worker. So where there
    is none, this worker's figures are missing.
    """
    try:
        for kind, size in RESERVED.items():
            _allocate(folder / f"{kind}_{pid}.db", size)
    except OSError as error:
        log.error("no room for worker %d's figures: %s", pid, error)  # noqa: TRY400 - it says all
        values.ValueClass = values.MutexValue


def _allocate(path: Path, size: int) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(handle, 0, size)
    finally:
        os.close(handle)


def bury(folder: Path, pid: int) -> None:
    """Add what a dead worker has counted to that of those before it.

    Else each worker's files would stay for ever, and each answer take longer than the last.
    """
    with _locked(folder, fcntl.LOCK_EX):
        mark_process_dead(pid, str(folder))
        for kind in ("counter", "histogram"):
            theirs = folder / f"{kind}_{pid}.db"
            try:
                _merge(theirs, folder / f"{kind}_{DEAD}.db")
            except Exception:  # whatever is wrong with a file, gunicorn must live on
                log.exception("the figures of worker %d can't be kept", pid)
            theirs.unlink(missing_ok=True)


def _merge(theirs: Path, everyones: Path) -> None:
    if not theirs.exists():
        return
    files = [path for path in (theirs, everyones) if path.exists()]
    metrics = MultiProcessCollector.merge(map(str, files), accumulate=False)
    new = everyones.with_suffix(".new")
    new.unlink(missing_ok=True)
    _allocate(new, sum(map(_used, files)))
    with closing(MmapedDict(str(new))) as sums:
        for metric in metrics:
            for sample in metric.samples:
                names, told = list(sample.labels), list(sample.labels.values())
                key = mmap_key(metric.name, sample.name, names, told, metric.documentation)
                sums.write_value(key, sample.value, 0.0)
    new.replace(everyones)


def _used(path: Path) -> int:
    """How many bytes of a file are in use, as its first four say."""
    with path.open("rb") as file:
        return int.from_bytes(file.read(4), sys.byteorder)


@contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    """Let nobody add up while figures move from file to file."""
    with (folder / "lock").open("ab") as file:
        fcntl.flock(file, kind)
        yield


class FileSizes(Collector):
    """The sizes of the database's files, as they are when they are asked for."""

    def __init__(self, database: Path) -> None:
        self.database = database

    def collect(self) -> Iterable[Metric]:
        """One figure for the file, one for the write-ahead log beside it."""
        for name, path in (("database", self.database), ("wal", Path(f"{self.database}-wal"))):
            yield GaugeMetricFamily(f"jwt_server_{name}_bytes", f"Size of the {name}.", _size(path))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # there is a log only while somebody has the database open
        return 0


def beside(service: WSGIApplication, settings: Settings, folder: Path) -> WSGIApplication:
    """The service, and beside it the figures for who comes by the port for them."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    registry.register(FileSizes(settings.database))
    figures = make_wsgi_app(registry)

    def by_port(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Asked of the socket: behind a Unix socket, SERVER_PORT is whatever the client says.
        if environ["gunicorn.socket"].getsockname()[1:2] != (settings.metrics_port,):
            return service(environ, start_response)
        if environ["PATH_INFO"] not in PATHS:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"The figures are at /metrics."]
        with _locked(folder, fcntl.LOCK_SH):
            found: Iterable[bytes] = figures(environ, start_response)
            return found

    return by_port
