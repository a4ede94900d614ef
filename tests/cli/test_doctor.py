"""`flask doctor` on SQLite: every problem that it finds, in a service with it and without it.

On PostgreSQL only test_doctor_postgresql.py runs it, because the clusters of other tests lose
commits in a crash, and their clocks differ.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from jwt_server import audit
from jwt_server.app import create_app
from jwt_server.audit import Action, Actor
from jwt_server.cli import doctor
from jwt_server.cli.doctor import CHECKS, GUESSABLE
from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from jwt_server.web.service import Service
from tests.helpers.app import Clock, MakeApp
from tests.helpers.databases import create_database, file_of
from tests.helpers.doctor import Report, examine_service
from tests.helpers.factories import JWT_SECRET, SECRET_KEY, add_user, spoil

SECRET_KEYS = (secrets.token_urlsafe(48).encode(),)
JWT_SECRETS = (secrets.token_urlsafe(48).encode(),)
GOOD: dict[str, Any] = {"secret_keys": SECRET_KEYS, "jwt_secrets": JWT_SECRETS, "salt_rounds": 10}
PUBLIC = {"host": "0.0.0.0", "cors_origins": ("https://app.example.com",)}


Examine = Callable[..., Report]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a local disk, whatever this one has."""
    monkeypatch.setattr(doctor, "MOUNTS", Path("/nowhere"))


@pytest.fixture(scope="module")
def shared_app() -> Flask:
    return create_app(Settings(database=Path("unused.db"), **GOOD))


@pytest.fixture
def examine(shared_app: Flask, settings: Settings, clock: Clock) -> Examine:
    """Run the command on a service with good settings except for `changes`."""
    file_of(settings)

    def run(**changes: Any) -> Report:
        report = examine_service(shared_app, Service(replace(settings, **GOOD | changes), clock))
        assert list(report.levels) == list(CHECKS)
        for secret in (*SECRET_KEYS, *JWT_SECRETS, SECRET_KEY, JWT_SECRET):
            assert secret.decode() not in report.text
        return report

    return run


@pytest.fixture
def healthy(settings: Settings, clock: Clock) -> Path:
    """A database without a problem: it has an admin, and only its owner can read it."""
    create_database(file_of(settings), int(clock()))
    with closing(sqlite3.connect(settings.database)) as driver, driver:
        driver.execute("UPDATE users SET username = 'ada', username_key = 'ada', admin = 1")
    return file_of(settings)


def test_a_healthy_service_has_no_problems(healthy: Path, examine: Examine) -> None:
    report = examine()

    assert (report.exit_code, report.problems) == (0, {})


def test_text_output_has_a_line_per_finding_and_its_advice(
    make_app: MakeApp, database: Database
) -> None:
    done = make_app(host="0.0.0.0").test_cli_runner().invoke(args=["doctor"])

    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert "ok       database" in lines
    at = next(number for number, line in enumerate(lines) if "as travis" in line)
    assert lines[at].startswith("UNSAFE   users      Anyone can sign in")
    assert lines[at + 1] == f"{'':<20}users delete travis"


@pytest.mark.parametrize("kind", ["missing", "no database", "empty", "another", "older", "newer"])
def test_an_unusable_database(healthy: Path, examine: Examine, kind: str) -> None:
    if kind == "missing":
        healthy.unlink()
    else:
        spoil(healthy, kind)
        healthy.chmod(0o600)

    report = examine()

    skipped = {"users": {"note"}, "audit log": {"note"}}
    assert report.problems == {"database": {"UNSAFE"}} | skipped
    assert report.exit_code == 1


def test_a_damaged_database(healthy: Path, examine: Examine) -> None:
    with closing(sqlite3.connect(healthy)) as driver, driver:
        driver.execute("INSERT INTO pets (user_id, name, created_at) VALUES (77, 'Rex', 0)")

    assert examine().problems == {"database": {"UNSAFE"}}


