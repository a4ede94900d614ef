"""Files as the disk has them: which one a path stands for, what room is left, what would survive a
power cut. Of the database it knows the names of its files, and nothing of what is in them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from jwt_server.errors import DatabaseUnavailable

RESERVED_BYTES: Final = 16 * 1024 * 1024
"""The room in the write-ahead log that is taken ahead. A quarter may be in use, as SQLite writes it
back at 4 MiB, if it can; the rest is for some 270 sign-outs of 45 KiB, with their audit rows."""

LEFT_BYTES: Final = 8 * 1024 * 1024
"""Where the disk has less left, nothing is written any more but what can't wait."""


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
    """Have the disk hold what a file, or a folder, holds."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def bundled(name: str) -> Path:
    """Return the path of schema.sql or seed.sql.

    They stand at the top of a checkout; the package build puts them beside the modules (setup.py).
    """
    package = Path(__file__).parent
    return next(path for path in (package / name, package.parent / name) if path.exists())
