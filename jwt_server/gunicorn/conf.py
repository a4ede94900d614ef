"""How gunicorn runs the service.

In a checkout, `gunicorn wsgi:app` finds a link to this file in its directory; the command
`jwt-server` of a wheel names it to gunicorn.
"""

import os
import shutil
import signal
import time
from functools import partial
from typing import Any

from gunicorn.arbiter import Arbiter

from jwt_server import sqlite
from jwt_server.config import process_settings, usable_cores
from jwt_server.errors import ConfigurationError, DatabaseUnavailable, KeysUnavailable
from jwt_server.gunicorn import handover, running, scrape
from jwt_server.gunicorn import reload as reloads
from jwt_server.web.service import load_key_ring

try:
    settings = process_settings()
except ConfigurationError as error:
    raise SystemExit(str(error)) from error

bind = [settings.bind]

# Prometheus has a port of its own.
if settings.metrics_port:
    bind.append(settings.metrics_bind)

# What a reload can't change.
fixed = [*bind, str(settings.database)]

# One worker for each core: Python runs one thread at a time.
workers = settings.workers

# Threads, because a sign-in hashes for a fraction of a second outside the interpreter lock, and the
# worker's other threads answer the cheap requests meanwhile: as many as hash or stand in line, and
# some for the rest. docs/deployment.md has the figures of this and of other kinds of worker.
worker_class = "jwt_server.gunicorn.worker.Worker"
threads = settings.threads

# gunicorn's own parser, also where a faster one is installed: that one took 8 of 250 µs less, and a
# parser of requests is not to change with what else is on a machine.
http_parser = "python"

# Longer than the 60 s for which nginx keeps a connection: who closes first must be nginx, or a
# request meets a connection that is just being closed.
keepalive = 75

# A stopping worker's requests may end: the longest stands in line twice and hashes then. The
# arbiter kills a worker that does not even tick for so long.
graceful_timeout = timeout = max(30, 2 * settings.hash_wait + 10)

# Who stands in line is connected, too; 1,000 more may be, as with gunicorn's own default.
worker_connections = 1000 + threads

# A request's line and headers: a token of ours has 4,096 characters at the most, and a browser
# sends some twenty headers.
limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 8190

# Workers are not replaced after so many requests: 2 million of them grew one by less than 1 MB.
max_requests = 0

# The service writes its own line for each request, with the request's id.
accesslog = None

# gunicorn's own lines look as the service's do.
logger_class = "jwt_server.gunicorn.logger.Logger"

# Nobody here uses gunicorn's runtime control, so there is no socket to guard.
control_socket_disable = True

# No header of a client moves the service to another path or scheme; what a proxy may tell is
# a setting of ours, not gunicorn's guess that all of loopback is one.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}

STOPS = {signal.SIGTERM, signal.SIGQUIT}

# Each worker's share of the cores: one, unless there are more of them than workers.
cores = usable_cores()
shares = [cores[number :: settings.workers] for number in range(min(workers, len(cores)))]


def require_startable() -> None:
    """Refuse to start, with one line, where the database, the keys or the port for Prometheus can't
    be used, or a reload would change what only a restart does.
    """
    try:
        handover.require_fixed(fixed)
        sqlite.check(settings.database)
        load_key_ring(settings).signing_key(time.time())
        scrape.require_free_port(settings)
    except (DatabaseUnavailable, KeysUnavailable) as error:
        raise SystemExit(error.cause) from error
    except ConfigurationError as error:
        raise SystemExit(str(error)) from error


def let_be_stopped() -> None:
    """Let a new worker be stopped from its first moment on.

    It has the arbiter's signal handlers until it sets its own, and they would swallow a stop: the
    arbiter then waits for its whole graceful timeout, 30 seconds.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def on_starting(server: Any) -> None:
    """See that all is there, and go on with what this process has left to itself at a reload."""
    require_startable()
    os.register_at_fork(
        before=partial(signal.pthread_sigmask, signal.SIG_BLOCK, STOPS),
        after_in_parent=partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, STOPS),
        after_in_child=let_be_stopped,
    )
    server.left, server.fixed, server.ready = handover.take(server), fixed, None
    server.note = server.left.note if server.left else None
    reloads.prepare(server)


def when_ready(server: Any) -> None:
    """Let `flask reload` find this process; after a reload, have new workers relieve the older."""
    if server.note is None:
        server.note = running.claim(settings.database)
    if server.left:
        reloads.relieve(server)


def pre_fork(server: Arbiter, worker: Any) -> None:
    """Give the new worker the share of cores that the fewest living ones have.

    A plain round robin would double up as soon as a worker is replaced. The share is noted on the
    worker, as a reload tells the next arbiter of it.
    """
    taken = [sibling.share for sibling in server.WORKERS.values()]
    worker.share = min(shares, key=taken.count)
    if settings.metrics_port:
        scrape.shared_folder()  # made here by the first, as the workers are to share it


def post_fork(server: Any, worker: Any) -> None:
    """Pin the worker to its cores, where the system can.

    Unpinned, the threads of a busy worker fight over the interpreter lock across cores; see
    docs/deployment.md for how much that takes.

    Where Prometheus may ask, take the room for what the worker counts.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, worker.share)
    if server.note is not None:
        os.close(server.note)  # its lock is the arbiter's alone
    worker.ready = reloads.end_to_write(server)
    if settings.metrics_port:
        scrape.reserve(scrape.shared_folder(), os.getpid())


def child_exit(server: Arbiter, worker: Any) -> None:
    """Keep what a worker has counted that is gone."""
    if settings.metrics_port:
        scrape.bury(scrape.shared_folder(), worker.pid)


def on_exit(server: Arbiter) -> None:
    """Remove what the workers shared."""
    if settings.metrics_port:
        shutil.rmtree(scrape.shared_folder(), ignore_errors=True)
