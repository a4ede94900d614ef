"""The documentation names every route, setting, command, error and make target, and no other."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click
import pytest
from flask import Flask
from flask.cli import run_command
from flask.testing import FlaskClient

from jwt_server.audit import Action
from jwt_server.config import Settings, load_settings
from jwt_server.errors import ConfigurationError
from tests.helpers.app import commands_of
from tests.helpers.description import METHODS
from tests.helpers.factories import JWT_SECRET, SECRET_KEY, SETTINGS
from tests.helpers.server import ROOT

PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
}
API = PAGES["docs/api.md"]
CONFIGURATION = PAGES["docs/configuration.md"]
OPERATIONS = PAGES["docs/operations.md"]
CODE = "".join(path.read_text() for path in (ROOT / "jwt_server").rglob("*.py"))
VERBS = "DELETE|GET|HEAD|OPTIONS|PATCH|POST|PUT"

Json = dict[str, Any]


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    section = page.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def path_of(rule: str) -> str:
    """A path of Flask's, or of the OpenAPI description, as the docs write it."""
    return re.sub(r"[<{](?:[^<>{}]*:)?(?:\w+_)?(\w+)[>}]", r"<\1>", rule)


def routes_of(app: Flask) -> set[tuple[str, str]]:
    return {
        (method, path_of(rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }


@pytest.fixture
def description(client: FlaskClient) -> Json:
    content: Json = client.get("/openapi.json").get_json()
    return content


# Routes and errors.


def test_every_route_is_documented_and_no_other(app: Flask) -> None:
    documented = {row[0].strip("`") for row in rows(API, "Routes")}

    assert documented == {
        f"{method} {path}" for method, path in routes_of(app) if method in METHODS
    }


QUERY_PARAMETER = re.compile(r"`\?(\w+)=`(?: \(([^)]*)\))?")


def test_documented_fields_and_parameters_are_those_of_the_route(description: Json) -> None:
    operations = {
        f"{method.upper()} {path_of(path)}": operation
        for path, item in description["paths"].items()
        for method, operation in item.items()
        if method.upper() in METHODS
    }

    for route, takes, _ in rows(API, "Routes"):
        operation = operations[route.strip("`")]
        actions = {each.value for each in Action}  # listed in operations.md
        query = QUERY_PARAMETER.findall(takes)
        body = re.findall(r"`(\w+)`( \(optional)?", QUERY_PARAMETER.sub("", takes))
        assert {name: set(re.findall(r"`(\w+)`", values)) for name, values in query} == {
            each["name"]: set(each["schema"].get("enum", ())) - actions
            for each in operation.get("parameters", ())
        }, route
        assert {name: not optional for name, optional in body} == fields(description, operation)


def test_actions_of_the_audit_log_are_documented() -> None:
    section = OPERATIONS.split("\n## Audit log\n")[1].split("\n## ")[0]

    assert {each.value for each in Action} <= set(re.findall(r"`(\w+)`", section))


def fields(description: Json, operation: Json) -> dict[str, bool]:
    """The fields of an operation's body, and whether each is required."""
    if "requestBody" not in operation:
        return {}
    [content] = operation["requestBody"]["content"].values()
    [reference] = re.findall("'#(.*?)'", str(content["schema"]))
    schema = description["components"]["schemas"][reference.rpartition("/")[2]]
    return {name: name in schema.get("required", ()) for name in schema["properties"]}


def test_every_error_code_is_documented_with_its_status_and_no_other(description: Json) -> None:
    documented = {(row[0].strip("`"), int(row[1])) for row in rows(API, "Errors")}
    of_my_pets = {
        (code, 401 if status == 403 and code.startswith("token_") else status)
        for code, status in codes(description)
    }

    assert documented == of_my_pets


def codes(value: Any) -> Iterator[tuple[str, int]]:
    """Each code of a problem in an OpenAPI description, with its status."""
    if isinstance(value, dict):
        properties = value.get("properties", {})
        for code in properties.get("code", {}).get("enum", ()):
            yield code, properties["status"]["const"]
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from codes(each)


# Settings.


class Recorder(dict[str, str]):
    """An environment that records the names it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def test_every_setting_is_documented_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Recorder()
    with monkeypatch.context() as patched:
        patched.setattr(os, "environ", environment)
        with pytest.raises(ConfigurationError):
            load_settings()

    documented = {row[0].strip("`") for row in rows(CONFIGURATION, "Settings")}
    assert environment.asked == set(SETTINGS)
    assert {name.removesuffix("_FILE") for name in environment.asked} == documented


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Load the settings of an environment with nothing in it but secrets and what is given."""

    def loaded(**variables: str) -> Settings:
        secrets = {"SECRET_KEY": SECRET_KEY.decode(), "JWT_SECRET": JWT_SECRET.decode()}
        with monkeypatch.context() as patched:
            patched.setattr(os, "environ", secrets | variables)
            return load_settings()

    return loaded


def test_documented_defaults_are_those_of_the_code(load: Callable[..., Settings]) -> None:
    for name, default, *_ in rows(CONFIGURATION, "Settings"):
        if default.startswith("`"):
            assert load(**{name.strip("`"): default.strip("`")}) == load(), name


def test_documented_values_are_accepted_and_those_beyond_are_not(
    load: Callable[..., Settings],
) -> None:
    for cell, _, values, _ in rows(CONFIGURATION, "Settings"):
        name = cell.strip("`")
        if span := re.fullmatch(r"(\d+) to (\d+)", values):
            low, high = map(int, span.groups())
            for good in (low, high):
                load(**{name: str(good)})
            for bad in (low - 1, high + 1):
                with pytest.raises(ConfigurationError, match=f"^{name}: "):
                    load(**{name: str(bad)})


SECONDS = {"seconds": 1, "minutes": 60, "hours": 60 * 60, "days": 24 * 60 * 60}


def test_documented_lifetimes_are_those_of_the_code() -> None:
    for name, text in PAGES.items():
        for number, unit, setting in re.findall(
            r"(\d+) (seconds|minutes|hours|days)[ a-z]* \(`([A-Z_]+_(?:TTL|GRACE))`", text
        ):
            default = getattr(Settings, setting.lower())
            assert int(number) * SECONDS[unit] == default, (name, setting)


# Commands.


def names(commands: Mapping[str, click.Command], parents: str = "") -> Iterator[str]:
    """Each command as it is typed, those of groups with the group's name."""
    for name, command in commands.items():
        if isinstance(command, click.Group):
            yield from names(command.commands, f"{parents}{name} ")
        else:
            yield parents + name


def command_of(app: Flask, name: str) -> click.Command:
    command: click.Command = app.cli
    for word in name.split():
        assert isinstance(command, click.Group)
        command = commands_of(command)[word]
    return command


def options(command: click.Command) -> set[str]:
    return {
        option for parameter in command.params for option in parameter.opts if option[:2] == "--"
    }


def test_every_command_is_documented_with_its_options_and_no_other(app: Flask) -> None:
    section = OPERATIONS.split("\n## Commands\n")[1].split("\n## ")[0]
    commands = set(names(commands_of(app.cli)))

    documented = {re.sub(" [A-Z].*", "", row[0].strip("`")) for row in rows(OPERATIONS, "Commands")}
    assert documented == commands
    every_option = set[str]().union(*(options(command_of(app, name)) for name in commands))
    assert set(re.findall(r"`(--[a-z-]+)", section)) | {"--help"} == every_option | {"--help"}


def test_every_make_target_is_listed_and_documented_ones_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())
    helped = subprocess.run(
        ["make", "--silent", "help"],  # noqa: S607 - the user's own make
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip

    assert set(re.findall(r"^  make ([a-z-]+) ", helped, re.MULTILINE)) == targets
    for name, text in PAGES.items():
        documented = re.findall(r"(?:^|`)make ([a-z-]+)\b", text, re.MULTILINE)
        assert set(documented) <= targets, name


# What texts mention exists: the pages, the help of commands, the OpenAPI description.

Find = Callable[[Flask, str], list[str]]


def texts(app: Flask) -> Iterator[tuple[str, str]]:
    """What people read, by where it stands, without the tables of other programs and versions."""
    for page, text in PAGES.items():
        yield page, re.sub(r"^\| [\w@/-]+ \| \d[\d.]+ \|.*$", "", text, flags=re.MULTILINE)
    yield "description", "\n\n".join(strings(app.test_client().get("/openapi.json").get_json()))
    for name in ["", *commands_of(app.cli), *names(commands_of(app.cli))]:
        command = command_of(app, name)
        help_texts = "\n".join(str(getattr(each, "help", "")) for each in command.params)
        yield f"{name} --help", f"{command.help}\n{help_texts}\n```\n{command.epilog}\n```"


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings(each)


def typed(text: str) -> Iterator[str]:
    """What a text shows as code: in backticks, or as the lines of a block."""
    for number, part in enumerate(text.split("```")):
        inside = part.splitlines() if number % 2 else re.findall("`([^`]+)`", part)
        yield from (" ".join(code.partition(" # ")[0].split()) for code in inside)


def wrong_commands(app: Flask, text: str) -> list[str]:
    return [code for code in typed(text) if not is_valid_command(app, code)]


def is_valid_command(app: Flask, code: str) -> bool:
    """Whether code is not a command of this service, or one that exists with all its options."""
    by_flask, typed_in = re.findall(r"^((?:.*[/ ])?flask (?:--app \S+ ?)?)?(.*)", code)[0]
    words = typed_in.split()
    command: click.Command = click.Group(commands={"run": run_command, **commands_of(app.cli)})
    if not by_flask and {*words[:1]} - {*commands_of(app.cli)}:
        return True
    if words[1:2] == ["="]:  # a variable of some program
        return True
    while isinstance(command, click.Group) and words and words[0][0] not in '-…"':
        if words[0] not in command.commands:
            return False
        command = command.commands[words.pop(0)]
    return {word for word in words if word.startswith("--")} <= {"--help", *options(command)}


def wrong_options(app: Flask, text: str) -> list[str]:
    """Options that no command has; those of other programs stand in blocks."""
    there = {"--app", "--help"}.union(
        *(options(command_of(app, name)) for name in names(commands_of(app.cli)))
    )
    outside = "".join(text.split("```")[::2])
    return [each for each in re.findall(r"(?<![\w-])--[a-z][a-z-]*", outside) if each not in there]


def wrong_paths(app: Flask, text: str) -> list[str]:
    urls = re.findall(r"(?:http://127\.0\.0\.1:3000|\$\{api\})(/[\w./-]+)", text)
    told = re.findall("`(/[^` ?]*)[^`]*`", text)
    there = {path for _, path in routes_of(app)}
    return [path for path in urls if not app.url_map.bind("").allowed_methods(path)] + [
        path for path in told if path not in there
    ]


def wrong_routes(app: Flask, text: str) -> list[str]:
    told = re.findall(rf"\b({VERBS}) (/[\w./<>-]*[\w/>])", text)
    return [f"{method} {path}" for method, path in told if (method, path) not in routes_of(app)]


def wrong_settings(_app: Flask, text: str) -> list[str]:
    """Names that are neither a setting's nor one of the code's constants."""
    told = re.findall(r"\b[A-Z]+_[A-Z_]+[A-Z]\b", text) + re.findall("`([A-Z]{4,})`", text)
    there = {
        *SETTINGS,
        "GUNICORN_CMD_ARGS",
        "FLASK_SKIP_DOTENV",
        "PGPASSFILE",
        "PGCONNECT_TIMEOUT",
        "PGPASSWORD",
        "PGSSLMODE",
        "TEST_DATABASE",
        *VERBS.split("|"),
        *re.findall(r"^([A-Z_]+)(?:: | = )", CODE, re.MULTILINE),
    }
    return [name for name in told if name not in there]


@pytest.mark.parametrize(
    "find", [wrong_commands, wrong_options, wrong_paths, wrong_routes, wrong_settings]
)
def test_no_text_mentions_what_does_not_exist(app: Flask, find: Find) -> None:
    assert {name: wrong for name, text in texts(app) if (wrong := find(app, text))} == {}


def test_no_error_mentions_a_command_that_does_not_exist(app: Flask) -> None:
    messages = re.findall(r'"[^"\n]*"', CODE)

    assert [wrong for message in messages for wrong in wrong_commands(app, message)] == []


def test_what_does_not_exist_is_found(app: Flask) -> None:
    for find, text in (
        (wrong_commands, "Run `flask --app wsgi users frobnicate NAME`."),
        (wrong_commands, "Run `sessions end --everyones`."),
        (wrong_commands, "```\n  keys turn KID   # says why\n```"),
        (wrong_options, "With --made-up it is better."),
        (wrong_paths, "The page is `/nowhere`."),
        (wrong_paths, "fetch(`${api}/nowhere`)"),
        (wrong_routes, "Call POST /auth/nowhere, then go on."),
        (wrong_settings, "Set NO_SETTING, or `NOTHING`."),
    ):
        assert find(app, text), text


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    for name, text in PAGES.items():
        links = re.findall(r"\]\((?!https?:)([^)#]*)#?([\w-]*)\)", text)
        for file, heading in links:
            path = ((ROOT / name).parent / file).resolve() if file else ROOT / name
            assert path.exists(), (name, file)
            if heading:
                anchors = headings(path.read_text())
                assert heading in anchors, (name, file, heading)


def headings(text: str) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
