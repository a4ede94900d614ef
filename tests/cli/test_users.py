"""`flask users`: what each command does, says, and ends with."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from jwt_server.errors import LastAdmin
from jwt_server.security import policy
from jwt_server.users import users as user_rows
from tests.helpers.app import MakeApp
from tests.helpers.factories import CREDENTIALS, OPERATOR, add_user
from tests.helpers.server import BASE_ENVIRONMENT, flask
from tests.helpers.terminal import run_at_terminal

PASSWORD = "correct horse battery"

Users = Callable[..., Result]


@pytest.fixture
def users(app: Flask) -> Users:
    """Runs `flask users ...`, with `sent` on standard input."""

    def run(*command: str, sent: str | bytes = "") -> Result:
        return app.test_cli_runner().invoke(args=("users", *command), input=sent)

    return run


def row(db: Connection, username: str) -> dict[str, Any]:
    found = user_rows.find_by_name(db, username)
    assert found is not None
    return found


def can_sign_in(client: FlaskClient, username: str, password: str) -> bool:
    answer = client.post("/auth", data={"username": username, "password": password})
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


def test_add_makes_a_user_who_can_sign_in(users: Users, client: FlaskClient) -> None:
    done = users("add", "Ada", "--password-stdin", sent=f"{PASSWORD}\n")

    assert (done.exit_code, done.output) == (0, "Created: user Ada (id 2)\n")
    assert can_sign_in(client, "ada", PASSWORD)
    assert PASSWORD not in done.output


def test_add_makes_an_admin_where_told_so(users: Users, db: Connection) -> None:
    done = users("add", "ada", "--admin", "--password-stdin", sent=PASSWORD)

    assert done.output == "Created: admin ada (id 2)\n"
    assert row(db, "ada")["admin"] == 1


def test_a_made_up_password_is_shown_once_and_works(users: Users, client: FlaskClient) -> None:
    first, second = users("add", "ada", "--generate"), users("passwd", "ada", "--generate")

    shown = [done.stdout.splitlines()[1].removeprefix("Password: ") for done in (first, second)]
    assert shown[0] != shown[1]
    assert all(len(password) == 34 for password in shown)
    assert not can_sign_in(client, "ada", shown[0])
    assert can_sign_in(client, "ada", shown[1])


@pytest.mark.parametrize("least", [1, 8, 34, 35, 64])
def test_a_made_up_password_is_as_long_as_it_must_be(
    make_app: MakeApp, database: Database, least: int
) -> None:
    app = make_app(password_min_length=least)

    done = app.test_cli_runner().invoke(args=["users", "add", "ada", "--generate"])

    password = done.stdout.splitlines()[1].removeprefix("Password: ")
    assert len(password) == {35: 39, 64: 64}.get(least, 34)
    assert policy.find_problem(password, "ada", least) is None


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_one_line_end_is_not_part_of_the_password(
    users: Users, client: FlaskClient, end: str
) -> None:
    users("add", "ada", "--password-stdin", sent=f" {PASSWORD} \n{end}".encode())

    assert can_sign_in(client, "ada", f" {PASSWORD} \n" if end else f" {PASSWORD} ")


@pytest.mark.parametrize("name", ["Travis", "TRAVIS", "ｔravis"])
def test_a_taken_name_is_refused_before_a_password_is_asked_for(users: Users, name: str) -> None:
    done = users("add", name)

    assert (done.exit_code, done.output) == (1, "Error: That name is taken. Choose another.\n")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "Use at least one character."),
        ("a" * 65, "Longer than 64 characters."),
        ("ﷺ" * 4, "Longer than 64 characters."),
        (" ada", "Leave out the space at its beginning or end."),
        ("ada\u3000", "Leave out the space at its beginning or end."),
        ("a\tb", "Leave out control and format characters"),
        ("a\x1b[31mb", "Leave out control and format characters"),
        ("a\u200bb", "Leave out control and format characters"),
        ("a\u202eb", "Leave out control and format characters"),
        ("a\ue000b", "Leave out control and format characters"),
        ("a\udcffb", "Leave out control and format characters"),
    ],
    ids=ascii,
)
def test_a_name_that_can_not_be_one_is_refused(
    users: Users, db: Connection, name: str, why: str
) -> None:
    done = users("add", "--generate", "--", name)

    assert done.exit_code == 1
    assert f"Error: username: {why}" in done.output
    assert [user["username"] for user in user_rows.each_by_name(db)] == ["travis"]


@pytest.mark.parametrize(
    "name", ["a", "a" * 64, "Ünal", "漢字", "a b", "-x", "'; DROP TABLE users"]
)
def test_any_other_name_will_do(users: Users, client: FlaskClient, name: str) -> None:
    done = users("add", "--password-stdin", "--", name, sent=PASSWORD)

    assert done.exit_code == 0
    assert can_sign_in(client, name.swapcase(), PASSWORD)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("1234567", "Use at least 8 characters."),
        ("", "Use at least 8 characters."),
        ("x" * 257, "Use at most 256 characters."),
        ("correct\0horse", "NUL and invalid UTF-8 are not allowed."),
        ("password1", "one of the most common passwords"),
        ("PASSWORD1", "one of the most common passwords"),
        ("ada.lovelace", "little more than the username"),
        ("Ada.Lovelace2026", "little more than the username"),
        ("12ada.lovelace34", "little more than the username"),
        (b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe", "NUL and invalid UTF-8 are not allowed."),
        (b"\xc3\xa4" * 100_000, "Use at most 256 characters."),
        (b"\xff" * 100_000, "Use at most 256 characters."),
    ],
)
def test_a_password_that_is_not_good_enough_is_refused(
    users: Users, db: Connection, password: str | bytes, why: str
) -> None:
    added = users("add", "ada.lovelace", "--password-stdin", sent=password)
    add_user(db, "Ada.Lovelace", PASSWORD)
    before = row(db, "ada.lovelace")
    changed = users("passwd", "ada.lovelace", "--password-stdin", sent=password)

    for done in (added, changed):
        assert done.exit_code == 1
        assert "Error: password: " in done.output
        assert why in done.output
    assert row(db, "ada.lovelace") == before


@pytest.mark.parametrize(
    "password", ["x" * 256, "🐈" * 256, "12345678 9", "пароль не простой", "ada.lovelace12345"]
)
def test_any_other_password_will_do(users: Users, client: FlaskClient, password: str) -> None:
    assert users("add", "ada.lovelace", "--password-stdin", sent=password).exit_code == 0
    assert can_sign_in(client, "ada.lovelace", password)


def test_a_short_name_may_be_in_a_password(users: Users) -> None:
    done = users("add", "a", "--password-stdin", sent="alabama1aa")

    assert done.exit_code == 0


def test_the_shortest_password_is_a_setting(make_app: MakeApp, database: Database) -> None:
    app = make_app(password_min_length=12)

    done = app.test_cli_runner().invoke(
        args=["users", "add", "ada", "--password-stdin"], input="elevenchars"
    )

    assert done.exit_code == 1
    assert "Use at least 12 characters." in done.output


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "There is no terminal to ask at: use --password-stdin or --generate."),
        (("--generate", "--password-stdin"), "--generate and --password-stdin exclude each other."),
        (("--password", PASSWORD), "No such option"),
        ((PASSWORD,), "unexpected extra argument"),
    ],
)
@pytest.mark.parametrize("command", [("add", "ada"), ("passwd", "travis")])
def test_a_wrong_command_line_ends_with_2(
    users: Users, db: Connection, command: tuple[str, ...], options: tuple[str, ...], why: str
) -> None:
    before = list(user_rows.each_by_name(db))

    done = users(*command, *options)

    assert done.exit_code == 2
    assert why in done.output
    assert list(user_rows.each_by_name(db)) == before


def test_passwd_replaces_the_password_and_ends_the_sessions(
    users: Users, client: FlaskClient, travis: dict[str, str]
) -> None:
    done = users("passwd", "TRAVIS", "--password-stdin", sent=PASSWORD)

    changed = "Changed: the password of travis (sessions ended: 1)\n"
    assert (done.exit_code, done.output) == (0, changed)
    assert can_sign_in(client, "travis", PASSWORD)
    assert not can_sign_in(client, "travis", "mypassword")
    assert client.get("/my-pets", headers=travis).text == "Revoked token. Sign in again."


@pytest.mark.parametrize(
    "command", ["show", "passwd", "promote", "demote", "enable", "disable", "delete"]
)
def test_an_unknown_name_is_said_to_be_one(users: Users, command: str) -> None:
    done = users(command, "nobody")

    assert (done.exit_code, done.output) == (1, "Error: There is no user 'nobody'.\n")


@pytest.mark.parametrize(
    "name", ["\udcff", "x\x1b[31mred", "e\u0301" * 60_000, ""], ids=["bytes", "escape", "long", ""]
)
@pytest.mark.parametrize("command", [("show",), ("delete", "--yes"), ("list", "--search")])
def test_what_can_not_be_a_name_is_nobodys_and_not_echoed(
    users: Users, command: tuple[str, ...], name: str
) -> None:
    done = users(*command, "--", name) if "--search" not in command else users(*command, name)

    assert done.exit_code in (0, 1)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert "\x1b" not in done.output
    assert len(done.output) < 1000


def test_promote_and_demote(users: Users, db: Connection) -> None:
    add_user(db, "ada")
    users("promote", "ada")

    assert users("promote", "TRAVIS").output == "travis is an admin now.\n"
    assert users("promote", "travis").output == "travis is an admin already.\n"
    assert row(db, "travis")["admin"] == 1
    assert users("demote", "travis").output == "travis is no admin now.\n"
    assert users("demote", "travis").output == "travis is no admin already.\n"
    assert row(db, "travis")["admin"] == 0


def test_disable_shuts_out_at_once_and_enable_lets_in_again(
    users: Users, client: FlaskClient, travis: dict[str, str]
) -> None:
    assert users("disable", "travis").output == "travis is disabled now.\n"
    assert users("disable", "travis").output == "travis is disabled already.\n"
    refused = client.get("/my-pets", headers=travis)
    wrong = client.post("/auth", data=CREDENTIALS | {"password": "wrong"})
    right = client.post("/auth", data=CREDENTIALS)

    assert (refused.status_code, refused.text) == (403, "Token of a disabled user.")
    assert client.get("/pets", headers=travis).status_code == 401
    assert (right.status_code, right.data) == (wrong.status_code, wrong.data)
    assert users("enable", "travis").output == "travis is enabled now.\n"
    assert users("enable", "travis").output == "travis is enabled already.\n"
    assert client.get("/my-pets", headers=travis).text == "Revoked token. Sign in again."
    assert can_sign_in(client, "travis", "mypassword")


def test_a_disabled_users_refusal_has_its_code(
    users: Users, client: FlaskClient, travis: dict[str, str]
) -> None:
    users("disable", "travis")

    problem = client.get("/pets", headers=travis | {"Accept": "application/json"}).get_json()

    assert (problem["status"], problem["code"]) == (401, "token_user_disabled")


def test_delete_takes_the_pets_along_after_asking(users: Users, db: Connection) -> None:
    add_user(db, "ada")
    refused = users("delete", "travis", sent="n\n")
    assert refused.exit_code == 1
    assert row(db, "travis")

    done = users("delete", "TRAVIS", sent="y\n")

    assert done.output == "Delete travis (id 1) for ever? [y/N]: y\nDeleted: travis (id 1)\n"
    assert [user["username"] for user in user_rows.each_by_name(db)] == ["ada"]
    assert db.queries.pets.names_of_user(user_id=1) == []


def test_delete_asks_nobody_where_nobody_is_there(users: Users, db: Connection) -> None:
    assert users("delete", "travis").exit_code == 1
    assert row(db, "travis")
    assert users("delete", "travis", "--yes").output == "Deleted: travis (id 1)\n"


@pytest.mark.parametrize("command", [("demote",), ("disable",), ("delete", "--yes")])
def test_the_last_enabled_admin_stays(
    users: Users, db: Connection, command: tuple[str, ...]
) -> None:
    users("promote", "travis")
    add_user(db, "ada")
    users("promote", "ada")
    users("disable", "ada")

    done = users(*command, "travis")

    assert done.exit_code == 1
    assert done.output == "Error: This is the last enabled admin. Make another one first.\n"
    assert (row(db, "travis")["admin"], row(db, "travis")["disabled"]) == (1, 0)
    users("enable", "ada")
    assert users(*command, "travis").exit_code == 0
    assert users("delete", "ada", "--yes").exit_code == 1


GOING: dict[str, Callable[[Connection, int], object]] = {
    "demoted": lambda db, user_id: user_rows.set_admin(db, user_id, admin=False, actor=OPERATOR),
    "disabled": lambda db, user_id: user_rows.set_disabled(
        db, user_id, disabled=True, actor=OPERATOR
    ),
    "deleted": partial(user_rows.remove, actor=OPERATOR),
}


@pytest.mark.parametrize("how", GOING)
def test_of_two_admins_who_go_at_once_one_stays(
    db: Connection, settings: Settings, how: str
) -> None:
    for number in range(10):
        add_user(db, f"a{number}")
        add_user(db, f"b{number}")
    for number in range(10):  # so often that a race would show
        pair = [user_rows.get_by_name(db, f"{letter}{number}")["id"] for letter in "ab"]
        for user_id in pair:
            user_rows.set_admin(db, user_id, admin=True, actor=OPERATOR)
        db.driver.execute("UPDATE users SET admin = 0 WHERE id NOT IN (?, ?)", pair)
        assert refusals(settings, pair, GOING[how]) == 1


def refusals(settings: Settings, pair: list[int], go: Callable[[Connection, int], object]) -> int:
    """How many of two who go at the same time are kept as the last admin."""
    barrier = threading.Barrier(2)

    def refused(user_id: int) -> bool:
        with closing(Database(settings.database)) as database, database.connection() as db:
            user_rows.find_by_id(db, user_id)
            barrier.wait(timeout=10)
            try:
                go(db, user_id)
            except LastAdmin:
                return True
        return False

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(refused, pair))


def test_list_lines_up_by_name(users: Users, db: Connection) -> None:
    for name in ("bob", "Ada", "漢字", "007"):
        add_user(db, name)
    users("promote", "bob")

    assert users("list").stdout.splitlines() == [
        "  id  username    admin    disabled    created at            last sign in at",
        "----  ----------  -------  ----------  --------------------  -----------------",
        "   5  007         no       no          1970-01-01T00:00:00Z  never",
        "   3  Ada         no       no          1970-01-01T00:00:00Z  never",
        "   2  bob         yes      no          1970-01-01T00:00:00Z  never",
        "   1  travis      no       no          2023-11-14T22:13:20Z  never",
        "   4  漢字        no       no          1970-01-01T00:00:00Z  never",
    ]


@pytest.mark.parametrize(
    ("prefix", "found"),
    [("a", ["Ada", "ángel"]), ("AD", ["Ada"]), ("a%", []), ("", ["Ada", "travis", "ángel"])],
)
def test_list_finds_names_by_their_beginning(
    users: Users, db: Connection, prefix: str, found: list[str]
) -> None:
    add_user(db, "Ada")
    add_user(db, "ángel")

    lines = users("list", "--json", "--search", prefix).stdout.splitlines()

    expected = [name for name in found if name != "ángel" or prefix == ""]
    assert [json.loads(line)["username"] for line in lines] == expected


def test_list_says_that_there_is_nobody(users: Users, db: Connection) -> None:
    assert users("list", "--search", "x").output == "No name begins with 'x'.\n"
    users("delete", "travis", "--yes")
    assert users("list").output == "There are no users.\n"


def test_list_shows_more_than_one_page(
    users: Users, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_rows, "PAGE_SIZE", 2)
    for name in ("a", "b", "c", "d"):
        add_user(db, name)

    lines = users("list", "--json").stdout.splitlines()

    assert [json.loads(line)["username"] for line in lines] == ["a", "b", "c", "d", "travis"]


def test_show_tells_what_is_known_and_no_hash(
    users: Users, client: FlaskClient, db: Connection
) -> None:
    assert can_sign_in(client, "travis", "mypassword")

    shown, as_json = users("show", "TRAVIS"), users("show", "travis", "--json")

    assert shown.stdout.splitlines() == [
        "id               1",
        "username         travis",
        "admin            no",
        "disabled         no",
        "created at       2023-11-14T22:13:20Z",
        "last sign in at  2023-11-14T22:13:20Z",
    ]
    assert json.loads(as_json.stdout) == {
        "id": 1, "username": "travis", "admin": False, "disabled": False,
        "created_at": "2023-11-14T22:13:20Z", "last_sign_in_at": "2023-11-14T22:13:20Z",
    }  # fmt: skip
    assert row(db, "travis")["password_hash"] not in shown.output + as_json.output


def test_a_failed_sign_in_is_no_sign_in(client: FlaskClient, db: Connection) -> None:
    assert not can_sign_in(client, "travis", "wrong")

    assert row(db, "travis")["last_sign_in_at"] is None


def test_a_person_is_asked_twice_and_the_password_is_not_shown(tmp_path: Path) -> None:
    flask(tmp_path, BASE_ENVIRONMENT, "init-db")

    code, seen = run_at_terminal(
        tmp_path, [PASSWORD, "a typo", PASSWORD, PASSWORD], "users", "add", "ada"
    )

    assert code == 0
    assert "Created: user ada (id 1)" in seen
    assert "do not match" in seen
    assert seen.count("The same again") == 2
    assert PASSWORD not in seen


def every_command(group: click.Group, parents: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield parents + name, command
        if isinstance(command, click.Group):
            yield from every_command(command, f"{parents}{name} ")


def test_the_help_teaches(app: Flask) -> None:
    users = app.test_cli_runner().invoke(args=["users", "--help"]).output
    assert "users add ada" in users
    assert "Ends with 0" in users

    for name, command in every_command(app.cli):
        assert "..." not in command.get_short_help_str(60), name
        assert (command.help or "").strip().endswith("."), name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (name, parameter.name)
