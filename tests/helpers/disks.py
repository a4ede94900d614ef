"""Real disks that are small, full or read-only, and the state of a write-ahead log."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

ON_DISK = "/var/tmp"  # noqa: S108 - a private folder is made in it
"""A folder on a disk, where those of pytest may be in memory."""


def as_root(*command: str) -> None:
    """Run a command that needs root, and privileges that containers may lack.

    Without them the test is skipped, in CI too, as nothing that could be installed would help.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    except FileNotFoundError as error:
        pytest.skip(str(error))
    if done.returncode:
        pytest.skip(f"{' '.join(command[:2])} is refused: {done.stderr.strip()}")


@contextmanager
def small_disk(folder: Path, megabytes: int = 32) -> Iterator[Path]:
    """Mount a file system in memory."""
    folder.mkdir()
    as_root("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "jwt-server-test", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S603, S607 - our own


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Fill a disk to the last byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            assert os.statvfs(disk).f_bavail == 0
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def immutable(*paths: Path) -> Iterator[None]:
    """Make files immutable, for root and for processes that have them open too."""
    names = [str(path) for path in paths]
    as_root("chattr", "+i", *names)
    try:
        yield
    finally:
        as_root("chattr", "-i", *names)


class Log(NamedTuple):
    """The frames in use of a write-ahead log, of one page each."""

    frames: int
    written_back: int


def log_of(database: Path) -> Log:
    """Read a log's state from its index (https://www.sqlite.org/walformat.html)."""
    shared = Path(f"{database}-shm")
    if not shared.exists():
        return Log(0, 0)
    index = shared.read_bytes()
    return Log(*struct.unpack_from("=I", index, 16), *struct.unpack_from("=I", index, 96))
