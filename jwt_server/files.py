"""Files that appear complete or not at all, and survive a power cut."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from secrets import token_hex


def sync(path: Path) -> None:
    """Fsync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Create an empty file of mode 0600 beside `path`, to be filled and then published.

    It is deleted at the end, if it is still there, unless the process is killed. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.tmp-{token_hex(8)}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield temporary
    finally:
        for file in path.parent.glob(f"{escape(temporary.name)}*"):  # with SQLite's log
            file.unlink(missing_ok=True)


def publish(temporary: Path, path: Path, *, replace: bool) -> None:
    """Fsync a temporary file and rename it to `path`, which is in the same folder, atomically.

    Raises FileExistsError if `path` exists and is not to be replaced, else OSError.
    """
    sync(temporary)
    try:
        if not replace:
            try:
                return path.hardlink_to(temporary)
            except OSError:  # it exists, or the file system has no hard links
                if os.path.lexists(path):
                    raise FileExistsError(str(path)) from None
        temporary.replace(path)
    finally:
        sync(path.parent)


def write_atomically(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write a file that is complete and on the disk when it appears at `path`.

    Raises FileExistsError if `path` exists and is not to be replaced, else OSError.
    """
    with temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        publish(temporary, path, replace=replace)


def others_can_write(path: Path) -> bool:
    """Return whether the mode lets others write; root's group, and a read-only mount, are fine."""
    status = path.stat()
    bits = 0o002 if status.st_gid == 0 else 0o022
    return bool(status.st_mode & bits) and not os.statvfs(path).f_flag & os.ST_RDONLY


def bundled(name: str) -> Path:
    """Return the path of a schema or of seed.sql.

    They stand at the top of a checkout; the package build puts them beside the modules (setup.py).
    """
    package = Path(__file__).parent
    return next(path for path in (package / name, package.parent / name) if path.exists())
