"""`flask doctor`: each thing that it finds, found and not found, by the command itself."""

from __future__ import annotations

import json
import os
import re
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from jwt_server import audit, doctor, places
from jwt_server import sqlite as our_sqlite
from jwt_server.audit import Action, Actor
from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from jwt_server.doctor import CHECKS, Level
from jwt_server.strength import weakness
from tests.helpers.app import Clock, MakeApp
from tests.helpers.disks import small_disk
from tests.helpers.factories import JWT_SECRET, SECRET_KEY, add_user, spoil
from tests.helpers.server import flask

GOOD = {
    "secret_keys": (secrets.token_urlsafe(48).encode(),),
    "jwt_secrets": (secrets.token_urlsafe(48).encode(),),
    "salt_rounds": 12,
}
HARMLESS = {"clock", "SQLite"}
"""What depends on the machine that the tests run on."""


@dataclass
class Found:
    """What the command has said."""

    exit_code: int
    levels: dict[str, set[str]]
    text: str


Examine = Callable[..., Found]


@pytest.fixture
def examine(make_app: MakeApp, tmp_path: Path) -> Examine:
    """Have the doctor look at a service of good settings but for some."""

    def run(**changes: Any) -> Found:
        app = make_app(**GOOD | changes)
        done = app.test_cli_runner().invoke(args=["doctor", "--json"])
        levels: dict[str, set[str]] = {}
        for line in done.output.splitlines():
            finding = json.loads(line)
            levels.setdefault(finding["check"], set()).add(finding["level"])
        assert set(levels) == set(CHECKS)  # each check, whatever has come of the others
        for each in (*GOOD["secret_keys"], *GOOD["jwt_secrets"], SECRET_KEY, JWT_SECRET):  # type: ignore[misc]
            assert each.decode() not in done.output
        return Found(done.exit_code, levels, done.output)

    return run


@pytest.fixture
def healthy(settings: Settings, clock: Clock) -> Path:
    """A database with an admin and nothing amiss; readable by its owner alone."""
    our_sqlite.create(settings.database)
    with closing(Database(settings.database)) as database, database.connection() as db:
        add_user(db, "ada")
        db.driver.execute("UPDATE users SET admin = 1")
    return settings.database


def bad(found: Found) -> dict[str, set[str]]:
    """What is not in order, but for what this machine may lack."""
    return {
        check: levels for check, levels in found.levels.items()
        if levels != {"ok"} and check not in HARMLESS
    }  # fmt: skip


def test_a_healthy_service_is_in_order(healthy: Path, examine: Examine) -> None:
    found = examine()

    assert bad(found) == {}
    assert found.exit_code == 0
    assert "UNSAFE" not in found.text


def test_people_get_a_line_a_check_and_what_to_do(make_app: MakeApp, database: Database) -> None:
    done = make_app(host="0.0.0.0").test_cli_runner().invoke(args=["doctor"])

    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert "ok       database" in lines
    at = next(number for number, line in enumerate(lines) if "demo user" in line)
    assert lines[at].startswith("UNSAFE   demo user  Anybody can sign in as travis")
    assert lines[at + 1] == f"{'':<20}users delete travis"


@pytest.mark.parametrize("kind", ["missing", "no database", "empty", "another", "older", "newer"])
def test_a_database_that_can_not_be_used(healthy: Path, examine: Examine, kind: str) -> None:
    if kind == "missing":
        healthy.unlink()
    else:
        spoil(healthy, kind)

    found = examine()

    level = "WARNING" if kind == "missing" else "UNSAFE"
    assert bad(found)["database"] == {level}
    assert bad(found)["demo user"] == bad(found)["admins"] == {"note"}
    assert found.exit_code == (0 if kind == "missing" else 1)


def test_a_damaged_database(healthy: Path, examine: Examine) -> None:
    with closing(sqlite3.connect(healthy)) as driver, driver:
        driver.execute("INSERT INTO pets (user_id, name, created_at) VALUES (77, 'Rex', 0)")

    found = examine()

    assert bad(found) == {"database": {"UNSAFE"}}
    assert "a row of pets belongs to nobody" in found.text


PUBLIC = {"host": "0.0.0.0", "cors_origins": ("https://app.example.com",)}


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
    found = examine(**changes)

    assert (found.levels["demo user"], found.exit_code) == ({level}, exit_code)


def test_a_demo_user_with_another_password_is_anybody(
    database: Database, db: Connection, examine: Examine
) -> None:
    db.driver.execute("DELETE FROM users")
    add_user(db, "travis", "correct horse")

    assert examine(**PUBLIC).levels["demo user"] == {"ok"}


