"""Start processes of the service by a fork of this one, which has imported its modules before.

So they start in a tenth of the CPU time. `tests/helpers/processes.py` runs this and talks to it: a
line of JSON is a command to start, whose process ID is printed; or the process ID of a command,
whose exit status is printed, or null while it runs.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import flask.cli  # noqa: F401 - imported before the fork, as all below
import gunicorn.app.wsgiapp
import gunicorn.config

import jwt_server.app
import jwt_server.gunicorn.logger
import jwt_server.gunicorn.metrics_server
import jwt_server.gunicorn.worker  # noqa: F401
from jwt_server.cli import audit, database, doctor, import_koa, keys, sessions, users  # noqa: F401
from jwt_server.security import passwords, policy


def start(
    folder: str,
    environment: dict[str, str],
    streams: Sequence[str | None],
    module: str,
    arguments: Sequence[str],
) -> int:
    """Run a module as `python -m` does, in a process group of its own; return the process ID.

    A stream of no path is closed.
    """
    if (pid := os.fork()) == 0:
        os.setpgid(0, 0)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for number, path in enumerate(streams):
            replace_stream(number, path)
        sys.path[0] = gunicorn.config.Chdir.default = folder  # as they read it at their start
        sys.argv[1:] = arguments
        run(module)
    with suppress(OSError):  # it has done this itself, and more
        os.setpgid(pid, pid)
    return pid


def run(module: str) -> NoReturn:
    """Run a module, and end this process without freeing its memory, which would take longer."""
    status: object = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:  # noqa: BLE001 - as Python does
        traceback.print_exc()
    if not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    if sys.stdout:
        sys.stdout.flush()
    os._exit(status)


def replace_stream(number: int, path: str | None) -> None:
    """Open a file as standard input, output or error, as Python does at its start."""
    name = ("stdin", "stdout", "stderr")[number]
    stream = None
    os.close(number)
    if path is not None:
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, number)  # the same, unless one before it is closed
        stream = open(  # noqa: SIM115 - of a number, and open until the end
            number, "w" if number else "r", buffering=1 if number == 2 else -1, closefd=False
        )
    setattr(sys, name, stream)


def poll(pid: int) -> int | None:
    """Return the exit status of a process that has ended, as subprocess has it."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def main() -> None:
    """Do what each line says."""
    passwords.hash_password("", 4)  # loads bcrypt
    policy.common_words()
    gc.freeze()  # so that a garbage collection copies no memory of this process
    for line in sys.stdin:
        request = json.loads(line)
        result = poll(request) if isinstance(request, int) else start(*request)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
