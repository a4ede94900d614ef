"""Commands whose standard streams are full, closed, or a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
from flask import Flask
from flask.cli import ScriptInfo

from tests.helpers.databases import create_database, database_in, run_sql
from tests.helpers.server import BASE_ENVIRONMENT, environment, flask
from tests.helpers.terminal import run_at_terminal

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def where(tmp_path: Path) -> Path | str:
    """A database with the demo user, where `environment` tells processes to look for it."""
    where = database_in(tmp_path)
    create_database(where)
    return where


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on standard error, without the warnings about the tests' settings."""
    return [line for line in done.stderr.splitlines() if '"level": "WARNING"' not in line]


def stored_hash(where: Path | str) -> str:
    [[stored]] = run_sql(where, "SELECT password_hash FROM users")
    return str(stored)


def test_a_generated_password_that_can_not_be_printed_is_not_set(
    tmp_path: Path, where: Path | str
) -> None:
    before = stored_hash(where)

    done = flask(
        tmp_path, BASE_ENVIRONMENT, "users", "passwd", "travis", "--generate",
        stdout=Path("/dev/full"),
    )  # fmt: skip

    assert done.returncode == 1
    assert errors(done)[0].startswith("Error: [Errno 28] No space left on device.")
    assert stored_hash(where) == before


def test_a_closed_standard_error_does_not_stop_a_command(tmp_path: Path) -> None:
    done = flask(tmp_path, BASE_ENVIRONMENT, "users", "show", "travis", stderr=None)

    assert (done.returncode, "travis" in done.stdout) == (0, True)


def test_a_broken_pipe_is_silent(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603 - a fixed command
        ["/bin/sh", "-c", f"{sys.executable} -m flask --app wsgi users show travis | true"],
        cwd=tmp_path, env=environment(tmp_path, BASE_ENVIRONMENT),
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert errors(done) == []


def test_a_password_is_prompted_for_twice_and_not_displayed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "users", "add", "ada"]
    code, displayed = run_at_terminal(tmp_path, [PASSWORD, "a typo", PASSWORD, PASSWORD], *command)

    assert code == 0
    assert "Created: user ada (id 2)" in displayed
    assert displayed.count("Repeat for confirmation") == 2
    assert PASSWORD not in displayed


def test_password_stdin_is_refused_at_a_terminal_which_displays_it(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, terminal = pty.openpty()
    with os.fdopen(controller, "rb"), os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        command = ["users", "add", "ada", "--password-stdin"]
        with pytest.raises(click.UsageError, match="Type the password at a terminal"):
            app.cli.main(command, obj=ScriptInfo(create_app=lambda: app), standalone_mode=False)
