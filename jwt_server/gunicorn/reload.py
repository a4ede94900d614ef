"""A reload of the whole service: new code, new libraries and new settings, and no request lost.

On SIGHUP, gunicorn as it comes reads its configuration anew, but its arbiter keeps the code that it
has once imported, and its workers inherit that. Here the arbiter first has a new process try
whether the code and the settings that are there now would start, and goes on as it was where they
would not. Else it executes itself anew, and stays the same process for whoever started it. It keeps
its sockets and its workers, who answer until the new ones do.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from gunicorn.arbiter import Arbiter

from jwt_server.gunicorn import handover, running, scrape
from jwt_server.gunicorn.handover import Handover

# All that the arbiter does until it forks, by the same arguments, but for opening its sockets.
TRIAL: Final = """\
from gunicorn.app.wsgiapp import WSGIApplication
service = WSGIApplication()
service.cfg.worker_class
service.load()
from jwt_server.gunicorn import conf
conf.require_startable()
"""

TRIAL_SECONDS: Final = 30
BOOT_SECONDS: Final = 30

SIGNALS: Final = (*Arbiter.SIGNALS, signal.SIGCHLD)
"""What waits during an exec: it would end the process, which can't attend to it yet, or be lost."""

STOPS: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
RELOADS: Final = {signal.SIGHUP, signal.SIGUSR2}


def prepare(server: Any) -> None:
    """Have an arbiter that starts do all this on SIGHUP and SIGUSR2."""
    server.handle_hup = server.handle_usr2 = partial(reload, server)
    server.wait_for_signals = partial(reload_last, server.wait_for_signals)


def reload_last(wait: Callable[[float], list[int]], timeout: float = 1.0) -> list[int]:
    """What gunicorn is to attend to now: a reload at the end, as an exec forgets the rest."""
    return sorted(wait(timeout), key=RELOADS.__contains__)


def reload(server: Any) -> None:
    """Become the code that is there now, with the settings that are there now, or go on."""
    left = handover.leave(server)
    environment = {**server.cfg.env_orig, **left.environment(), **scrape.handed_over()}
    refusal = try_out(server, environment) or execute(server, left, environment)
    for line in (*refusal.splitlines(), "The service goes on as it was."):
        server.log.error("%s", line)
    running.note_reload(server.note, refusal)


def try_out(server: Any, environment: dict[str, str]) -> str:
    """Why the service could not start now; nothing where it could."""
    try:
        trial = subprocess.Popen(  # noqa: S603 - no shell, and nobody's input
            [sys.executable, "-c", TRIAL, *sys.argv[1:]],
            cwd=server.START_CTX["cwd"], env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, errors="backslashreplace",
        )  # fmt: skip
    except OSError as error:
        return f"The new code can't be tried: {error}"
    said = _outcome(server, trial)
    if trial.returncode == 0:
        return ""
    return said.strip() or f"The new code ended with {trial.returncode}."


def _outcome(server: Any, trial: subprocess.Popen[str]) -> str:
    """What a trial has said by its end, which comes early where the service is to stop."""
    deadline = time.monotonic() + TRIAL_SECONDS
    while time.monotonic() < deadline and not _is_to_stop(server):
        try:
            return trial.communicate(timeout=0.1)[1]
        except subprocess.TimeoutExpired:
            continue
    trial.kill()
    return trial.communicate()[1] + "\nThe new code was not ready in time."


def _is_to_stop(server: Any) -> bool:
    came = []
    while not server.SIG_QUEUE.empty():
        came.append(server.SIG_QUEUE.get())
    for number in came:
        server.SIG_QUEUE.put(number)
    return not STOPS.isdisjoint(came)


def execute(server: Any, left: Handover, environment: dict[str, str]) -> str:
    """Become it; why not, where that can't be done."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    while not server.SIG_QUEUE.empty():  # what has come during the trial
        os.kill(os.getpid(), server.SIG_QUEUE.get())
    try:
        left.keep_open(through_exec=True)
        os.chdir(server.START_CTX["cwd"])
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - no shell is wanted
    except OSError as error:
        left.keep_open(through_exec=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return f"The new code can't be started: {error}"


def relieve(server: Any) -> None:
    """Make a new worker for each that there should be, and wait until all answer. gunicorn then
    stops the surplus, the older ones first, and these end what they have begun.
    """
    server.log.info("Reloaded: new workers relieve %d older ones", len(server.WORKERS))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    server.ready = heard, told = os.pipe()
    for _ in range(server.num_workers):
        server.spawn_worker()
    server.ready = None
    os.close(told)
    _wait_for_words(heard, server.num_workers)
    os.close(heard)
    running.note_reload(server.note)


def end_to_write(server: Any) -> int | None:
    """Where a worker that was just forked says that it is there, if anybody waits for that."""
    if server.ready is None:
        return None
    heard, told = server.ready
    os.close(heard)
    return int(told)


def _wait_for_words(heard: int, count: int) -> None:
    """Wait for a byte of each new worker. One that ends before makes gunicorn stop, and say why."""
    deadline = time.monotonic() + BOOT_SECONDS
    while count > 0 and (left := deadline - time.monotonic()) > 0:
        if select.select([heard], [], [], left)[0]:
            words = os.read(heard, count)
            count -= len(words) or count  # nobody is left to say one
