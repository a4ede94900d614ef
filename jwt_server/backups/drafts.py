"""Files that appear whole or not at all, whenever we are killed.

Each is made in a folder of its own beside its place, with a lock that ends with the process: so
what a killed one left is told from what another is making, and cleared away.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from jwt_server.errors import DatabaseUnavailable
from jwt_server.files import sync

PREFIX: Final = ".jwt-server-draft-"

NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
"""How file systems without them answer, those of memory sticks for one."""


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """An empty file of mode 0600, to be filled and then moved to `path`; gone at the end.

    Raises DatabaseUnavailable for what fails inside.
    """
    with failures_named(path):
        folder, lock = _locked_folder(path.parent)
        try:
            file = folder / path.name
            file.touch(mode=0o600, exist_ok=False)
            yield file
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


@contextmanager
def failures_named(path: Path) -> Iterator[None]:
    """Raise DatabaseUnavailable, which says that `path` can't be made, for a fault of the disk."""
    try:
        yield
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"{path} can't be made: {error}.") from error
    except OSError as error:
        raise DatabaseUnavailable(f"{path} can't be made: {error.strerror}.") from error


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """A new folder and the lock on it, with those of killed processes cleared away."""
    lock = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # else a new folder could be taken for an old one
        for left in parent.glob(f"{PREFIX}*"):
            _clear_away(left)
        folder = Path(mkdtemp(prefix=PREFIX, dir=parent))
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(held, fcntl.LOCK_EX)
    finally:
        os.close(lock)
    return folder, held


def _clear_away(folder: Path) -> None:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # somebody is at work in there
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def publish(file: Path, path: Path) -> None:
    """Let the draft appear at `path`, to stay there whatever happens to the machine.

    Raises DatabaseUnavailable where there is something already.
    """
    sync(file)
    try:
        path.hardlink_to(file)
    except FileExistsError:
        raise already_there(path) from None
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        if os.path.lexists(path):
            raise already_there(path) from None
        file.rename(path)
    sync(path.parent)


def already_there(path: Path) -> DatabaseUnavailable:
    """What to raise where nothing may be overwritten."""
    return DatabaseUnavailable(
        f"{path} is there already: give another name, or move it away first."
    )
