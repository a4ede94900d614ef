"""How many workers there are by default: one per core, within the CPU quota."""

from __future__ import annotations

from pathlib import Path

import pytest

from jwt_server import cpus
from jwt_server.config import load_settings
from jwt_server.cpus import usable_cpus
from tests.helpers.server import BASE_ENVIRONMENT


@pytest.fixture
def cgroups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of control groups without a group, on a machine of eight cores."""
    monkeypatch.setattr(cpus, "CGROUPS", tmp_path)
    monkeypatch.setattr(cpus, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(cpus, "usable_cores", lambda: list(range(8)))
    return tmp_path


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        # In a container, and as a unit of systemd.
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "1600000 100000"}, 8),
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b", {"a/cpu.max": "max 100000", "a/b/cpu.max": "400000 100000"}, 4),
        # Unreadable: not text, a folder, and a line of another form.
        ("0::/a", {"cpu.max": "300000 100000", "a/cpu.max": "\ud8ff"}, 3),
        ("0::/a", {"cpu.max": "300000 100000", "a/cpu.max/x": ""}, 3),
        ("0\n0::/", {"cpu.max": "300000 100000"}, 3),
        ("\ud8ff", {"cpu.max": "300000 100000"}, 8),
        # With a group of version 1; nothing; no Linux.
        ("5:memory:/x\n0::/", {"cpu.max": "600000 100000"}, 6),
        ("0::/", {"cpu.max": "garbage"}, 8),
        ("0::/", {"cpu.max": "100000 0"}, 8),
        ("0::/", {}, 8),
        (None, {}, 8),
    ],
)  # fmt: skip
def test_the_cpu_quota_limits_the_cores_that_count(
    cgroups: Path, own: str | None, files: dict[str, str], expected: int
) -> None:
    if own is not None:
        (cgroups / "own").write_text(f"{own}\n", errors="surrogatepass")
    for name, text in files.items():
        (cgroups / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroups / name).write_text(text, errors="surrogatepass")

    assert usable_cpus() == expected


@pytest.mark.parametrize(
    ("variables", "workers", "hash_concurrency"),
    [
        ({}, 8, 1),
        ({"WEB_CONCURRENCY": "5"}, 5, 1),
        ({"WEB_CONCURRENCY": "5", "WORKERS": "3"}, 3, 2),
        ({"WORKERS": "1"}, 1, 8),
        ({"WORKERS": "512"}, 512, 1),
    ],
    ids=str,
)
def test_each_core_has_a_worker_by_default_and_hashes_one_password(
    cgroups: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    workers: int,
    hash_concurrency: int,
) -> None:
    for name, value in (BASE_ENVIRONMENT | variables).items():
        monkeypatch.setenv(name, value)

    settings = load_settings()

    assert (settings.workers, settings.hash_concurrency) == (workers, hash_concurrency)
