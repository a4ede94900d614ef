"""Which interpreter and which packages the targets of the Makefile use."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers.server import ROOT

INTERPRETER = """#!/bin/sh
echo "{name} $*" >> {log}
case "$*" in *get_python_version*) echo {version} ;; esac
"""


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        ["make", "--silent", *arguments],  # noqa: S607 - the user's own make
        cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip


def interpreter(path: Path, version: str, log: Path) -> str:
    """Write a program that takes the place of Python, and notes how it is called."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(INTERPRETER.format(name=path.parent.name, log=log, version=version))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What the interpreters note: that of an environment with version 3.11, and others."""
    (tmp_path / "venv").mkdir()
    for name in ("pyvenv.cfg", "run", "dev"):
        (tmp_path / "venv" / name).touch()
    interpreter(tmp_path / "venv" / "bin" / "python", "3.11", tmp_path / "log")
    return tmp_path / "log"


@pytest.mark.parametrize(("version", "replacements"), [("3.12", 1), ("3.11", 0)])
def test_an_interpreter_of_another_version_on_the_command_line_replaces_the_environment_once(
    log: Path, tmp_path: Path, version: str, replacements: int
) -> None:
    python = interpreter(tmp_path / "given" / "python", version, log)

    done = make("seed", "check", f"PYTHON={python}", f"VENV={tmp_path}/venv")

    assert done.returncode == 0, done.stderr
    calls = log.read_text()
    assert calls.count(f"given -m venv --clear {tmp_path}/venv\n") == replacements
    assert calls.count("-m pip install") == 2 * replacements
    assert "bin -m flask --app wsgi seed\n" in calls


def test_an_interpreter_in_the_environment_variables_replaces_nothing(
    log: Path, tmp_path: Path
) -> None:
    python = interpreter(tmp_path / "given" / "python", "3.12", log)

    done = make("seed", f"VENV={tmp_path}/venv", PYTHON=python)

    assert done.returncode == 0, done.stderr
    assert log.read_text() == "bin -m flask --app wsgi seed\n"


def test_a_missing_interpreter_is_called_missing(tmp_path: Path) -> None:
    done = make("run", "PYTHON=python3.99", f"VENV={tmp_path}/venv")

    assert done.returncode != 0
    line, _failed = done.stderr.splitlines()
    assert line.startswith("python3.99 is missing: ")
    assert not (tmp_path / "venv").exists()


def test_the_wheel_needs_no_tool_of_the_tests(tmp_path: Path) -> None:
    commands = make("--dry-run", "wheel", f"VENV={tmp_path}/venv").stdout

    assert "--requirement requirements-build.txt" in commands
    assert "requirements-dev.txt" not in commands
