"""`make run`: what it creates on a fresh clone, and what it leaves alone."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from jwt_server.__main__ import (
    create_database,
    create_key,
    create_secrets,
    main,
    print_how_to_sign_in,
)
from jwt_server.config import load_settings
from jwt_server.database import Connection, Database
from jwt_server.security.passwords import hash_password, verify_password
from jwt_server.users import users
from tests.helpers import processes
from tests.helpers.databases import cluster, file_of
from tests.helpers.http import send_to_server
from tests.helpers.server import ROOT, Server, wait_for
from tests.helpers.terminal import run_at_terminal
from tests.helpers.waiting import free_port

# Not on macOS, or not in all of its versions.
MISSING_ON_MACOS = """\
import os, select
for name in (
    "sched_getaffinity", "sched_setaffinity", "posix_fallocate", "posix_fadvise", "pipe2",
    "memfd_create", "eventfd", "splice", "copy_file_range", "getrandom", "pidfd_open", "fdatasync",
    "setresuid", "getresuid", "O_TMPFILE",
):
    vars(os).pop(name, None)
vars(select).pop("epoll", None)
"""

CREATE_DATABASE = """\
import os
del os.environ["DATABASE_URL"]
from jwt_server.__main__ import create_database, create_secrets
from jwt_server.config import load_settings
create_secrets()
create_database(load_settings())
"""

# For the process that is forked; the gunicorn that replaces it imports sitecustomize.py itself.
ON_MACOS = f"""{MISSING_ON_MACOS}
import runpy
runpy.run_module("jwt_server", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALT_ROUNDS", "4")


@pytest.fixture(autouse=True)
def own_signal_handlers() -> Iterator[None]:
    """Undo what `main` sets."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_generated_once_into_private_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_secrets()
    files = sorted((tmp_path / "instance").iterdir())
    before = [path.read_text() for path in files]
    printed = capsys.readouterr().out
    create_secrets()

    assert [path.name for path in files] == ["jwt_secret", "secret_key"]
    assert printed.splitlines() == ["Created instance/secret_key", "Created instance/jwt_secret"]
    assert [mode(path) for path in files] == [0o600, 0o600]
    assert mode(tmp_path / "instance") == 0o700
    assert [path.read_text() for path in files] == before
    assert len(set(before)) == 2
    assert load_settings().jwt_secrets == (before[0].encode(),)


def test_a_secret_that_is_set_is_not_generated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"JWT_SECRET={'s' * 32}\n")
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / ".env"))

    create_secrets()

    assert list((tmp_path / "instance").iterdir()) == []
    assert load_settings().jwt_secrets == (b"s" * 32,)


@contextmanager
def opened(path: Path) -> Iterator[Connection]:
    with closing(Database(path)) as database, database.connection() as db:
        yield db


def test_the_database_is_created_once_with_the_demo_user(
    capsys: pytest.CaptureFixture[str],
) -> None:
    create_secrets()
    settings = load_settings()
    create_database(settings)
    print_how_to_sign_in(settings)
    first = capsys.readouterr().out
    with opened(file_of(settings)) as db:
        db.driver.execute("DELETE FROM pets")
    create_database(settings)
    print_how_to_sign_in(settings)

    with opened(file_of(settings)) as db:
        assert db.driver.execute("SELECT 1 FROM pets").fetchone() is None
    for printed in (first, capsys.readouterr().out):
        assert "username=travis&password=mypassword" in printed
        assert "http://localhost:3000/my-pets" in printed


@pytest.mark.parametrize(("typed", "is_admin"), [("", True), ("YES", True), ("n", False)])
def test_a_new_database_gets_its_first_admin_at_a_terminal(
    tmp_path: Path, typed: str, is_admin: bool
) -> None:
    exit_code, displayed = run_at_terminal(
        tmp_path, [typed], sys.executable, "-c", CREATE_DATABASE, prompt="[Y/n]"
    )

    assert exit_code == 0
    found = re.search(r"Password +(\S+)   \(shown only now\)", displayed)
    assert ("http://localhost:3000/admin/" in displayed) == is_admin == bool(found)
    with opened(tmp_path / "instance" / "jwt-server.db") as db:
        admin = users.find_by_name(db, "admin")
        if found is None:
            assert admin is None
        else:
            assert admin is not None
            assert (admin["admin"], admin["password_expires_at"]) == (1, None)
            assert verify_password(found[1], admin["password_hash"], 4)


def test_the_end_of_input_at_the_question_makes_no_admin(tmp_path: Path) -> None:
    exit_code, displayed = run_at_terminal(
        tmp_path, ["\4"], sys.executable, "-c", CREATE_DATABASE, prompt="[Y/n]"
    )

    assert (exit_code, "Password" in displayed) == (0, False)


def instance(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "instance").iterdir())


def test_a_killed_run_leaves_no_partial_database(tmp_path: Path) -> None:
    """The database appears with the demo user or not at all, so that the next run creates it."""
    variables = {"SALT_ROUNDS": "31", "PORT": str(free_port())}
    streams = (None, tmp_path / "output", tmp_path / "output")
    process = processes.start(tmp_path, variables, streams, "jwt_server")
    deadline = time.monotonic() + 30
    while not list((tmp_path / "instance").glob(".jwt-server.db.tmp-*-wal")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()  # while it hashes the demo user's password
    process.wait(timeout=60)

    assert not (tmp_path / "instance" / "jwt-server.db").exists()
    create_secrets()
    create_database(load_settings())
    with opened(file_of(load_settings())) as db:
        assert db.driver.execute("SELECT 1 FROM pets").fetchone()


def test_a_stopped_run_deletes_its_temporary_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(users, "add_demo_user", stop)
    monkeypatch.setenv("PORT", str(free_port()))
    with pytest.raises(SystemExit):
        main()

    assert instance(tmp_path) == ["jwt_secret", "secret_key"]


def test_concurrent_runs_agree_on_the_secrets(tmp_path: Path) -> None:
    (tmp_path / "instance").mkdir(mode=0o755)
    barrier = threading.Barrier(6)
    loaded = []

    def start() -> None:
        barrier.wait(timeout=120)
        create_secrets()
        loaded.append(load_settings())

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({settings.jwt_secrets for settings in loaded}) == 1
    assert len({settings.secret_keys[0] for settings in loaded}) == 1
    assert mode(tmp_path / "instance") == 0o700
    assert instance(tmp_path) == ["jwt_secret", "secret_key"]


def test_there_is_no_demo_user_where_others_can_connect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")
    create_secrets()
    settings = load_settings()

    create_database(settings)
    print_how_to_sign_in(settings)

    with opened(file_of(settings)) as db:
        assert db.driver.execute("SELECT 1 FROM users").fetchone() is None
    printed = capsys.readouterr()
    assert "travis" not in printed.out + printed.err


def test_a_demo_user_that_others_can_use_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    create_secrets()
    settings = load_settings()
    create_database(settings)
    public = replace(settings, host="0.0.0.0")
    capsys.readouterr()

    print_how_to_sign_in(public)
    assert "WARNING: Others can reach 0.0.0.0:3000" in capsys.readouterr().err

    with opened(file_of(settings)) as db:
        db.driver.execute("UPDATE users SET password_hash = ?", (hash_password("better", 4),))
    print_how_to_sign_in(public)
    assert capsys.readouterr() == ("", "")
    print_how_to_sign_in(settings)
    assert "make seed" in capsys.readouterr().out


def test_another_database_is_not_created(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/mine.db")
    monkeypatch.setenv("PORT", str(free_port()))

    with pytest.raises(SystemExit, match="init-db"):
        main()

    assert not (tmp_path / "mine.db").exists()


def test_an_empty_postgresql_database_is_not_filled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "execv", lambda *_: None)
    monkeypatch.setenv("PORT", str(free_port()))
    monkeypatch.setenv("METRICS_PORT", "0")
    url = cluster().create_database("run")
    monkeypatch.setenv("DATABASE_URL", url)
    with closing(Database(url)) as database:
        with pytest.raises(SystemExit, match="has no tables: the command `init-db` makes them"):
            main()
        database.engine.create()
        main()
        assert "make seed" in capsys.readouterr().out
        with database.connection() as db:
            users.add_demo_user(db, 4, 0)
        main()

    assert "token=$(curl" in capsys.readouterr().out
    cluster().drop_database("run")


def test_a_wrong_setting_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "http")

    with pytest.raises(SystemExit, match=r"^PORT: .+$"):
        main()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_newcomers_run_with_a_busy_port_is_one_line_that_says_what_to_set(
    tmp_path: Path, host: str
) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as other:
        port = other.getsockname()[1]
        done = processes.run(tmp_path, {"PORT": str(port)}, "jwt_server")

    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"PORT: Can't listen on {'[::1]' if ':' in host else host}:{port} ")
    assert re.search(r"such as PORT=\d+\.$", line)
    assert "curl" not in done.stdout
    assert instance(tmp_path) == ["jwt_secret", "secret_key"]


def test_an_address_of_another_machine_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "192.0.2.1")

    with pytest.raises(SystemExit, match=r"^HOST: Can't listen on 192\.0\.2\.1:3000 .+$"):
        main()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_taken_metrics_port_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    monkeypatch.setattr(os, "execv", lambda *_: None)
    monkeypatch.setenv("METRICS_HOST", host)
    monkeypatch.setenv("PORT", str(free_port()))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("METRICS_PORT", str(port))
        main()

    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("WARNING: No metrics. METRICS_PORT: Can't listen on ")
    assert os.environ["METRICS_PORT"] == "0"
    monkeypatch.setenv("METRICS_PORT", str(port))
    main()
    assert capsys.readouterr().err == ""
    assert os.environ["METRICS_PORT"] == str(port)


@pytest.mark.parametrize("algorithm", ["EdDSA", "HS256"])
def test_the_first_key_is_created_if_there_must_be_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, algorithm: str
) -> None:
    monkeypatch.setenv("JWT_ALGORITHM", algorithm)
    create_secrets()

    for _ in range(2):
        create_key(load_settings())

    keys = list((tmp_path / "instance").glob("jwt_keys/*.pem"))
    assert len(keys) == (1 if algorithm == "EdDSA" else 0)


def test_it_runs_the_server_on_linux_and_again_without_what_macos_lacks(tmp_path: Path) -> None:
    macos = tmp_path / "macos"
    macos.mkdir()
    (macos / "sitecustomize.py").write_text(MISSING_ON_MACOS)
    (tmp_path / "on_macos.py").write_text(ON_MACOS)
    token = ""
    for is_macos in (False, True):
        port, metrics = free_port(), free_port()
        log = tmp_path / f"log-{is_macos}"
        path = f"{macos}:{ROOT}" if is_macos else str(ROOT)
        variables = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "PORT": str(port),
                     "METRICS_PORT": str(metrics), "SALT_ROUNDS": "4", "WORKERS": "1"}  # fmt: skip
        module = "on_macos" if is_macos else "jwt_server"
        process = processes.start(tmp_path, variables, (None, log, log), module)
        try:
            wait_for(port, process, log)
            server = Server("127.0.0.1", metrics, process, log)
            assert send_to_server(server, "GET", "/metrics").status == 200
            commands = [line for line in log.read_text().splitlines() if "curl" in line]
            script = "\n".join(commands) if not token else f"token={token}\n{commands[1]}"
            pasted = subprocess.run(  # noqa: S603 - what the server told us to paste
                ["/bin/sh", "-c", f"{script}\necho $token"],
                capture_output=True,
                text=True,
                check=True,
            )
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)
        pets, token = pasted.stdout.split()
        assert pets == '[{"name":"Bunny","species":"dog"},{"name":"Ru","species":"cat"}]'
