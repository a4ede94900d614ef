"""The metrics server: Prometheus reads the sums of all workers on a port of its own.

This is prometheus_client's multiprocess mode: each worker counts in files of one folder, in memory
where the system has such a place. The arbiter opens the port, and a thread of each worker serves
it, so that the port works as long as a worker does.
"""

import logging
import os
import shutil
import socket
import sys
import threading
from functools import partial
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from tempfile import gettempdir, mkdtemp
from typing import Any, Final

from prometheus_client import CollectorRegistry, MetricsHandler, values
from prometheus_client.multiprocess import MultiProcessCollector

from jwt_server.config import Settings
from jwt_server.listeners import WAIT_SECONDS, require_port
from jwt_server.metrics import FileSizes

log = logging.getLogger(__name__)

PREFIX: Final = "jwt-server-metrics-"
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
# The kinds of a worker's files, and more bytes than their counts take.
WORKER_FILES: Final = {"counter": 1 << 16, "gauge_livesum": 1 << 12, "histogram": 1 << 19}
MAX_THREADS: Final = 16
READ_SECONDS: Final = 2
TOTAL_SECONDS: Final = 5


class Handler(MetricsHandler):
    """Responds with the metrics, whatever the path."""

    timeout = READ_SECONDS
    server_version, sys_version = "jwt-server", ""
    error_content_type, error_message_format = "text/plain", "%(explain)s\n"


class MetricsServer(ThreadingMixIn, TCPServer):
    """An HTTP server with a bounded number of threads in each worker."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, settings: Settings) -> None:
        self.address_family = socket.AF_INET6 if ":" in settings.metrics_host else socket.AF_INET
        registry = CollectorRegistry()
        if isinstance(settings.database, Path):
            registry.register(FileSizes(settings.database))
        super().__init__((settings.metrics_host, settings.metrics_port), Handler.factory(registry))
        self.socket.settimeout(0)  # another worker may be faster to accept
        self.slots = threading.BoundedSemaphore(MAX_THREADS)
        self.folder = make_folder(settings)
        MultiProcessCollector(registry, self.folder)

    def start(self) -> None:
        """Serve in a thread of this worker, and reserve the space of its counts.

        They are written as memory, so without space the system would kill the worker. It does not
        count then.
        """
        try:
            for kind, size in WORKER_FILES.items():
                Path(self.folder, f"{kind}_{os.getpid()}.db").write_bytes(bytes(size))
        except OSError as error:
            log.error("No space for the metrics of this worker: %s", error)  # noqa: TRY400 - it says all
            values.ValueClass = values.MutexValue
        serve = partial(self.serve_forever, poll_interval=3600)
        threading.Thread(target=serve, daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, once there is a slot for it."""
        self.slots.acquire()
        super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection, and end it if the client sends or reads too slowly."""
        timer = threading.Timer(TOTAL_SECONDS, request.shutdown, [socket.SHUT_RDWR])
        timer.start()
        try:
            super().finish_request(request, client_address)
        finally:
            timer.cancel()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, and free its slot."""
        super().shutdown_request(request)
        self.slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what failed, which is mostly a client that has disconnected."""
        log.warning("metrics request failed: %r", sys.exception())


def listen(settings: Settings) -> MetricsServer:
    """Open the metrics port, and have all metrics of this process and its workers counted there.

    Raises ConfigurationError if the port can't be used.
    """
    require_port(settings.metrics_host, settings.metrics_port, WAIT_SECONDS, prefix="METRICS_")
    server = MetricsServer(settings)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = server.folder
    values.ValueClass = values.MultiProcessValue()
    return server


def make_folder(settings: Settings) -> str:
    """Make the folder of the counts; delete those of killed services, which had the same port."""
    base = MEMORY if os.access(MEMORY, os.W_OK) else Path(gettempdir())
    prefix = f"{PREFIX}{settings.metrics_host}-{settings.metrics_port}-"
    for old in base.glob(f"{prefix}*"):
        shutil.rmtree(old, ignore_errors=True)  # it may be another user's
    return mkdtemp(prefix=prefix, dir=base)
