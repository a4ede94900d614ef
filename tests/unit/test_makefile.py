"""Which interpreter and which packages the targets of the Makefile use."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.helpers.server import ROOT

INTERPRETER = """#!/bin/sh
echo "{name} $*" >> {log}
case "$*" in *get_python_version*) echo {version} ;; esac
"""


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        ["make", "--silent", *arguments],  # noqa: S607 - the user's own make
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def interpreter(path: Path, version: str, log: Path) -> str:
    """Write a program that takes the place of Python, and notes how it is called."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(INTERPRETER.format(name=path.parent.name, log=log, version=version))
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(("there", "is_rebuilt"), [("3.11", True), ("3.12", False)])
def test_an_interpreter_that_is_given_replaces_an_environment_of_another_version(
    tmp_path: Path, there: str, is_rebuilt: bool
) -> None:
    log, venv = tmp_path / "log", tmp_path / "venv"
    interpreter(venv / "bin" / "python", there, log)
    (venv / "run").touch()
    python = interpreter(tmp_path / "given" / "python", "3.12", log)

    done = make("run", f"PYTHON={python}", f"VENV={venv}")

    assert done.returncode == 0, done.stderr
    calls = log.read_text().splitlines()
    assert (f"given -m venv --clear {venv}" in calls) == is_rebuilt
    assert calls[-1] == "bin -m jwt_server"


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
