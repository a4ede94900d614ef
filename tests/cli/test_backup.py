"""`flask backup` and `flask restore`."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from jwt_server import sqlite as our_sqlite
from jwt_server.config import Settings
from jwt_server.database import Database
from jwt_server.sqlite import SCHEMA_VERSION
from jwt_server.web.service import EXTENSION
from tests.helpers.app import Clock, MakeApp
from tests.helpers.databases import (
    FIRST_RELEASE,
    create_database,
    file_of,
    is_intact,
    query,
    run_scripts,
)
from tests.helpers.factories import CREDENTIALS, add_user, bearer_of, everything

DAY = 24 * 60 * 60


class Commands:
    """Runs each command with a database connection of its own, as a process would."""

    def __init__(self, app: Flask) -> None:
        self.app = app

    def __call__(self, *command: str | Path) -> tuple[int, str]:
        done = self.app.test_cli_runner().invoke(args=[str(word) for word in command])
        self.app.extensions[EXTENSION].database.close()
        return done.exit_code, done.output


@pytest.fixture
def run(make_app: MakeApp) -> Commands:
    return Commands(make_app())


@pytest.fixture
def path(settings: Settings, clock: Clock) -> Path:
    """A database with the demo user, signed in, that no process has open."""
    create_database(file_of(settings), int(clock()))
    return file_of(settings)


@pytest.fixture
def file(run: Commands, path: Path) -> Path:
    """A backup of it."""
    made = path.with_name("backups") / "first.db"
    made.parent.mkdir()
    assert run("backup", made)[0] == 0
    return made


def rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    with closing(Database(path)) as database, database.connection() as db:
        return everything(db)


def seqs(path: Path) -> dict[str, int]:
    return dict(query(path, "SELECT name, seq FROM sqlite_sequence"))


def add(path: Path, *names: str) -> None:
    with closing(Database(path)) as database, database.connection() as db:
        for name in names:
            add_user(db, name, password_hash="*")


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_backup_is_one_private_file_with_every_row(
    run: Commands, path: Path, tmp_path: Path
) -> None:
    file = tmp_path / "there" / "x.db"
    file.parent.mkdir()

    code, output = run("backup", file)

    assert (code, output) == (
        0, f"Backed up: {file} ({file.stat().st_size} bytes, 1 users, 2023-11-14T22:13:20Z)\n",
    )  # fmt: skip
    assert listed(file.parent) == ["x.db"]  # no log, no temporary file
    assert mode(file) == 0o600
    assert rows(file) == rows(path)
    assert seqs(file) == seqs(path)
    for mark in ("application_id", "user_version"):
        assert query(file, f"PRAGMA {mark}") == query(path, f"PRAGMA {mark}")
    assert is_intact(file)


def test_backup_contains_no_deleted_rows(run: Commands, path: Path, tmp_path: Path) -> None:
    add(path, *(f"gone-{number}" for number in range(200)))
    with closing(sqlite3.connect(path)) as driver, driver:
        driver.execute("PRAGMA secure_delete = OFF")  # SQLite's default; Debian's build has it on
        driver.execute("DELETE FROM users WHERE username LIKE 'gone-%'")

    run("backup", tmp_path / "x.db")

    assert b"gone-100" in path.read_bytes()
    assert b"gone-" not in (tmp_path / "x.db").read_bytes()


def test_backup_contains_committed_rows_of_the_log_and_waits_for_no_writer(
    run: Commands, path: Path, tmp_path: Path
) -> None:
    with closing(Database(path)) as database, database.connection() as db:
        add_user(db, "ada", password_hash="*")
        assert path.with_name("test.db-wal").stat().st_size > 0
        with db.transaction():
            add_user(db, "not yet", password_hash="*")

            assert run("backup", tmp_path / "x.db")[0] == 0  # waits for no writer

    assert [user["username"] for user in rows(tmp_path / "x.db")["users"]] == ["travis", "ada"]


@pytest.mark.parametrize("kind", ["a file", "a folder", "a link", "the database", "its log"])
def test_backup_replaces_no_file(run: Commands, path: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "x"
    if kind == "a file":
        file.write_text("kept")
    elif kind == "a folder":
        file.mkdir()
    elif kind == "a link":
        file.symlink_to("nowhere")
    else:
        file = path if kind == "the database" else path.with_name("test.db-wal")
    before, content = listed(tmp_path), path.read_bytes()

    code, output = run("backup", file)

    assert code == 1
    assert output.startswith(f"Error: {file} ")
    assert "choose another name" in output
    assert listed(tmp_path) == before
    assert path.read_bytes() == content


def test_backup_into_a_missing_folder_is_refused(run: Commands, path: Path, tmp_path: Path) -> None:
    file = tmp_path / "none" / "x.db"

    assert run("backup", file) == (
        1,
        f"Error: {file} can't be written: No such file or directory.\n",
    )


@pytest.mark.parametrize("kind", ["missing", "older", "damaged"])
def test_backup_of_an_unusable_database_is_refused(
    run: Commands, path: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "missing":
        path.unlink()
    elif kind == "older":
        run_scripts(path, "PRAGMA user_version = 1")
    else:
        add(path, *(f"user-{number}" for number in range(500)))
        path.write_bytes(spoiled(path.read_bytes()))

    code, output = run("backup", tmp_path / "x.db")

    why = {"missing": "No database at", "older": "has schema version 1", "damaged": "is malformed"}
    assert code == 1
    assert why[kind] in output
    assert ".tmp-" not in output
    assert listed(path.parent) == ([] if kind == "missing" else ["test.db"])
    assert listed(tmp_path) == []


def spoiled(content: bytes) -> bytes:
    """A database with a broken page in the middle."""
    middle = len(content) // 8192 * 4096
    return content[:middle] + b"\xff" * 4096 + content[middle + 4096 :]


def test_backup_on_a_full_disk_leaves_no_file(run: Commands, path: Path, tmp_path: Path) -> None:
    add(path, *(f"user-{number}" for number in range(2000)))
    folder = tmp_path / "there"
    folder.mkdir()
    script = (
        "import resource, signal, sys; from pathlib import Path;"
        "from jwt_server.backup import take;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536));"
        "take(Path(sys.argv[1]), Path(sys.argv[2]))"
    )

    done = process(script, path, folder / "x.db").communicate(timeout=60)

    assert f"{folder / 'x.db'} can't be written: " in done[1]
    assert listed(folder) == []


def process(script: str, *words: str | Path) -> subprocess.Popen[str]:
    """Python in a process of its own, so that it can be killed."""
    shown = f"import sys\ntry:\n {script}\nexcept Exception as e: sys.exit(e.cause)"
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-c", shown, *(str(word) for word in words)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(Path(our_sqlite.__file__).parent.parent)},
    )  # fmt: skip


def test_restore_brings_back_every_row_and_ends_the_sessions(
    run: Commands, path: Path, file: Path, clock: Clock
) -> None:
    before = rows(path)
    add(path, "later")
    clock.advance(DAY)

    code, output = run("restore", file)

    kept = path.with_name("test.db.replaced-2023-11-15T221320Z")
    assert (code, output) == (
        0,
        f"Kept: {kept} is the old database\nRestored: {path} (1 users, sessions ended: 1)\n",
    )
    after = rows(path)
    now = int(clock())
    assert after.pop("sessions") == [
        row | {"ended_at": now, "expires_at": now} for row in before.pop("sessions")
    ]
    assert after == before
    told = "SELECT action, actor_id, address, details FROM audit ORDER BY id DESC LIMIT 1"
    assert query(path, told) == [("database_restored", None, None, '{"sessions_ended": 1}')]
    assert [user["username"] for user in rows(kept)["users"]] == ["travis", "later"]
    assert listed(path.parent) == ["backups", "test.db", kept.name]  # no log, no temporary file
    assert (mode(path), mode(kept)) == (0o600, 0o600)
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    assert is_intact(path)


def test_restore_without_a_database_creates_it(run: Commands, path: Path, file: Path) -> None:
    before = rows(path)["users"]
    path.unlink()

    code, output = run("restore", file)

    assert code == 0
    assert "Kept" not in output
    assert rows(path)["users"] == before
    assert listed(path.parent) == ["backups", "test.db"]


def test_restore_does_not_change_the_backup(run: Commands, path: Path, file: Path) -> None:
    content, status = file.read_bytes(), file.stat()

    run("restore", file)

    assert file.read_bytes() == content
    assert file.stat().st_mtime_ns == status.st_mtime_ns
    assert listed(file.parent) == [file.name]


def test_restore_ends_sessions_under_a_clock_that_is_ahead(
    run: Commands, path: Path, file: Path, clock: Clock
) -> None:
    token_now = int(clock())
    with closing(Database(path)) as database, database.connection() as db:
        header = bearer_of(db, 1, token_now)
    file.unlink()
    run("backup", file)
    clock.advance(2**34)
    run("restore", file)
    clock.advance(-(2**34))

    answer = run.app.test_client().get("/my-pets", headers=header)

    assert answer.status_code == 403
    assert {row["ended_at"] is None for row in rows(path)["sessions"]} == {False}


def test_restore_upgrades_a_backup_of_an_older_release(
    run: Commands, path: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old.db"
    run_scripts(old, FIRST_RELEASE)

    code, _ = run("restore", old)

    assert code == 0
    assert query(path, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert query(old, "PRAGMA user_version") == [(1,)]
    answer = run.app.test_client().post("/auth", data=CREDENTIALS)
    assert answer.status_code == 200


def changed(content: bytes, kind: str) -> bytes:
    return {
        "garbage": b"this is not a database, but longer than its header\n" * 300,
        "empty": b"",
        "another": content[:68] + b"mine" + content[72:],
        "newer": content[:60] + (99).to_bytes(4, "big") + content[64:],
        "truncated": content[: len(content) // 8192 * 4096],
        "a page": spoiled(content),
        "the schema": content[:100] + b"\xff" * 3996 + content[4096:],
    }[kind]


def spoil_file(file: Path, path: Path, kind: str) -> Path:
    """Replace a backup by something else; return its name."""
    if kind == "dangling":
        run_scripts(file, "PRAGMA foreign_keys = OFF", "UPDATE pets SET user_id = 77")
    elif kind == "open":
        file.with_name(f"{file.name}-wal").write_bytes(b"x")
    elif kind == "missing":
        file.unlink()
    elif kind == "a folder":
        return file.parent
    elif kind in {"a symlink", "a hard link"}:
        file.unlink()
        (file.symlink_to if kind == "a symlink" else file.hardlink_to)(path)
    else:
        file.write_bytes(changed(file.read_bytes(), kind))
    return file


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("garbage", "file is not a database"),
        ("empty", "is not a database of this service"),
        ("another", "is not a database of this service"),
        ("newer", "has schema version 99"),
        ("truncated", "database disk image is malformed"),
        ("a page", "is damaged: "),
        ("the schema", "database disk image is malformed"),
        ("dangling", "is damaged: a row of pets refers to a row that does not exist"),
        ("open", "is in use, or was not closed"),
        ("missing", "is not a file"),
        ("a folder", "is not a file"),
        ("a symlink", "is the database itself"),
        ("a hard link", "is the database itself"),
    ],
)
def test_restore_of_an_unusable_file_is_refused_and_changes_nothing(
    run: Commands, path: Path, file: Path, kind: str, why: str
) -> None:
    spoilt = spoil_file(file, path, kind)
    before, beside = path.read_bytes(), (listed(path.parent), listed(file.parent))

    code, output = run("restore", spoilt)

    assert code == 1
    assert why in output
    assert output.startswith("Error: ")
    assert ".tmp-" not in output
    assert path.read_bytes() == before
    assert (listed(path.parent), listed(file.parent)) == beside


ENDLESS = "WITH RECURSIVE x (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM x) SELECT * FROM x"
PROMOTE = "BEGIN UPDATE users SET admin = 1; END"


@pytest.mark.parametrize(
    ("script", "change"),
    [
        (f'CREATE TRIGGER "a\x1b[2J" AFTER INSERT ON sessions {PROMOTE}',
         r"trigger 'a\x1b[2J'"),
        (f"CREATE TRIGGER b AFTER INSERT ON yoyo_lock {PROMOTE}", "trigger 'b'"),
        (f"CREATE VIEW everything AS {ENDLESS}", "view 'everything'"),
        (f"DROP TABLE pets; CREATE VIEW pets AS {ENDLESS}", "index 'pets_of_user'"),
        ("CREATE VIRTUAL TABLE words USING fts4 (x)", "table 'words'"),
        ("DROP TABLE IF EXISTS _yoyo_log; CREATE TABLE _yoyo_log (a REFERENCES users (id))",
         "table '_yoyo_log'"),
        ("ALTER TABLE users ADD COLUMN x ANY AS (hex(id))", "table 'users'"),
        ("CREATE INDEX more ON users (hex(username))", "index 'more'"),
        ("DROP INDEX pets_of_user", "index 'pets_of_user'"),
        ("CREATE INDEX more ON users (username); PRAGMA writable_schema = ON;"  # and is not run
         "UPDATE sqlite_master SET sql = 'CREATE INDEX more ON users (hex(username))'"
         " WHERE name = 'more'", "index 'more'"),
        ("DROP INDEX enabled_admins; CREATE INDEX enabled_admins ON users (admin)",
         "index 'enabled_admins'"),
    ],
)  # fmt: skip
def test_restore_of_a_changed_schema_is_refused_and_changes_nothing(
    run: Commands, path: Path, file: Path, script: str, change: str
) -> None:
    run_scripts(file, "CREATE TABLE yoyo_lock (locked INT)", "PRAGMA foreign_keys = OFF", script)
    before, beside = path.read_bytes(), listed(path.parent)

    code, output = run("restore", file)

    assert (code, output) == (
        1,
        f"Error: {file} can't be trusted: {change} is not as this service makes it.\n",
    )
    assert (path.read_bytes(), listed(path.parent)) == (before, beside)


def test_restore_of_an_older_release_with_a_trigger_is_refused(
    run: Commands, path: Path, tmp_path: Path
) -> None:
    file = tmp_path / "old.db"
    run_scripts(file, FIRST_RELEASE, f"CREATE TRIGGER a AFTER UPDATE ON users {PROMOTE}")

    assert run("restore", file) == (
        1, f"Error: {file} can't be trusted: trigger 'a' is not as this service makes it.\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    "script", ["ANALYZE", "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)"]
)
def test_restore_accepts_what_other_programs_leave(
    run: Commands, path: Path, file: Path, script: str
) -> None:
    run_scripts(file, script)

    assert run("restore", file)[0] == 0


def test_restore_of_the_database_itself_is_refused(run: Commands, path: Path) -> None:
    assert run("restore", path) == (1, f"Error: {path} is the database itself.\n")


def test_restore_follows_a_link_to_a_backup(run: Commands, path: Path, file: Path) -> None:
    latest = file.with_name("latest.db")
    latest.symlink_to(file.name)

    assert run("restore", latest)[0] == 0
    assert latest.is_symlink()


def test_restore_keeps_the_database_a_link(run: Commands, path: Path, file: Path) -> None:
    real = path.rename(path.with_name("real.db"))
    path.symlink_to(real.name)

    assert run("restore", file)[0] == 0

    assert path.is_symlink()
    assert listed(path.parent)[1:3] == ["real.db", "real.db.replaced-2023-11-14T221320Z"]
    assert is_intact(real)


def test_restore_by_root_keeps_the_owner(run: Commands, path: Path, file: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, 4711, 4712)

    run("restore", file)

    assert (path.stat().st_uid, path.stat().st_gid) == (4711, 4712)


def test_restore_reuses_no_id_of_the_backup_or_the_old_database(
    run: Commands, path: Path, file: Path, clock: Clock
) -> None:
    run_scripts(path, "UPDATE sqlite_sequence SET seq = 9999999999999 WHERE name = 'pets'")

    run("restore", file)

    first = int(clock()) * 1000
    assert seqs(path) == {
        "users": first,
        "pets": 9999999999999 + 1_000_000,
        "sessions": first,
        "audit": first + 1,  # the row of the restore
    }


@pytest.mark.parametrize("kind", ["missing", "garbage", "empty", "a page"])
def test_restore_over_a_lost_database_advances_the_ids(
    run: Commands, path: Path, file: Path, clock: Clock, kind: str
) -> None:
    clock.advance(DAY)
    if kind == "a page":
        add(path, *(f"user-{number}" for number in range(500)))
        path.write_bytes(spoiled(path.read_bytes()))
    elif kind == "garbage":
        path.write_text("this is not a database any more\n" * 300)
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()

    code, _ = run("restore", file)

    assert code == 0
    assert seqs(path)["users"] == int(clock()) * 1000
    assert is_intact(path)


def test_second_restore_of_a_backup_reuses_no_id_of_the_first(
    run: Commands, path: Path, file: Path, clock: Clock
) -> None:
    path.unlink()
    run("restore", file)
    add(path, *(f"user-{number}" for number in range(100)))
    handed_out = seqs(path)["users"]
    path.unlink()
    clock.advance(1)

    run("restore", file)

    assert seqs(path)["users"] > handed_out


def test_ids_advance_by_a_million_at_least_and_at_most_to_the_highest_id(
    run: Commands, path: Path, file: Path, clock: Clock
) -> None:
    run_scripts(path, "UPDATE sqlite_sequence SET seq = 999999999999999990 WHERE name = 'pets'")
    file.unlink()
    run("backup", file)
    path.unlink()
    clock.advance(-int(clock()))  # a clock that starts at 1970

    run("restore", file)

    assert seqs(path) == {
        "users": 1_000_001,
        "pets": 10**18 - 1,
        "sessions": 1_000_001,
        "audit": 1_000_002,
    }


def test_backup_and_restore_work_without_hard_links(
    run: Commands, path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)

    assert run("restore", file)[0] == 0
    assert run("backup", file.with_name("second.db"))[0] == 0
    assert is_intact(path)
    assert listed(path.parent) == ["backups", "test.db", "test.db.replaced-2023-11-14T221320Z"]


@pytest.mark.parametrize("there", [True, False])
def test_restore_leaves_no_log_beside_the_restored_database(
    run: Commands, path: Path, file: Path, *, there: bool
) -> None:
    if there:
        path.write_text("this is not a database any more\n" * 300)
    else:
        path.unlink()
    for log in ("-wal", "-journal", "-shm"):
        path.with_name(f"test.db{log}").write_text(log)

    code, _ = run("restore", file)

    assert code == 0
    assert [name for name in listed(path.parent) if name.startswith("test.db-")] == []
    if not there:  # else SQLite has taken the logs for its own, and they were none
        kept = path.with_name("test.db.replaced-2023-11-14T221320Z-wal")
        assert kept.read_text() == "-wal"
    assert is_intact(path)


def test_restore_keeps_what_a_killed_server_had_in_its_log(
    run: Commands, path: Path, file: Path
) -> None:
    killed = process(
        "import os, sqlite3; d = sqlite3.connect(sys.argv[1], isolation_level=None);"
        'd.execute("UPDATE users SET username = \'late\'"); os._exit(9)',
        path,
    )  # fmt: skip
    killed.communicate(timeout=60)
    assert path.with_name("test.db-wal").stat().st_size > 0

    run("restore", file)

    kept = path.with_name("test.db.replaced-2023-11-14T221320Z")
    assert listed(path.parent) == ["backups", "test.db", kept.name]
    assert [user["username"] for user in rows(kept)["users"]] == ["late"]


def test_process_that_opened_the_replaced_file_cannot_write(
    run: Commands, path: Path, file: Path
) -> None:
    """Between the opening of a file and its first read SQLite holds no lock."""
    with closing(sqlite3.connect(path)) as late:
        run("restore", file)
        before = path.read_bytes()

        assert late.execute("SELECT username FROM users").fetchall() == [("travis",)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            late.execute("UPDATE users SET username = 'lost'")

    assert path.read_bytes() == before
    assert listed(path.parent)[1:] == ["test.db", "test.db.replaced-2023-11-14T221320Z"]


def test_restore_is_refused_while_a_process_has_the_database_open(
    run: Commands, path: Path, file: Path
) -> None:
    holder = process(
        "import sqlite3; d = sqlite3.connect(sys.argv[1]);"
        "d.execute('SELECT * FROM users').fetchall(); print('open', flush=True); sys.stdin.read()",
        path,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    try:
        before = listed(path.parent)

        code, output = run("restore", file)

        assert (code, listed(path.parent)) == (1, before)
        assert output.endswith(" is in use: stop the service first.\n")
    finally:
        holder.kill()
        holder.communicate()
    assert run("restore", file)[0] == 0


def test_two_restores_within_a_second_keep_both_databases(
    run: Commands, path: Path, file: Path
) -> None:
    run("restore", file)
    run("restore", file)

    assert [name.partition("Z")[2] for name in listed(path.parent)[2:]] == ["", "-1"]


def test_check_switches_write_ahead_logging_on_again(path: Path) -> None:
    run_scripts(path, "PRAGMA journal_mode = DELETE")

    our_sqlite.check(path)

    assert query(path, "PRAGMA journal_mode") == [("wal",)]
