"""Files that appear whole or not at all, and survive a power cut."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import Final

NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""Errors of file systems without hard links, as on shared folders and memory sticks."""

ABANDONED_SECONDS: Final = 24 * 60 * 60
"""A temporary file that nobody has written for this long was left by a killed process."""


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield an empty file of mode 0600 in the folder of `path`; removed unless published.

    Raises OSError.
    """
    prefix = f".{path.name}."
    for left in path.parent.glob(f"{prefix}*.tmp*"):
        with suppress(FileNotFoundError):
            if left.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                left.unlink()
    descriptor, name = mkstemp(prefix=prefix, suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def publish(temporary: Path, path: Path, *, replace: bool) -> None:
    """Move a temporary file to `path` atomically, once its content is on the disk.

    Raises FileExistsError unless `replace`, and OSError.
    """
    sync(temporary)
    if replace:
        temporary.replace(path)
    else:
        try:
            path.hardlink_to(temporary)  # unlike a rename, this fails if `path` exists
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
            temporary.rename(path)
    sync(path.parent)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600, replace: bool = True) -> None:
    """Write a file that appears whole or not at all.

    Raises FileExistsError unless `replace`, and OSError.
    """
    with temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        temporary.chmod(mode)
        publish(temporary, path, replace=replace)


def bundled(name: str) -> Path:
    """Return the path of schema.sql or seed.sql.

    They stand at the top of a checkout; the package build puts them beside the modules (setup.py).
    """
    package = Path(__file__).parent
    return next(path for path in (package / name, package.parent / name) if path.exists())
