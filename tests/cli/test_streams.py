"""Commands whose standard streams are closed, full, terminals, or not in UTF-8."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from jwt_server import sqlite
from jwt_server.database import Database
from jwt_server.users import demo
from tests.helpers.server import BASE_ENVIRONMENT, environment
from tests.helpers.terminal import run_at_terminal

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def database_file(tmp_path: Path) -> Path:
    """A database with the demo user, where `environment` tells processes to look for it."""
    path = tmp_path / "server.db"
    sqlite.create(path)
    with closing(Database(path)) as database, database.connection() as db:
        demo.add_demo_user(db, 4, 0)
    return path


def run_in_shell(folder: Path, command: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run `flask --app wsgi users` and the rest of a line of the shell."""
    line = f"{sys.executable} -m flask --app wsgi users {command}"
    return subprocess.run(  # noqa: S603 - a fixed command
        ["/bin/sh", "-c", line],
        cwd=folder, env=environment(folder, BASE_ENVIRONMENT | extra),
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on standard error, without the warnings about the tests' settings."""
    return [line for line in done.stderr.splitlines() if '"level": "WARNING"' not in line]


def test_output_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    added = run_in_shell(tmp_path, "add ada --generate > /dev/full")
    shown = run_in_shell(tmp_path, "show travis > /dev/full")

    for done in (added, shown):
        assert done.returncode == 1
        assert len(errors(done)) == 1
        assert "No space left on device" in errors(done)[0]
    assert "The generated password is lost" in errors(added)[0]
    assert "password" not in errors(shown)[0]


def test_a_broken_pipe_is_an_error_only_if_a_generated_password_is_lost(tmp_path: Path) -> None:
    added = run_in_shell(tmp_path, "add ada --generate | true")
    shown = run_in_shell(tmp_path, "show travis | true")

    assert "The generated password is lost" in errors(added)[0]
    assert errors(shown) == []


def test_no_password_is_generated_without_standard_output(
    tmp_path: Path, database_file: Path
) -> None:
    before = database_file.read_bytes()

    assert run_in_shell(tmp_path, "passwd travis --generate >&-").returncode == 2
    assert database_file.read_bytes() == before


@pytest.mark.slow
def test_no_prompt_without_standard_input(tmp_path: Path, database_file: Path) -> None:
    before = database_file.read_bytes()
    for command in ("passwd travis", "add ada --password-stdin", "delete travis"):
        assert run_in_shell(tmp_path, f"{command} <&-").returncode == 2
    assert database_file.read_bytes() == before


def test_characters_that_the_encoding_lacks_are_escaped(tmp_path: Path) -> None:
    added = run_in_shell(tmp_path, "add 漢字 --generate", PYTHONIOENCODING="latin-1")
    listed = run_in_shell(tmp_path, "list --json", PYTHONIOENCODING="latin-1")

    assert (added.returncode, errors(added)) == (0, [])
    assert added.stdout.startswith("Created: user \\u6f22\\u5b57 (id 2)\nPassword: ")
    names = [json.loads(line)["username"] for line in listed.stdout.splitlines()]
    assert names == ["travis", "漢字"]


def test_a_password_is_prompted_for_twice_and_not_displayed(tmp_path: Path) -> None:
    code, displayed = run_at_terminal(
        tmp_path, [PASSWORD, "a typo", PASSWORD, PASSWORD], "users", "add", "ada"
    )

    assert code == 0
    assert "Created: user ada (id 2)" in displayed
    assert displayed.count("Repeat for confirmation") == 2
    assert PASSWORD not in displayed


def test_password_stdin_is_refused_at_a_terminal_which_displays_it(tmp_path: Path) -> None:
    code, displayed = run_at_terminal(tmp_path, [], "users", "add", "ada", "--password-stdin")

    assert code == 2
    assert "leave out --password-stdin" in displayed
