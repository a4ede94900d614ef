"""What `make run` makes on a fresh clone, and what it leaves alone."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jwt_server.__main__ import (
    main,
    make_database,
    make_key,
    make_secrets,
    opened,
    tell_how_to_sign_in,
)
from jwt_server.config import load_settings
from jwt_server.security.passwords import hash_password
from tests.helpers.server import ROOT, free_port, wait_for


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALT_ROUNDS", "4")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_in_private_files(tmp_path: Path) -> None:
    make_secrets()
    files = sorted((tmp_path / "instance").iterdir())
    before = [path.read_text() for path in files]
    make_secrets()

    assert [path.name for path in files] == ["jwt_secret", "secret_key"]
    assert [mode(path) for path in files] == [0o600, 0o600]
    assert mode(tmp_path / "instance") == 0o700
    assert [path.read_text() for path in files] == before
    assert len(set(before)) == 2
    assert load_settings().jwt_secrets == (before[0].encode(),)


def test_a_secret_that_is_set_is_not_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"JWT_SECRET={'s' * 32}\n")
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / ".env"))

    make_secrets()

    assert list((tmp_path / "instance").iterdir()) == []
    assert load_settings().jwt_secrets == (b"s" * 32,)


def test_a_fresh_database_has_demo_data_on_loopback(capsys: pytest.CaptureFixture[str]) -> None:
    make_secrets()
    settings = load_settings()
    make_database(settings)
    tell_how_to_sign_in(settings)
    first = capsys.readouterr().out
    with opened(settings.database) as db:
        db.driver.execute("DELETE FROM pets")
    make_database(settings)
    tell_how_to_sign_in(settings)

    with opened(settings.database) as db:
        assert db.driver.execute("SELECT 1 FROM pets").fetchone() is None
    for printed in (first, capsys.readouterr().out):
        assert "username=travis&password=mypassword" in printed
        assert "http://127.0.0.1:3000/my-pets" in printed


def started(folder: Path, **settings: str) -> subprocess.Popen[bytes]:
    """`make run`, as far as hashing the demo user's password, which takes long at these costs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jwt_server"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **settings},
    )
    deadline = time.monotonic() + 20
    while not list((folder / "instance").glob(".draft-*/jwt-server.db-wal")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_killed_in_the_middle_it_leaves_nothing_half_made(tmp_path: Path) -> None:
    """The database appears with its demo data or not at all, so the next run makes it."""
    process = started(tmp_path, SALT_ROUNDS="31")
    process.kill()
    process.wait()
    instance = tmp_path / "instance"

    assert not (instance / "jwt-server.db").exists()
    make_secrets()
    make_database(load_settings())
    with opened(load_settings().database) as db:
        assert db.driver.execute("SELECT 1 FROM pets").fetchone()


def test_stopped_in_the_middle_it_clears_its_drafts_away(tmp_path: Path) -> None:
    process = started(tmp_path, SALT_ROUNDS="14")
    process.terminate()
    process.wait(timeout=60)

    assert sorted(path.name for path in (tmp_path / "instance").iterdir()) == [
        "jwt_secret",
        "secret_key",
    ]


def test_what_a_killed_run_left_goes_when_it_is_old(tmp_path: Path) -> None:
    for name in (".draft-old", ".draft-new"):
        (tmp_path / "instance" / name).mkdir(parents=True)
    os.utime(tmp_path / "instance" / ".draft-old", (0, 0))

    make_secrets()

    assert not (tmp_path / "instance" / ".draft-old").exists()
    assert (tmp_path / "instance" / ".draft-new").exists()


def test_two_at_once_agree_on_the_secrets(tmp_path: Path) -> None:
    (tmp_path / "instance").mkdir(mode=0o755)
    barrier = threading.Barrier(6)
    loaded = []

    def start() -> None:
        barrier.wait(timeout=10)
        make_secrets()
        loaded.append(load_settings())

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({settings.jwt_secrets for settings in loaded}) == 1
    assert len({settings.secret_keys[0] for settings in loaded}) == 1
    assert mode(tmp_path / "instance") == 0o700


def test_no_demo_data_where_others_can_connect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")
    make_secrets()
    settings = load_settings()

    make_database(settings)
    tell_how_to_sign_in(settings)

    with opened(settings.database) as db:
        assert db.driver.execute("SELECT 1 FROM users").fetchone() is None
    printed = capsys.readouterr()
    assert "travis" not in printed.out + printed.err


def test_demo_data_that_others_could_use_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_secrets()
    make_database(load_settings())
    monkeypatch.setenv("HOST", "0.0.0.0")
    settings = load_settings()
    capsys.readouterr()

    make_database(settings)
    tell_how_to_sign_in(settings)
    assert "WARNING: others can reach 0.0.0.0:3000" in capsys.readouterr().err

    with opened(settings.database) as db:
        db.driver.execute("UPDATE users SET password_hash = ?", (hash_password("better", 4),))
    make_database(settings)
    tell_how_to_sign_in(settings)
    assert capsys.readouterr() == ("", "")
    monkeypatch.delenv("HOST")
    tell_how_to_sign_in(load_settings())
    assert "make seed" in capsys.readouterr().out


def test_another_database_is_not_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/mine.db")

    with pytest.raises(SystemExit, match="init-db"):
        main()

    assert not (tmp_path / "mine.db").exists()


def test_a_wrong_setting_stops_it_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "http")

    with pytest.raises(SystemExit, match=r"^PORT: 'http' is not a whole number"):
        main()


def test_it_becomes_the_server_and_serves_again_after_a_restart(tmp_path: Path) -> None:
    token = ""
    for _ in range(2):
        port = free_port()
        log = tmp_path / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "jwt_server"],
                cwd=tmp_path,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PORT": str(port),
                     "METRICS_PORT": "0", "SALT_ROUNDS": "4"},
                stdout=output,
                stderr=output,
            )  # fmt: skip
        try:
            wait_for(port, process, log)
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
            process.wait(timeout=30)
        pets, token = pasted.stdout.split()
        assert pets == '[{"name":"Bunny","species":"dog"},{"name":"Ru","species":"cat"}]'


@pytest.mark.parametrize("algorithm", ["EdDSA", "HS256"])
def test_a_first_key_is_made_where_there_must_be_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, algorithm: str
) -> None:
    monkeypatch.setenv("JWT_ALGORITHM", algorithm)
    make_secrets()

    for _ in range(2):
        make_key(load_settings())

    keys = list((tmp_path / "instance").glob("jwt_keys/*.pem"))
    assert len(keys) == (1 if algorithm == "EdDSA" else 0)
