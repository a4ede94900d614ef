"""Which process serves a database, and what has become of its reloads: a small file beside it.

The file is locked for as long as the arbiter lives. So whoever finds it unlocked knows that its
process id is of the past, whatever process may have that now.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

MOST_LETTERS: Final = 4000
"""of a reason's end."""

MOST_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Note:
    """What stands there."""

    pid: int
    reloads: int = 0
    """How many have been tried, done or refused."""
    refusal: str = ""
    """Why the last one was refused."""


def place(database: Path) -> Path:
    """Where the note on a database's service is."""
    return Path(f"{database}.pid")


def claim(database: Path) -> int | None:
    """Say that this process serves it; the open file, which holds the lock.

    None where another process does, or nothing can be written there: then `flask reload` can't find
    this one.
    """
    with suppress(OSError):
        file = os.open(place(database), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(file, Note(os.getpid()))
        except OSError:
            os.close(file)
            raise
        return file
    return None


def note_reload(file: int | None, refusal: str = "") -> None:
    """Count one more reload, which was refused where there is a reason."""
    if file is None:
        return
    with suppress(OSError):  # the disk is full: who asked waits in vain, and the service goes on
        before = _read(file) or Note(os.getpid())
        _write(file, Note(os.getpid(), before.reloads + 1, refusal[-MOST_LETTERS:]))


def _write(file: int, note: Note) -> None:
    os.pwrite(file, json.dumps(asdict(note)).encode().ljust(os.fstat(file).st_size), 0)


def _read(file: int) -> Note | None:
    """What stands there; None where that is no note, as it was spoiled or is just being written."""
    try:
        told = json.loads(os.pread(file, MOST_BYTES, 0))
        return Note(int(told["pid"]), int(told["reloads"]), str(told["refusal"]))
    except (ValueError, TypeError, KeyError):
        return None


def find(database: Path) -> Note | None:
    """The note on a database's service; None where none runs, or none is to be found.

    Raises OSError where that can't be seen.
    """
    try:
        file = os.open(place(database), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(file) or _read(file)
    finally:
        os.close(file)
    return None
