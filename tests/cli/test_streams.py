"""Commands whose standard streams are closed, full, terminals, or not in UTF-8."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask

from tests.helpers.databases import create_database
from tests.helpers.server import BASE_ENVIRONMENT, environment
from tests.helpers.terminal import run_at_terminal

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def database_file(tmp_path: Path) -> Path:
    """A database with the demo user, where `environment` tells processes to look for it."""
    path = tmp_path / "server.db"
    create_database(path)
    return path


def run_in_shell(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run `flask --app wsgi users` and the rest of a line of the shell."""
    line = f"{sys.executable} -m flask --app wsgi users {command}"
    return subprocess.run(  # noqa: S603 - a fixed command
        ["/bin/sh", "-c", line],
        cwd=folder, env=environment(folder, BASE_ENVIRONMENT),
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on standard error, without the warnings about the tests' settings."""
    return [line for line in done.stderr.splitlines() if '"level": "WARNING"' not in line]


def test_a_generated_password_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    full = run_in_shell(tmp_path, "add ada --generate > /dev/full")
    broken = run_in_shell(tmp_path, "passwd travis --generate | true")

    assert full.returncode == 1
    for done, reason in ((full, "No space left on device"), (broken, "Broken pipe")):
        (line,) = errors(done)
        assert reason in line
        assert "The generated password is lost" in line


def test_a_broken_pipe_of_other_output_is_not_reported(tmp_path: Path) -> None:
    assert errors(run_in_shell(tmp_path, "show travis | true")) == []


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


def test_characters_that_the_encoding_lacks_are_escaped(app: Flask) -> None:
    run = app.test_cli_runner(charset="latin-1").invoke

    added = run(args=["users", "add", "漢字", "--generate"])
    listed = run(args=["users", "list", "--json"])

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