@pytest.mark.parametrize(
    ("script", "change"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON sessions BEGIN DELETE FROM audit; END", "trigger 't'"),
        ("PRAGMA ignore_check_constraints = ON;"  # a check that fails shows that it is run
         "ALTER TABLE users ADD COLUMN x INT DEFAULT 1 CHECK (x IS NOT 1)", "table 'users'"),
    ],
)  # fmt: skip
def test_a_changed_schema(healthy: Path, examine: Examine, script: str, change: str) -> None:
    with closing(sqlite3.connect(healthy)) as driver:
        driver.executescript(script)

    report = examine()

    assert report.problems == {"database": {"UNSAFE"}}
    assert f"{change} is not as" in report.text


@pytest.mark.parametrize(
    ("changes", "level", "exit_code"),
    [
        ({}, "WARNING", 0),
        (PUBLIC, "UNSAFE", 1),
        ({"host": "unix:/x", "trusted_proxies": 1}, "UNSAFE", 1),
        ({"trusted_proxies": 1}, "UNSAFE", 1),
    ],
)
@pytest.mark.usefixtures("database")
def test_the_demo_user(
    examine: Examine, changes: dict[str, Any], level: str, exit_code: int
) -> None:
    report = examine(**changes)

    assert level in report.levels["users"]
    assert report.exit_code == exit_code


def test_a_demo_user_with_another_password_is_no_problem(
    database: Database, db: Connection, examine: Examine
) -> None:
    db.driver.execute("DELETE FROM users")
    add_user(db, "travis", "correct horse")

    assert examine(**PUBLIC).levels["users"] == {"note"}  # there is no admin


def test_a_service_without_an_enabled_admin(healthy: Path, examine: Examine) -> None:
    with closing(sqlite3.connect(healthy)) as driver, driver:
        driver.execute("UPDATE users SET disabled = 1")

    report = examine()

    assert (report.problems, report.exit_code) == ({"users": {"note"}}, 0)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"secret_keys": (b"a" * 40,)}, "SECRET_KEY can be guessed"),
        ({"jwt_secrets": (JWT_SECRET,)}, "JWT_SECRET can be guessed"),
        (
            {"secret_keys": (*SECRET_KEYS, b"0123456789" * 4)},
            "SECRET_KEY_PREVIOUS can be guessed",
        ),
        ({"jwt_secrets": SECRET_KEYS}, "are the same"),
    ],
)  # fmt: skip
def test_secrets_that_are_unsafe(
    healthy: Path, examine: Examine, changes: dict[str, Any], text: str
) -> None:
    report = examine(**changes)

    assert (report.problems["secrets"], report.exit_code) == ({"UNSAFE"}, 1)
    assert text in report.text


@pytest.mark.parametrize(
    "make",
    [
        lambda: secrets.token_urlsafe(24).encode(),
        lambda: secrets.token_hex(16).encode(),
        lambda: secrets.token_hex(32).encode(),
        lambda: secrets.token_bytes(32),
        lambda: b"Kp7-vX2 qL9_tR4 wZ8.bN3 mJ6,cH5 xx",
    ],
)
def test_random_secrets_pass(make: Callable[[], bytes]) -> None:
    guessable = [GUESSABLE.search(make()) for _ in range(200)]

    assert sum(each is not None for each in guessable) <= 1  # a word may occur by chance


@pytest.mark.parametrize(
    "secret",
    [
        b"your-256-bit-secret-your-256-bit", b"changeme" * 4, b"abcdefgh" * 5,
        b"the quick brown fox jumps over the dog", b"0" * 64, b"ab" * 30,
        b"my super secret key for the tokens of 2026",
    ],
)  # fmt: skip
def test_typed_secrets_are_weak(secret: bytes) -> None:
    assert GUESSABLE.search(secret)


def leave_roots_group(path: Path) -> None:
    """Give a file to another group than root's, whose members may write."""
    if os.getuid() == 0:
        os.chown(path, -1, 1)