def test_nobody_who_may_administer(healthy: Path, examine: Examine) -> None:
    with closing(sqlite3.connect(healthy)) as driver, driver:
        driver.execute("UPDATE users SET disabled = 1")

    found = examine()

    assert (bad(found), found.exit_code) == ({"admins": {"note"}}, 0)


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({"secret_keys": (b"a" * 40,)}, "UNSAFE", "SECRET_KEY can be guessed: of its 40 bytes"),
        ({"jwt_secrets": (b"my super secret key for the tokens of 2026",)}, "UNSAFE", "a word"),
        ({"jwt_secrets": (JWT_SECRET,)}, "UNSAFE", "JWT_SECRET can be guessed"),
        (
            {"secret_keys": (*GOOD["secret_keys"], b"0123456789" * 4)},  # type: ignore[misc]
            "UNSAFE", "SECRET_KEY_PREVIOUS can be guessed: it repeats itself",
        ),
        ({"jwt_secrets": GOOD["secret_keys"]}, "UNSAFE", "are the same"),
        ({"secret_keys": GOOD["secret_keys"] * 2}, "note", "among its SECRET_KEY_PREVIOUS"),  # type: ignore[operator]
    ],
)  # fmt: skip
def test_secrets_that_are_none(
    healthy: Path, examine: Examine, changes: dict[str, Any], level: str, text: str
) -> None:
    found = examine(**changes)

    assert bad(found)["secrets"] == {level}
    assert found.exit_code == (1 if level == "UNSAFE" else 0)
    assert text in found.text


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
    found = [weakness(make()) for _ in range(200)]

    assert sum(each is not None for each in found) <= 1  # chance may write a word


@pytest.mark.parametrize(
    "secret",
    [
        b"your-256-bit-secret-your-256-bit", b"changeme" * 4, b"abcdefgh" * 5,
        b"the quick brown fox jumps over the dog", b"0" * 64, b"ab" * 30, b"11112222333344445555",
    ],
)  # fmt: skip
def test_what_people_type_does_not(secret: bytes) -> None:
    assert weakness(secret) is not None


def test_files_that_others_can_read(
    healthy: Path, examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "instance").mkdir(mode=0o700)
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("JWT_SECRET_FILE", str(elsewhere))
    named = {
        tmp_path / "instance" / "secret_key": "a secret",
        elsewhere: "a secret",
        tmp_path / ".env": "the settings",
        keys / "1-x.pem": "a private key",
        healthy: "names",
        healthy.with_name("test.db.replaced-2026"): "names",
    }
    for path in named:
        path.touch()
        path.chmod(0o600)
    assert bad(examine(jwt_keys_dir=keys)) == {}

    levels = {0o604: "UNSAFE", 0o640: "WARNING", 0o620: "UNSAFE", 0o602: "UNSAFE"}
    for (path, what), (mode, level) in product(named.items(), levels.items()):
        path.chmod(mode)
        found = examine(jwt_keys_dir=keys)
        path.chmod(0o600)

        assert bad(found) == {"files": {level}}, (path, mode)
        assert what in found.text
        assert found.text.count("chmod 600") == 1
        assert re.search(rf"chmod 600 \S*{re.escape(path.name)}\b", found.text)


def test_folders_that_others_can_write_to(healthy: Path, examine: Examine, tmp_path: Path) -> None:
    folder = tmp_path / "instance"
    folder.mkdir()
    folder.chmod(0o755)
    assert bad(examine()) == {}

    folder.chmod(0o775)
    found = examine()

    assert bad(found) == {"files": {"UNSAFE"}}
    assert f"chmod 700 {folder}" in found.text


@pytest.mark.parametrize(
    ("filled", "level"),
    [(0, "ok"), (300, "UNSAFE"), (235, "WARNING")],
)
def test_a_disk_that_is_nearly_full(
    make_app: MakeApp, examine: Examine, tmp_path: Path, filled: int, level: str
) -> None:
    with small_disk(tmp_path / "disk", megabytes=400) as folder:
        folder.chmod(0o700)
        our_sqlite.create(folder / "test.db")
        with (folder / "other").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, filled << 20))
        with closing(sqlite3.connect(folder / "test.db")) as driver, driver:
            driver.execute("CREATE TABLE filler AS SELECT zeroblob(?) AS x", (20 << 20,))
        found = examine(database=folder / "test.db")

    assert found.levels["disk"] == {level}
    assert found.exit_code == (1 if level == "UNSAFE" else 0)


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:25 / /srv rw - nfs4 server:/srv rw,vers=4.2
31 30 0:26 / /srv/local\\040disk rw - xfs /dev/vdb rw
32 22 0:27 / /mnt rw shared:1 - cifs //server/x rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/x.db", None),
        ("/srv/x.db", "nfs4"),
        ("/srv/local disk/x.db", None),
        ("/srvice/x.db", None),
        ("/mnt/a/b/x.db", "cifs"),
    ],
)
def test_a_disk_over_the_network(tmp_path: Path, path: str, kind: str | None) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)

    assert places.network_file_system(Path(path), mounts) == kind
    assert places.network_file_system(Path(path), tmp_path / "none") is None  # not Linux


