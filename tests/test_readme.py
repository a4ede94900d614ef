"""The README says what is there, and nothing else: routes, settings, commands, targets."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest
from flask import Flask

from jwt_server.__main__ import SIGN_IN
from jwt_server.config import DEFAULT_KEYS, Settings, load_settings
from jwt_server.errors import ConfigurationError
from tests.factories import SETTINGS
from tests.server import ROOT

README = (ROOT / "README.md").read_text()
TEXTS = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")]


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def shown(rule: str) -> str:
    """A route's path, as the README writes it."""
    return re.sub(r"<(id|session):\w+>", "<id>", re.sub(r"<any.*:", "<", rule))


def test_the_routes_are_those_of_the_app(app: Flask) -> None:
    documented = {row[0].strip("`") for row in rows("Routes")}
    found = {
        f"{method} {shown(rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert documented == found


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_route_is_told_of_that_is_not_there(app: Flask, path: Path) -> None:
    told = re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`?\s]*)", path.read_text())

    for method, route in told:
        ids = "x" * 22 if "sessions" in route else "1"
        there = str(route).replace("<asset>", "docs.js").replace("<id>", ids)
        app.url_map.bind("").match(there, method=method)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_path_is_told_of_that_is_not_there(app: Flask, path: Path) -> None:
    paths = {shown(rule.rule) for rule in app.url_map.iter_rules()}

    for told in re.findall(r"`(/[^` ]*)`", path.read_text()):
        assert told in paths


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_setting_is_told_of_that_is_not_there(path: Path) -> None:
    told = re.findall(r"\b[A-Z]+_[A-Z_]+[A-Z]\b", path.read_text())
    code = "".join(each.read_text() for each in (ROOT / "jwt_server").rglob("*.py"))

    for name in [
        *told,
        *re.findall(r"`([A-Z]{4,})`", path.read_text()),
    ]:  # a setting, or one of the code's constants
        assert name in SETTINGS or f"\n{name}: Final" in code


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
            "jwt_secret", "jwt_secret_previous", "secret_key", "secret_key_previous", "workers",
            "jwt_audience",
        }  # fmt: skip
    else:
        expected = {"*": ("*",), "instance/jwt_keys": DEFAULT_KEYS}.get(default, default)
        assert fields[name].default == (int(default) if default.isdigit() else expected)


def names(commands: Mapping[str, click.Command], parents: str = "") -> Iterator[str]:
    """Each command as it is typed, those of groups with the group's name."""
    for name, command in commands.items():
        if isinstance(command, click.Group):
            yield from names(command.commands, f"{parents}{name} ")
        else:
            yield parents + name


def test_the_commands_are_those_of_the_app(app: Flask) -> None:
    documented = {re.sub(" [A-Z].*", "", row[0].strip("`")) for row in rows("Commands")}

    assert documented == set(names(app.cli.commands))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_command_is_told_of_that_is_not_there(app: Flask, path: Path) -> None:
    there = {*names(app.cli.commands), "run"}
    told = re.findall(r"flask (?:--app \S+ )?((?:[a-z][a-z-]*[ \n`:,])+)", path.read_text())

    groups = {name.partition(" ")[0] for name in there}
    for words in (re.sub("[`:,]", " ", found).split() for found in told):
        assert words[0] in there | groups
        assert words[0] in there or len(words) == 1 or " ".join(words[:2]) in there


def test_the_options_are_those_of_the_commands(app: Flask) -> None:
    told = set(re.findall(r"`(?:[a-z].*? )?(--[a-z-]+)", README.split("## Commands")[1]))
    there = {
        option
        for name in names(app.cli.commands)
        for parameter in command_of(app, name).params
        for option in parameter.opts
        if option.startswith("--")
    }

    assert there - {"--help"} <= told
    assert told <= there | {"--help", "--app"}


def command_of(app: Flask, name: str) -> click.Command:
    command: click.Command = app.cli
    for word in name.split():
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


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
