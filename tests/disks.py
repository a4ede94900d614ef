"""File systems and files that can't be written, for real: what full and read-only disks are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def as_root(*command: str) -> None:
    """Run a command that only root may; without the right to, skip, but fail in CI."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode and os.environ.get("CI") != "true":
        pytest.skip(f"{' '.join(command[:2])} is refused: {done.stderr.strip()}")
    assert done.returncode == 0, f"CI must run as root that may mount and chattr: {done.stderr}"


@contextmanager
def small_disk(folder: Path, megabytes: int = 32) -> Iterator[Path]:
    """A file system of its own, in memory."""
    folder.mkdir()
    as_root("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "jwt-server-test", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S603, S607 - our own


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Not a byte left, as another program's file has taken it."""
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
    """Files that nobody can write, root and who has them open neither."""
    names = [str(path) for path in paths]
    as_root("chattr", "+i", *names)
    try:
        yield
    finally:
        as_root("chattr", "-i", *names)
