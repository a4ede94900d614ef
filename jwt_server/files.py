"""Files as the disk has them: which one a path stands for, what room is left, what would survive a
power cut. Of the database it knows the names of its files, and nothing of what is in them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EEXIST
from glob import escape
from pathlib import Path
from secrets import token_hex
from typing import Final, NamedTuple

from jwt_server.errors import DatabaseUnavailable

RESERVED_BYTES: Final = 16 * 1024 * 1024
"""The room in the write-ahead log that is taken ahead. A quarter may be in use, as SQLite writes it
back at 4 MiB, if it can; the rest is for some 270 sign-outs of 45 KiB, with their audit rows."""

LEFT_BYTES: Final = 8 * 1024 * 1024
"""Where the disk has less left, nothing is written any more but what can't wait."""


LEFT_BEHIND_SECONDS: Final = 24 * 60 * 60
"""Age at which a temporary file counts as left by a killed process."""


class FileId(NamedTuple):
    """What a path stands for right now."""

    device: int
    inode: int
    log: int
    """The inode of the write-ahead log, 0 where there is none."""
    log_index: int
    """The inode of the log's index, 0 where there is none."""


def file_id(path: Path) -> FileId:
    """What the path stands for right now; raises DatabaseUnavailable where that is nothing."""
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of pathlib's, and it is spent at each request
    except OSError as error:
        raise DatabaseUnavailable(
            f"No database at {path} ({error.strerror}): the command `init-db` makes one."
        ) from error
    log, index = _inode(f"{path}-wal"), _inode(f"{path}-shm")
    return FileId(status.st_dev, status.st_ino, log, index)


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - as above
    except OSError:
        return 0


def may_write(path: Path) -> bool:
    """Whether this process may write the database, its log and the log's index."""
    return all(os.access(f"{path}{suffix}", os.W_OK) for suffix in ("", "-wal", "-shm"))


def require_room(path: Path) -> None:
    """Raise DatabaseUnavailable where the disk has less than LEFT_BYTES left.

    Else ordinary writes would use up the room in the log that is kept for ending sessions.
    """
    try:
        disk = os.statvfs(path)
    except OSError as error:
        raise DatabaseUnavailable(f"{path} is out of reach: {error.strerror}.") from error
    left = disk.f_bavail * disk.f_frsize
    if left < LEFT_BYTES and disk.f_blocks:  # 0 where the file system does not say
        raise DatabaseUnavailable(
            f"The disk is full: {left // 1024} KiB are left at {path}, and below"
            f" {LEFT_BYTES // 1024} only the ending of sessions is written."
        )


def reserve_log(path: Path) -> None:
    """Take the log's room ahead, where there is as much, so that a full disk leaves some."""
    with suppress(OSError):
        log = os.open(f"{path}-wal", os.O_RDWR)
        try:
            if os.fstat(log).st_size < RESERVED_BYTES:
                os.posix_fallocate(log, 0, RESERVED_BYTES)  # changes nothing that is written
        finally:
            os.close(log)


def sync(path: Path) -> None:
    """Fsync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def temporary_beside(path: Path, *, mode: int = 0o600) -> Iterator[Path]:
    """Create an empty file beside `path`, to be filled and then published.

    It is deleted at the end, if it is still there. Files left by killed processes are deleted when
    they are a day old. Raises OSError.
    """
    prefix = f".{path.name}.tmp-"
    for left in path.parent.glob(f"{escape(prefix)}*"):
        with suppress(FileNotFoundError):  # another process has deleted it
            if left.stat().st_mtime < time.time() - LEFT_BEHIND_SECONDS:
                left.unlink()
    temporary = path.with_name(f"{prefix}{token_hex(8)}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    try:
        yield temporary
    finally:
        for file in path.parent.glob(f"{escape(temporary.name)}*"):  # with SQLite's log
            file.unlink(missing_ok=True)


def publish(temporary: Path, path: Path, *, replace: bool) -> None:
    """Fsync a temporary file and rename it to `path`, which is in the same folder, atomically.

    Raises FileExistsError if `path` exists and is not to be replaced, else OSError. On a file
    system without hard links, a file that appears at the same moment is replaced nevertheless.
    """
    sync(temporary)
    if replace:
        temporary.replace(path)
    else:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            raise
        except OSError as error:
            if os.path.lexists(path):
                raise FileExistsError(EEXIST, os.strerror(EEXIST), str(path)) from error
            temporary.rename(path)
    sync(path.parent)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600, replace: bool = True) -> None:
    """Write a file that is complete and on the disk when it appears at `path`, or never appears.

    Raises FileExistsError if `path` exists and is not to be replaced, else OSError.
    """
    with temporary_beside(path, mode=mode) as temporary:
        temporary.write_bytes(data)
        publish(temporary, path, replace=replace)


def bundled(name: str) -> Path:
    """Return the path of schema.sql or seed.sql.

    They stand at the top of a checkout; the package build puts them beside the modules (setup.py).
    """
    package = Path(__file__).parent
    return next(path for path in (package / name, package.parent / name) if path.exists())
