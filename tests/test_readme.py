"""The README says what is there, and nothing else: routes, settings, commands, targets."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

import pytest
from flask import Flask

from jwt_server.__main__ import SIGN_IN
from jwt_server.config import Settings, load_settings
from jwt_server.errors import ConfigurationError
from tests.factories import SETTINGS
from tests.server import ROOT

README = (ROOT / "README.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_the_routes_are_those_of_the_app(app: Flask) -> None:
    documented = {row[0].strip("`") for row in rows("Routes")}
    found = {
        f"{method} {re.sub('<id:.*>', '<id>', rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert documented == found


class Recorder(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("settings are asked for by name")


def test_the_settings_are_those_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Recorder()
    with monkeypatch.context() as patched:
        patched.setattr(os, "environ", environment)
        with pytest.raises(ConfigurationError):
            load_settings()

    documented = {row[0].strip("`") for row in rows("Settings")}
    assert environment.asked == set(SETTINGS)
    assert {name.removesuffix("_FILE") for name in environment.asked} == documented


@pytest.mark.parametrize("row", rows("Settings"), ids=lambda row: row[0].strip("`"))
def test_the_defaults_are_those_of_the_code(row: list[str]) -> None:
    name, default = row[0].strip("`").lower(), row[1].strip("`")
    fields = Settings.__dataclass_fields__

    if name == "database_url":
        assert default == "sqlite:///instance/jwt-server.db"
    elif default in {"none", "one per core", "the issuer"}:
        assert name in {
            "jwt_secret", "jwt_secret_previous", "secret_key", "workers", "jwt_audience"
        }  # fmt: skip
    else:
        expected = ("*",) if default == "*" else default
        assert fields[name].default == (int(default) if default.isdigit() else expected)


def test_the_commands_are_those_of_the_app(app: Flask) -> None:
    documented = set(re.findall(r"flask --app wsgi ([a-z-]+)", README))

    assert documented == {*app.cli.commands, "run"}


def test_the_targets_are_those_of_the_makefile() -> None:
    documented = set(re.findall(r"(?:^|`)make ([a-z]+)\b", README, re.MULTILINE))
    helped = subprocess.run(
        ["make", "--silent", "help"],  # noqa: S607 - the user's own make
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    listed = set(re.findall(r"^  make ([a-z]+) ", helped, re.MULTILINE))
    declared = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert documented <= listed
    assert listed == set(declared[0].split())


def test_the_two_curls_are_those_that_make_run_prints() -> None:
    printed = SIGN_IN.format(address="127.0.0.1:3000")
    curls = [line.strip() for line in printed.splitlines() if "curl" in line]

    assert len(curls) == 2
    for curl in curls:
        assert f"\n{curl}\n" in README