def test_a_clock_that_was_set_back(healthy: Path, examine: Examine, clock: Clock) -> None:
    with closing(Database(healthy)) as database, database.connection() as db:
        audit.record(db, Actor(1, "192.0.2.1", int(clock())), Action.SIGNED_IN, 1)
    assert "UNSAFE" not in examine().levels["clock"]
    clock.advance(-60)

    found = examine()

    assert "UNSAFE" in found.levels["clock"]
    assert found.exit_code == 1
    assert "60 s behind" in found.text


@pytest.mark.parametrize("is_set", [True, False])
def test_a_clock_that_nobody_sets(
    healthy: Path, examine: Examine, monkeypatch: pytest.MonkeyPatch, is_set: bool
) -> None:
    # The kernel of the machine that the tests run on is as it is.
    monkeypatch.setattr(doctor, "clock_is_set", lambda: is_set)

    assert examine().levels["clock"] == ({"ok"} if is_set else {"WARNING"})


def test_the_kernel_can_be_asked_for_its_clock() -> None:
    assert doctor.clock_is_set() in {True, False}


def sign_ins(path: Path, addresses: list[str], now: int) -> None:
    with closing(Database(path)) as database, database.connection() as db:
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
        (["127.0.0.1", "127.0.0.1"], 1, "ok"),
    ],
)
def test_a_proxy_that_nobody_told_us_of(
    healthy: Path, examine: Examine, clock: Clock, addresses: list[str], trusted: int, level: str
) -> None:
    sign_ins(healthy, addresses, int(clock()))

    assert examine(trusted_proxies=trusted).levels["proxies"] == {level}


@pytest.mark.parametrize(
    ("host", "trusted", "level"),
    [
        ("0.0.0.0", 1, "WARNING"),
        ("auth.example.com", 2, "WARNING"),
        ("0.0.0.0", 0, "ok"),
        ("127.0.0.1", 1, "ok"),
        ("unix:/run/x", 1, "ok"),
    ],
)
def test_a_proxy_that_can_be_gone_round(
    healthy: Path, examine: Examine, host: str, trusted: int, level: str
) -> None:
    assert examine(host=host, trusted_proxies=trusted).levels["proxies"] == {level}


@pytest.mark.parametrize(
    ("host", "port", "level"),
    [
        ("127.0.0.1", 9464, "ok"), ("::1", 9464, "ok"), ("localhost", 9464, "ok"),
        ("0.0.0.0", 0, "ok"), ("0.0.0.0", 9464, "WARNING"), ("::", 9464, "WARNING"),
    ],
)  # fmt: skip
def test_figures_that_others_can_read(
    healthy: Path, examine: Examine, host: str, port: int, level: str
) -> None:
    assert examine(metrics_host=host, metrics_port=port).levels["metrics"] == {level}


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "ok"),
        ({"host": "0.0.0.0"}, "WARNING"),
        ({"trusted_proxies": 1}, "WARNING"),
        ({"trusted_proxies": 1, "cors_origins": ("https://app.example.com",)}, "ok"),
    ],
)
def test_any_origin_in_production(
    healthy: Path, examine: Examine, changes: dict[str, Any], level: str
) -> None:
    assert examine(**changes).levels["origins"] == {level}


@pytest.mark.parametrize(
    ("version", "faulty"),
    [
        ((3, 6, 23), False), ((3, 7, 0), True), ((3, 40, 1), True), ((3, 44, 5), True),
        ((3, 44, 6), False), ((3, 44, 7), False), ((3, 45, 3), True), ((3, 50, 6), True),
        ((3, 50, 7), False), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 53, 0), False),
        ((4, 0, 0), False),
    ],
)  # fmt: skip
def test_an_sqlite_with_the_wal_reset_fault(
    healthy: Path, examine: Examine, monkeypatch: pytest.MonkeyPatch,
    version: tuple[int, int, int], faulty: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(our_sqlite, "VERSION", version)

    found = examine()

    assert found.levels["SQLite"] == ({"WARNING"} if faulty else {"ok"})
    assert (f"SQLite {'.'.join(map(str, version))} can" in found.text) == faulty
    assert ("3.51.3" in found.text) == faulty
    assert found.exit_code == 0


@pytest.mark.parametrize(
    ("changes", "level"), [({"salt_rounds": 4}, "WARNING"), ({"signup": "open"}, "note")]
)
def test_settings_that_are_allowed_but(
    healthy: Path, examine: Examine, changes: dict[str, Any], level: str
) -> None:
    assert bad(examine(**changes)) == {"settings": {level}}


def test_what_can_not_be_looked_at_is_told_and_the_rest_goes_on(
    healthy: Path, examine: Examine, tmp_path: Path
) -> None:
    looped = tmp_path / "keys"
    looped.symlink_to(looped)

    found = examine(jwt_keys_dir=looped)

    assert found.levels["settings"] == {"ok"}
    assert Level.UNSAFE not in found.levels["files"]


def test_wrong_settings_end_it_before(tmp_path: Path) -> None:
    done = flask(tmp_path, {"SECRET_KEY": "short", "JWT_SECRET": "short"}, "doctor")

    assert done.returncode == 3
    assert "SECRET_KEY: 5 bytes are too few" in done.stderr
