"""The README says what is there, and nothing else: routes, settings, commands, targets."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import click
import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server.__main__ import SIGN_IN
from jwt_server.config import DEFAULT_KEYS, Settings, load_settings
from jwt_server.errors import ConfigurationError
from tests.helpers.description import METHODS
from tests.helpers.factories import SETTINGS
from tests.helpers.server import ROOT

README = (ROOT / "README.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def shown(rule: str) -> str:
    """A path of Flask's, or of the API's description, as the README writes it."""
    return re.sub(r"[<{](?:.*:)?(?:\w+_)?(\w+)[>}]", r"<\1>", rule)


def test_the_routes_are_those_of_the_app(app: Flask) -> None:
    documented = {row[0].strip("`") for row in rows("Routes")}
    found = {
        f"{method} {shown(rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert documented == found


TAKEN_FROM_THE_QUERY = re.compile(r"`\?(\w+)=`(?: \(([^)]*)\))?")


def test_what_a_route_takes_is_what_its_operation_takes(client: FlaskClient) -> None:
    description = client.get("/openapi.json").get_json()
    taken = {
        f"{method} {shown(path)}": (parameters(operation), fields(description, operation))
        for path, item in description["paths"].items()
        for method, operation in ((each.upper(), item[each]) for each in item)
        if method in METHODS
    }

    for route, takes, _ in rows("Routes"):
        query = TAKEN_FROM_THE_QUERY.findall(takes)
        body = re.findall(r"`(\w+)`( \(optional)?", TAKEN_FROM_THE_QUERY.sub("", takes))
        assert taken.pop(route.strip("`")) == (
            {name: set(re.findall(r"`(\w+)`", values)) for name, values in query},
            {name: not optional for name, optional in body},
        ), route
    assert not taken


def parameters(operation: dict[str, Any]) -> dict[str, set[str]]:
    """An operation's query parameters, with the values that each may have where they are listed."""
    return {
        each["name"]: set(each["schema"].get("enum", ()))
        for each in operation.get("parameters", ())
    }


def fields(description: dict[str, Any], operation: dict[str, Any]) -> dict[str, bool]:
    """The fields of an operation's body, and whether each is required."""
    if "requestBody" not in operation:
        return {}
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = description["components"]["schemas"][reference.rpartition("/")[2]]
    return {name: name in schema.get("required", ()) for name in schema["properties"]}


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
    elif default in {
        "none", "one per core", "the issuer", "a worker's share of the cores",
        "json, or text on a terminal",
    }:  # fmt: skip
        assert name in {
            "hash_concurrency", "jwt_audience", "jwt_secret", "jwt_secret_previous", "log_format",
            "secret_key", "secret_key_previous", "workers",
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
    documented = set(re.findall(r"(?:^|`)make ([a-z-]+)\b", README, re.MULTILINE))
    helped = subprocess.run(
        ["make", "--silent", "help"],  # noqa: S607 - the user's own make
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    listed = set(re.findall(r"^  make ([a-z-]+) ", helped, re.MULTILINE))
    declared = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert documented <= listed
    assert listed == set(declared[0].split())


def test_the_two_curls_are_those_that_make_run_prints() -> None:
    printed = SIGN_IN.format(address="127.0.0.1:3000")
    curls = [line.strip() for line in printed.splitlines() if "curl" in line]

    assert len(curls) == 2
    for curl in curls:
        assert f"\n{curl}\n" in README