def test_files_that_others_can_read(
    healthy: Path, examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "instance").mkdir(mode=0o700)
    secret, previous = tmp_path / "secret", tmp_path / "previous"
    monkeypatch.setenv("JWT_SECRET_FILE", str(secret))
    monkeypatch.setenv("SECRET_KEY_PREVIOUS_FILE", str(previous))
    files = [
        tmp_path / "instance" / "secret_key", secret, previous, tmp_path / ".env",
        healthy, healthy.with_name("test.db.replaced-2026"),
    ]  # fmt: skip
    for path in files:
        path.touch()
        path.chmod(0o600)
        leave_roots_group(path)
    assert examine().problems == {}

    modes = [(0o640, "WARNING"), (0o604, "UNSAFE"), (0o620, "UNSAFE"), (0o602, "UNSAFE")]
    for path, (mode, level) in zip(files, cycle(modes), strict=False):
        path.chmod(mode)
        report = examine()
        path.chmod(0o600)

        assert report.problems == {"files": {level}}, (path, mode)
        named = re.findall(r"chmod 600 ([^\s\"]+?)(?:-wal|-shm)?\"", report.text)
        assert {Path(each).name for each in named} == {path.name}


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    """The service's folder, of a group that is not root's."""
    folder = tmp_path / "instance"
    folder.mkdir()
    leave_roots_group(folder)
    return folder


def test_folders_that_others_can_write_to(healthy: Path, examine: Examine, instance: Path) -> None:
    instance.chmod(0o755)
    assert examine().problems == {}

    instance.chmod(0o775)
    report = examine()

    assert report.problems == {"files": {"UNSAFE"}}
    assert f"chmod 700 {instance}" in report.text


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to root's group")
def test_the_group_of_root_may_write(healthy: Path, examine: Examine, instance: Path) -> None:
    for path, mode in ((instance, 0o2770), (healthy, 0o620)):
        os.chown(path, -1, 0)
        path.chmod(mode)
    assert examine().problems == {}  # users of OpenShift are in it

    instance.chmod(0o772)
    assert examine().problems == {"files": {"UNSAFE"}}


