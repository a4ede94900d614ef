"""What a command does where its input or output is closed, full, a terminal, or not in UTF-8."""

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


@pytest.fixture(autouse=True)
def made(tmp_path: Path) -> None:
    """A database with the demo user, where a process of ours looks for it."""
    sqlite.create(tmp_path / "server.db")
    with closing(Database(tmp_path / "server.db")) as database, database.connection() as db:
        demo.add_demo_user(db, 4, 0)


def in_a_shell(folder: Path, command: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run `flask --app wsgi users` and what may follow in a line of the shell."""
    line = f"{sys.executable} -m flask --app wsgi users {command}"
    return subprocess.run(  # noqa: S603 - our own command
        ["/bin/sh", "-c", line],
        cwd=folder, env=environment(folder, BASE_ENVIRONMENT | extra),
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def without_warnings(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on standard error, but for what the tests' own settings are warned of."""
    return [line for line in done.stderr.splitlines() if '"level": "WARNING"' not in line]


@pytest.mark.parametrize(
    ("command", "lost"), [("add ada --generate", True), ("show travis", False)]
)
def test_an_answer_that_can_not_be_written_is_told_of(
    tmp_path: Path, command: str, *, lost: bool
) -> None:
    done = in_a_shell(tmp_path, f"{command} > /dev/full")

    assert done.returncode == 1
    assert "Error: The answer can't be written: No space left on device." in done.stderr
    assert ("The password that was made up is lost" in done.stderr) is lost
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [("add ada --generate", "Error: The answer can't be written: Broken pipe. What was asked for"
      " may be done. The password that was made up is lost, so give another with `users"
      " passwd`."),
     ("show travis", "")],
)  # fmt: skip
def test_a_made_up_password_that_nobody_reads_is_said_to_be_lost(
    tmp_path: Path, command: str, said: str
) -> None:
    done = in_a_shell(tmp_path, f"{command} | true")

    assert "".join(without_warnings(done)) == said


@pytest.mark.parametrize("command", ["add ada", "passwd travis"])
def test_without_standard_output_no_password_is_made_up(tmp_path: Path, command: str) -> None:
    before = (tmp_path / "server.db").read_bytes()

    done = in_a_shell(tmp_path, f"{command} --generate >&-")

    assert done.returncode == 2
    assert "There is no standard output to show the password on." in done.stderr
    assert (tmp_path / "server.db").read_bytes() == before


def test_a_name_that_the_terminal_can_not_show_is_escaped(tmp_path: Path) -> None:
    added = in_a_shell(tmp_path, "add 漢字 --generate", PYTHONIOENCODING="latin-1")
    again = in_a_shell(tmp_path, "delete 漢字 < /dev/null", PYTHONIOENCODING="latin-1")
    listed = in_a_shell(tmp_path, "list --json", PYTHONIOENCODING="latin-1")

    assert (added.returncode, without_warnings(added)) == (0, [])
    assert added.stdout.startswith("Created: user \\u6f22\\u5b57 (id 2)\nPassword: ")
    assert (again.returncode, without_warnings(again)) == (1, ["Aborted!"])
    assert [json.loads(line)["username"] for line in listed.stdout.splitlines()] == [
        "travis",
        "漢字",
    ]


@pytest.mark.parametrize(
    ("command", "why"),
    [("passwd travis", "no terminal to ask at"), ("add ada --password-stdin", "no standard input"),
     ("delete travis", "use --yes")],
)  # fmt: skip
def test_without_standard_input_nothing_is_asked(tmp_path: Path, command: str, why: str) -> None:
    done = in_a_shell(tmp_path, f"{command} <&-")

    assert done.returncode == 2
    assert why in done.stderr


def test_a_password_for_standard_input_is_not_typed_where_it_shows(tmp_path: Path) -> None:
    code, seen = run_at_terminal(tmp_path, [], "users", "add", "ada", "--password-stdin")

    assert code == 2
    assert "To type the password, leave out --password-stdin." in seen
