"""No text tells of what isn't there: the README, the docs, the API's description, the help."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest
from flask import Flask
from flask.cli import run_command

from jwt_server.config import Settings
from tests.helpers.factories import SETTINGS
from tests.helpers.server import ROOT
from tests.unit.test_readme import command_of, names, shown

DOCS = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")]
CODE = "".join(path.read_text() for path in (ROOT / "jwt_server").rglob("*.py"))
VERBS = "DELETE|GET|HEAD|OPTIONS|PATCH|POST|PUT"

Find = Callable[[Flask, str], list[str]]


def texts(app: Flask) -> Iterator[tuple[str, str]]:
    """What people read, by where it stands."""
    for path in DOCS:
        yield path.name, path.read_text()
    yield "description", "\n\n".join(strings(app.test_client().get("/openapi.json").get_json()))
    for name in ["", *app.cli.commands, *names(app.cli.commands)]:
        command = command_of(app, name)
        options = "\n".join(str(getattr(each, "help", "")) for each in command.params)
        yield f"{name} --help", f"{command.help}\n{options}\n```\n{command.epilog}\n```"


def strings(json_value: Any) -> Iterator[str]:
    """All that a program would show of a JSON value."""
    if isinstance(json_value, str):
        yield json_value
    elif isinstance(json_value, dict | list):
        for each in json_value.values() if isinstance(json_value, dict) else json_value:
            yield from strings(each)


def typed(text: str) -> Iterator[str]:
    """What a text shows as code: in backticks, or as the lines of a block."""
    for number, part in enumerate(text.split("```")):
        inside = part.splitlines() if number % 2 else re.findall("`([^`]+)`", part)
        yield from (" ".join(code.partition(" # ")[0].split()) for code in inside)


def wrong_commands(app: Flask, text: str) -> list[str]:
    return [code for code in typed(text) if not is_right_command(app, code)]


def is_right_command(app: Flask, code: str) -> bool:
    """Whether code is no command of ours at all, or one that is there with all its options."""
    by_flask, typed_in = re.findall(r"^((?:.*[/ ])?flask (?:--app \S+ ?)?)?(.*)", code)[0]
    words = typed_in.split()
    command: click.Command = click.Group(commands={"run": run_command, **app.cli.commands})
    if not by_flask and {*words[:1]} - {*app.cli.commands}:
        return True
    if words[1:2] == ["="]:  # a variable of some program
        return True
    while isinstance(command, click.Group) and words and words[0][0] not in '-…"':
        if words[0] not in command.commands:
            return False
        command = command.commands[words.pop(0)]
    return {word for word in words if word.startswith("--")} <= {"--help", *options(command)}


def options(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def wrong_options(app: Flask, text: str) -> list[str]:
    """Options that no command has; those of other programs stand in blocks."""
    there = {"--app", "--help"}.union(
        *(options(command_of(app, name)) for name in names(app.cli.commands))
    )
    outside = "".join(text.split("```")[::2])
    return [each for each in re.findall(r"(?<![\w-])--[a-z][a-z-]*", outside) if each not in there]


def wrong_urls(app: Flask, text: str) -> list[str]:
    told = re.findall(r"(?:http://127\.0\.0\.1:3000|\$\{api\})(/[\w./-]+)", text)
    return [path for path in told if not app.url_map.bind("").allowed_methods(path)]


def wrong_routes(app: Flask, text: str) -> list[str]:
    told = re.findall(rf"\b({VERBS}) (/[\w./<>-]*[\w/>])", text)
    there = {
        (method, shown(rule.rule)) for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }  # fmt: skip
    return [f"{method} {path}" for method, path in told if (method, path) not in there]


def wrong_paths(app: Flask, text: str) -> list[str]:
    paths = {shown(rule.rule) for rule in app.url_map.iter_rules()}
    return [path for path in re.findall("`(/[^` ?]*)[^`]*`", text) if path not in paths]


def wrong_settings(app: Flask, text: str) -> list[str]:
    """Names that are neither a setting's nor one of the code's constants."""
    told = re.findall(r"\b[A-Z]+_[A-Z_]+[A-Z]\b", text) + re.findall("`([A-Z]{4,})`", text)
    there = {*SETTINGS, *VERBS.split("|"), *re.findall(r"^([A-Z_]+): Final", CODE, re.MULTILINE)}
    return [name for name in told if name not in there]


FINDERS = [
    wrong_commands, wrong_options, wrong_paths, wrong_routes, wrong_settings, wrong_urls,
]  # fmt: skip


@pytest.mark.parametrize("find", FINDERS)
def test_nothing_is_told_of_that_is_not_there(app: Flask, find: Find) -> None:
    assert {name: wrong for name, text in texts(app) if (wrong := find(app, text))} == {}


def test_no_error_tells_of_a_command_that_is_not_there(app: Flask) -> None:
    messages = re.findall(r'"[^"\n]*"', CODE)

    assert [wrong for message in messages for wrong in wrong_commands(app, message)] == []


@pytest.mark.parametrize(
    ("find", "text"),
    [
        (wrong_commands, "Run `flask frobnicate`."),
        (wrong_commands, "Run `flask --app wsgi users frobnicate NAME`."),
        (wrong_commands, "Run `users\nfrobnicate`."),
        (wrong_commands, "Run `sessions end --everyones`."),
        (wrong_commands, "Run `db downgrade`."),
        (wrong_commands, "```\n  keys turn KID   # says why\n```"),
        (wrong_commands, "```\nenv/bin/flask --app jwt_server.wsgi run --workers 2\n```"),
        (wrong_options, "With --made-up it is better."),
        (wrong_paths, "The page is `/nowhere`."),
        (wrong_routes, "Give it: POST /auth/nowhere, then go on."),
        (wrong_routes, "| `PUT /auth` |"),
        (wrong_settings, "Set NO_SETTING."),
        (wrong_settings, "Set `NOTHING`."),
        (wrong_urls, "curl http://127.0.0.1:3000/nowhere"),
        (wrong_urls, "fetch(`${api}/nowhere`)"),
    ],
)
def test_what_is_made_up_is_found(app: Flask, find: Find, text: str) -> None:
    assert find(app, text)


SECONDS = {"seconds": 1, "minutes": 60, "hours": 60 * 60, "days": 24 * 60 * 60}


def lifetimes(text: str) -> list[tuple[str, int]]:
    """Each lifetime that a text tells of with its default, as `15 minutes (NAME)`."""
    told = re.findall(
        r"(\d+) (seconds|minutes|hours|days)[ a-z]* \(`([A-Z_]+_(?:TTL|GRACE))`", text
    )
    return [(name, int(number) * SECONDS[unit]) for number, unit, name in told]


def test_the_lifetimes_that_are_told_are_those_of_the_code() -> None:
    tokens = dict(lifetimes((ROOT / "docs" / "tokens.md").read_text()))

    assert tokens.keys() == {
        "ACCESS_TOKEN_TTL", "TEXT_TOKEN_TTL", "REFRESH_TOKEN_IDLE_TTL", "REFRESH_TOKEN_TTL",
        "REFRESH_GRACE",
    }  # fmt: skip
    for path in DOCS:
        for name, seconds in lifetimes(path.read_text()):
            assert getattr(Settings, name.lower()) == seconds, (path.name, name)


def test_help_and_description_are_read(app: Flask) -> None:
    read = dict(texts(app))

    assert "users add ada --generate" in list(typed(read["users --help"]))
    assert "POST /auth" in list(typed(read["description"]))