def test_nobody_can_write_to_a_folder_that_is_mounted_read_only(
    healthy: Path, examine: Examine, instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = dict.fromkeys(("f_bavail", "f_bfree", "f_blocks", "f_frsize"), 1 << 20)
    mounted_read_only = SimpleNamespace(f_flag=os.ST_RDONLY, **space)
    instance.chmod(0o1777)  # as Kubernetes mounts secrets
    monkeypatch.setattr(os, "statvfs", lambda _path: mounted_read_only)

    assert examine().problems == {}


def test_a_check_that_is_not_permitted_is_a_warning(
    healthy: Path, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> None:
        raise PermissionError("Not permitted")

    monkeypatch.setattr(shutil, "disk_usage", refuse)

    report = examine()

    assert (report.problems, report.exit_code) == ({"disk": {"WARNING"}}, 0)
    assert "Not permitted" in report.text


@pytest.mark.parametrize(
    ("free", "level"), [(127 << 20, "UNSAFE"), (128 << 20, "WARNING"), (129 << 20, "ok")]
)
def test_a_disk_that_is_nearly_full(
    healthy: Path, examine: Examine, monkeypatch: pytest.MonkeyPatch, free: int, level: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))

    report = examine()

    assert report.levels["disk"] == {level}
    assert report.exit_code == (1 if level == "UNSAFE" else 0)


FILE_SYSTEMS = {
    "ok": "ext2 ext3 ext4 xfs btrfs zfs f2fs overlay apfs hfs hfsplus ntfs3 fuseblk",
    "UNSAFE": """nfs nfs4 cifs smb3 9p afs ceph glusterfs lustre virtiofs grpcfuse fakeowner vboxsf
        vmhgfs fuse.sshfs fuse.gcsfuse fuse.s3fs fuse.glusterfs fuse.vmhgfs-fuse fuse.grpcfuse
        fuse.rclone""",
    "WARNING": "tmpfs ramfs newfs ext5 nfs4x",
}


@pytest.mark.parametrize("level", FILE_SYSTEMS)
def test_file_systems_that_are_not_known_to_be_local_are_named(
    healthy: Path, examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(doctor, "MOUNTS", mounts)
    for kind in FILE_SYSTEMS[level].split():
        mounts.write_text(
            "22 1 0:999999 / / rw,relatime - nfs4 server:/ rw\n"
            f"30 22 {os.major(device)}:{os.minor(device)} / /srv rw shared:1 - {kind} x rw\n"
        )
        report = examine()

        assert report.levels["disk"] == {level}, kind
        assert report.exit_code == (1 if level == "UNSAFE" else 0)
        assert (f" is on {kind}, " in report.text) is (level != "ok")


def test_an_unknown_mount_is_no_problem(healthy: Path, examine: Examine) -> None:
    assert examine().levels["disk"] == {"ok"}  # there is no list of mounts on macOS


def record_sign_ins(db: Connection, addresses: list[str | None], now: int) -> None:
    for user_id, address in enumerate(addresses, 1):
        audit.record(db, Actor(user_id, address, now), Action.SIGNED_IN, user_id)


@pytest.mark.parametrize(
    ("addresses", "trusted", "level"),
    [
        (["127.0.0.1", "127.0.0.1"], 0, "WARNING"),
        (["10.0.0.7"] * 9, 0, "WARNING"),
        (["::1", "::1"], 0, "WARNING"),
        (["127.0.0.1"], 0, "ok"),
        (["127.0.0.1", "10.0.0.7"], 0, "ok"),
        (["8.8.8.8", "8.8.8.8"], 0, "ok"),
        ([], 0, "ok"),
        (["127.0.0.1", "127.0.0.1"], 1, "WARNING"),
        (["", ""], 1, "WARNING"),
        ([None, "127.0.0.1", "127.0.0.1"], 1, "WARNING"),
        ([None, None], 1, "ok"),
    ],
)
def test_a_proxy_that_hides_the_clients(
    db: Connection, examine: Examine, clock: Clock, addresses: list[str | None], trusted: int,
    level: str,
) -> None:  # fmt: skip
    record_sign_ins(db, addresses, int(clock()))

    assert examine(trusted_proxies=trusted).levels["audit log"] == {level}


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"salt_rounds": 4}, "WARNING"),
        ({"signup": "open"}, "note"),
        # A proxy that clients can bypass.
        (PUBLIC | {"trusted_proxies": 1}, "WARNING"),
        (PUBLIC | {"trusted_proxies": 2, "host": "auth.example.com"}, "WARNING"),
        (PUBLIC, "ok"),
        (PUBLIC | {"trusted_proxies": 1, "host": "127.0.0.1"}, "ok"),
        (PUBLIC | {"trusted_proxies": 1, "host": "unix:/run/x"}, "ok"),
        # Metrics that others can read.
        ({"metrics_host": "0.0.0.0"}, "WARNING"),
        ({"metrics_host": "::"}, "WARNING"),
        ({"metrics_host": "0.0.0.0", "metrics_port": 0}, "ok"),
        ({"metrics_host": "::1"}, "ok"),
        ({"metrics_host": "localhost"}, "ok"),
        # Any origin.
        ({"host": "0.0.0.0"}, "WARNING"),
        ({"trusted_proxies": 1}, "WARNING"),
    ],
)
def test_settings_that_are_allowed_but_unwise(
    healthy: Path, examine: Examine, changes: dict[str, Any], level: str
) -> None:
    report = examine(**changes)

    assert (report.levels["settings"], report.exit_code) == ({level}, 0)


def test_missing_keys(healthy: Path, examine: Examine, tmp_path: Path) -> None:
    report = examine(jwt_algorithm="EdDSA", jwt_keys_dir=tmp_path / "none")

    assert report.problems == {"secrets": {"UNSAFE"}}
    assert report.exit_code == 1
