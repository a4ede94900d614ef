"""A reload of the whole service: new code, new libraries and new settings, and no request lost.

On SIGHUP, gunicorn as it comes reads its configuration anew, but its arbiter keeps the code that it
has once imported, and its workers inherit that. Here the arbiter first has a new process try
whether the code and the settings that are there now would start, and goes on as it was where they
would not. Else it executes itself anew, and stays the same process for whoever started it. It keeps
its sockets, so that what comes meanwhile waits, and its workers, who answer until the new ones are
there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from gunicorn.arbiter import Arbiter

from jwt_server.ops import handover, running, scrape
from jwt_server.ops.handover import Handover

TRIAL: Final = """\
import jwt_server.gunicorn_conf
jwt_server.gunicorn_conf.require_startable()
import jwt_server.wsgi
"""

TRIAL_SECONDS: Final = 30

SIGNALS: Final = (*Arbiter.SIGNALS, signal.SIGCHLD)
"""What waits during an exec: it would end the process, which can't attend to it yet, or be lost."""


def prepare(server: Any) -> None:
    """Have an arbiter that starts do all this on SIGHUP and SIGUSR2."""
    server.handle_hup = server.handle_usr2 = partial(reload, server)
    server.wait_for_signals = partial(reload_last, server.wait_for_signals)


def reload_last(wait: Callable[[float], list[int]], timeout: float = 1.0) -> list[int]:
    """What gunicorn is to attend to now: a reload at the end, as an exec forgets the rest."""
    return sorted(wait(timeout), key={signal.SIGHUP, signal.SIGUSR2}.__contains__)


def reload(server: Any) -> None:
    """Become the code that is there now, with the settings that are there now, or go on."""
    left = handover.leave(server, server.note)
    environment = {**server.cfg.env_orig, **left.environment(), **scrape.handed_over()}
    refusal = try_out(server.START_CTX["cwd"], environment) or execute(server, left, environment)
    for line in (*refusal.splitlines(), "The service goes on as it was."):
        server.log.error("%s", line)
    running.note_reload(server.note, refusal)


def try_out(folder: str, environment: dict[str, str]) -> str:
    """Why the service could not start now; nothing where it could."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and nobody's input
            [sys.executable, "-c", TRIAL],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="backslashreplace",
            timeout=TRIAL_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"The new code can't be tried: {error}"
    if done.returncode == 0:
        return ""
    return done.stderr.strip() or f"The new code ended with {done.returncode}."


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


def relieve(server: Any, older: int) -> None:
    """Make a new worker for each that there should be. gunicorn then stops the surplus, the older
    ones first, and these end what they have begun.
    """
    server.log.info("Reloaded: new workers relieve %d older ones", older)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for _ in range(server.num_workers):
        server.spawn_worker()
    running.note_reload(server.note)
