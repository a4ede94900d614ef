"""gunicorn's configuration, from the service's settings.

gunicorn.conf.py of a checkout and the command `jwt-server` use it. The arbiter imports the app's
modules, so that workers start faster and share their memory.
"""

import gc
import mmap
import os
import shutil
import signal
import time
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

import jwt_server.app  # noqa: F401 - before the fork
from jwt_server import listeners
from jwt_server.config import process_settings
from jwt_server.cpus import usable_cores
from jwt_server.database import Database
from jwt_server.errors import ConfigurationError, Unavailable
from jwt_server.gunicorn import metrics_server
from jwt_server.security.key_files import load_keys

gc.freeze()  # a collection would write into the memory that all workers share, and copy it

try:
    settings = process_settings()
except ConfigurationError as error:
    raise SystemExit(str(error)) from error

os.environ.pop("SCRIPT_NAME", None)  # the middleware's; gunicorn's is 500 for other paths

# Ignored under systemd, whose socket is inherited (LISTEN_FDS).
bind = [listeners.format_address(host, settings.port) for host in listeners.hosts(settings)]
workers = settings.workers
threads = settings.hash_concurrency + settings.hash_queue + 32  # that many for other requests
worker_class = "jwt_server.gunicorn.worker.Worker"
worker_connections = 1000 + threads  # requests in the hash queue are connected, too
preload_app = False  # the app opens files, and counts, in each worker
http_parser = "python"  # whatever is installed
sendfile = False  # it would wait for a slow client without a limit
certfile, http2_cleartext = None, "off"  # the worker reads requests itself
protocol, proxy_protocol = "http", "off"  # in the others a client chooses its own address
keepalive = settings.keep_alive  # longer than the proxy's, so that the proxy closes first
graceful_timeout = timeout = max(30, 2 * settings.hash_wait + 10)  # two waits to hash a password

# Browsers send the cookies of all applications on localhost; the worker bounds the whole head.
limit_request_line = 4094
limit_request_fields = 100
limit_request_field_size = 16 * 1024

accesslog = None  # the service logs requests itself, with their ID
logger_class = "jwt_server.gunicorn.logger.Logger"
control_socket_disable = True

cores = usable_cores()
core_shares = [cores[number::workers] for number in range(min(workers, len(cores)))]
"""The cores of each worker: one, or more if there are fewer workers than cores."""

counts = memoryview(mmap.mmap(-1, 1024)).cast("I")
"""How the workers know which of them has the fewest connections."""

OWN_OPTIONS = (
    "bind", "workers", "threads", "worker_class", "preload_app", "certfile", "http2_cleartext",
    "protocol", "proxy_protocol",
)  # fmt: skip


def on_starting(server: Any) -> None:
    """Open the metrics port; exit with one line if a port, the database or the keys can't be used.

    Ignore SIGHUP: gunicorn's reload would mix new code with what the arbiter has imported, and stop
    the service if the new code or settings had a mistake.
    """
    for name in OWN_OPTIONS:
        if (value := server.cfg.settings[name].get()) != globals()[name]:
            raise SystemExit(
                f"gunicorn's option {name} can't be {value!r}, in GUNICORN_CMD_ARGS or as an"
                " argument: see docs/configuration.md for HOST, PORT, WORKERS and the others."
            )
    try:
        Database(settings.database).engine.check(starting=True)
        load_keys(settings).signing_key(time.time())
        if not (server.cfg.reuse_port or os.environ.keys() & {"LISTEN_FDS", "GUNICORN_FD"}):
            listeners.require_listeners(settings, listeners.WAIT_SECONDS)
        server.metrics = metrics_server.listen(settings) if settings.metrics_port else None
    except (ConfigurationError, Unavailable) as error:
        raise SystemExit(str(error)) from error
    server.handle_hup = lambda: server.log.warning(
        "SIGHUP is ignored: restart the service to load new code and settings."
    )


def pre_fork(server: Any, worker: Any) -> None:
    """Choose the cores that the fewest running workers have, also when a worker is replaced."""
    worker.counts, worker.slot = counts, worker.age % len(counts)
    taken = [sibling.core_share for sibling in server.WORKERS.values()]
    worker.core_share = min(core_shares, key=taken.count)


def post_fork(server: Any, worker: Any) -> None:
    """Pin the worker to its cores: elsewhere its threads contend for the interpreter lock."""
    for number in (signal.SIGTERM, signal.SIGQUIT):  # the arbiter's handlers would lose them
        signal.signal(number, signal.SIG_DFL)
    if hasattr(os, "sched_setaffinity"):  # not on macOS
        try:
            os.sched_setaffinity(0, worker.core_share)
        except OSError as error:  # the allowed cores have changed
            worker.log.warning("Not pinned to the cores %s: %s", worker.core_share, error.strerror)
    if server.metrics:
        server.metrics.start()


def child_exit(server: Any, worker: Any) -> None:
    """Drop the gauges of a worker that has ended; its counters and histograms stay."""
    counts[worker.slot] = 0
    if server.metrics:
        mark_process_dead(worker.pid, server.metrics.folder)


def on_exit(server: Any) -> None:
    """Delete the workers' counts."""
    if server.metrics:
        shutil.rmtree(server.metrics.folder, ignore_errors=True)
