"""The programs of PostgreSQL and pgbouncer: where they are, their user, and their folders.

All folders are below one of this process. A shell waits for the end of this process, however it
ends; then it stops what still runs there, and deletes that folder.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from select import select
from typing import Any

import pytest

PACKAGES = {"initdb": "postgresql", "pgbouncer": "pgbouncer"}
"""The programs that are looked for, and Debian's packages of them."""

STOP_SECONDS = 60

CLEANUP = """
read -r _
for file in */data/postmaster.pid */pgbouncer.pid; do
    [ -e "$file" ] || continue
    read -r process < "$file"
    kill -QUIT "$process" && sleep 1
done
rm -rf "$PWD"
"""


def find(program: str) -> str | None:
    """Return the path of a program; Debian has PostgreSQL's in a folder for each version."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    newest = sorted(folders, key=lambda folder: float(folder.parent.name), reverse=True)
    path = os.pathsep.join([os.environ["PATH"], *map(str, newest), "/usr/sbin"])
    return shutil.which(program, path=path)


def require(program: str) -> str:
    """Return the path of one of PACKAGES' programs; where it is missing, skip the test, or fail
    in CI.
    """
    path, package = find(program), PACKAGES[program]
    if path is None and os.environ.get("CI") != "true":
        pytest.skip(f"there is no {program} here: sudo apt install {package}")
    assert path, f"CI must have {program}: apt-get install {package}"
    return path


def command(program: str, *arguments: str) -> list[str]:
    """Return a command with a program of PostgreSQL, of the same version as initdb."""
    return [str(Path(require("initdb")).resolve().with_name(program)), *arguments]


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of a program, without the developer's PGHOST and the like."""
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(folder)}


@cache
def user() -> dict[str, Any]:
    """Return the options of `subprocess` for the programs' user, as they refuse to run as root."""
    if os.getuid() != 0:
        return {}
    accounts = {account.pw_name: account for account in pwd.getpwall()}
    account = accounts.get("postgres") or accounts["nobody"]
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def run(folder: Path, *arguments: str, stdin: str = "") -> None:
    """Run a command; if it fails, fail with its output."""
    done = subprocess.run(  # noqa: S603 - our own commands
        arguments, cwd=folder, env=environment(folder), input=stdin, **user(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments[0]} has failed:\n{done.stdout}"


def make_folder(parent: Path | None = None) -> Path:
    """Create a folder that only the programs' user can read, and root.

    Its name is short, as the path of a socket may have 103 characters on macOS.
    """
    folder = Path(tempfile.mkdtemp(prefix="" if parent else "jwt-server-", dir=parent))
    if owner := user():
        os.chown(folder, owner["user"], owner["group"])
    return folder


@cache
def cleaner() -> tuple[Path, subprocess.Popen[bytes]]:
    """Return the folder of this process, and the shell that deletes it."""
    folder = make_folder()
    shell = subprocess.Popen(  # noqa: S603 - our own command
        ["/bin/sh", "-c", CLEANUP], cwd=folder, env=environment(folder), **user(),
        stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    return folder, shell


def new_folder() -> Path:
    """Create a folder for a cluster or a pgbouncer."""
    return make_folder(cleaner()[0])


def children(pid: int) -> list[int]:
    """Return the process IDs of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_at_once(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children with SIGKILL, and wait until they have ended."""
    os.kill(process.pid, signal.SIGSTOP)  # it starts no others meanwhile
    os.waitpid(process.pid, os.WUNTRACED)
    descriptors = [os.pidfd_open(pid) for pid in (process.pid, *children(process.pid))]
    for descriptor in descriptors:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    for descriptor in descriptors:
        select([descriptor], [], [], STOP_SECONDS)  # readable once it has ended
        os.close(descriptor)
    process.wait(STOP_SECONDS)
