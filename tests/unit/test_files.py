"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier

import pytest

from jwt_server import files


@pytest.fixture(params=["hard links", "no hard links"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, on a file system with hard links or without."""
    if request.param == "no hard links":
        monkeypatch.setattr(os, "link", refuse_link)
    return tmp_path


def refuse_link(*_arguments: object, **_options: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("replace", [True, False])
def test_writes_a_private_file_and_leaves_no_temporary_one(folder: Path, replace: bool) -> None:
    files.write_atomically(folder / "x", b"new", replace=replace)

    assert (folder / "x").read_bytes() == b"new"
    assert stat.S_IMODE((folder / "x").stat().st_mode) == 0o600
    assert list(folder.iterdir()) == [folder / "x"]


def test_replaces_an_existing_file_only_if_told_to(folder: Path) -> None:
    files.write_atomically(folder / "x", b"old")

    with pytest.raises(FileExistsError):
        files.write_atomically(folder / "x", b"new", replace=False)
    assert (folder / "x").read_bytes() == b"old"
    files.write_atomically(folder / "x", b"new")
    assert (folder / "x").read_bytes() == b"new"
    assert list(folder.iterdir()) == [folder / "x"]


def test_of_concurrent_writers_one_wins_and_is_not_overwritten(tmp_path: Path) -> None:
    writers = [str(number).encode() for number in range(8)]
    with ThreadPoolExecutor(len(writers)) as pool:
        for round_ in range(30):
            path, barrier = tmp_path / f"{round_}", Barrier(len(writers))

            def write(data: bytes, path: Path = path, barrier: Barrier = barrier) -> bytes:
                barrier.wait(timeout=30)
                with suppress(FileExistsError):
                    files.write_atomically(path, data, replace=False)
                    return data
                return b""

            written = b"".join(pool.map(write, writers))
            assert path.read_bytes() == written


def test_a_failure_leaves_the_old_file_and_no_temporary_one(folder: Path) -> None:
    files.write_atomically(folder / "x", b"old")

    with pytest.raises(ZeroDivisionError), files.temporary_beside(folder / "x") as temporary:
        temporary.with_name(f"{temporary.name}-wal").touch()
        raise ZeroDivisionError

    assert (folder / "x").read_bytes() == b"old"
    assert list(folder.iterdir()) == [folder / "x"]
