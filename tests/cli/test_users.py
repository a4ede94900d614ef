"""`flask users`: the effect, output and exit code of each command."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import click
import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from jwt_server.database import Connection, Database
from jwt_server.errors import LastAdmin
from jwt_server.security import policy
from jwt_server.users import users as user_rows
from tests.helpers.app import MakeApp, commands_of
from tests.helpers.factories import CREDENTIALS, OPERATOR, add_user, execute
from tests.helpers.sql import lock_writers_out

PASSWORD = "correct horse battery"

Users = Callable[..., Result]


@pytest.fixture
def users(app: Flask) -> Users:
    """Run `flask users ...` with `sent` on standard input."""

    def run(*command: str, sent: str | bytes = "") -> Result:
        return app.test_cli_runner().invoke(args=("users", *command), input=sent)

    return run


def row(db: Connection, username: str) -> dict[str, Any]:
    found = user_rows.find_by_name(db, username)
    assert found is not None
    return found


def rows(db: Connection) -> list[dict[str, Any]]:
    return list(user_rows.each_by_name(db))


def can_sign_in(client: FlaskClient, username: str, password: str) -> bool:
    response = client.post("/auth", data={"username": username, "password": password})
    assert response.status_code in (200, 401)
    return response.status_code == 200


def generated_password(done: Result) -> str:
    return done.stdout.splitlines()[0].removeprefix("Password: ")


def test_an_added_user_can_sign_in(users: Users, client: FlaskClient) -> None:
    done = users("add", "Ada", "--password-stdin", sent=f"{PASSWORD}\n")

    assert (done.exit_code, done.output) == (0, "Created: user Ada (id 2)\n")
    assert can_sign_in(client, "ada", PASSWORD)


def test_add_can_make_an_admin(users: Users, db: Connection) -> None:
    done = users("add", "ada", "--admin", "--password-stdin", sent=PASSWORD)

    assert done.output == "Created: admin ada (id 2)\n"
    assert row(db, "ada")["admin"] == 1


def test_a_generated_password_is_printed_once_and_works(users: Users, client: FlaskClient) -> None:
    added, changed = users("add", "ada", "--generate"), users("passwd", "ada", "--generate")

    first, second = generated_password(added), generated_password(changed)
    assert first != second
    assert not can_sign_in(client, "ada", first)
    assert can_sign_in(client, "ada", second)


@pytest.mark.usefixtures("database")
def test_characters_that_the_terminal_lacks_are_escaped(app: Flask) -> None:
    runner = app.test_cli_runner(charset="latin-1")

    added = runner.invoke(args=["users", "add", "Юля", "--generate"])
    shown = runner.invoke(args=["users", "show", "Юля"])

    assert (added.exit_code, shown.exit_code) == (0, 0)
    assert added.stdout.splitlines()[1] == r"Created: user \u042e\u043b\u044f (id 2)"
    assert r"\u042e\u043b\u044f" in shown.stdout


@pytest.mark.parametrize("min_length", [1, 34, 35, 64])
def test_a_generated_password_has_the_minimum_length(
    make_app: MakeApp, database: Database, min_length: int
) -> None:
    app = make_app(password_min_length=min_length)

    done = app.test_cli_runner().invoke(args=["users", "add", "ada", "--generate"])

    password = generated_password(done)
    assert len(password) == {35: 39, 64: 64}.get(min_length, 34)
    assert policy.find_problem(password, "ada", min_length) is None


@pytest.mark.parametrize(
    ("sent", "password"),
    [
        (" x y z 1 2 3 ", " x y z 1 2 3 "),
        ("1 2 3 4 5 6 \n", "1 2 3 4 5 6 "),
        ("1 2 3 4 5 6\r\n", "1 2 3 4 5 6"),
        ("1 2 3 4 5 6\n\n", "1 2 3 4 5 6\n"),
        ("\ufeff1 2 3 4 5 6\r\n", "1 2 3 4 5 6"),
        ("\ufeff" + "🐈" * 256 + "\r\n", "🐈" * 256),
    ],
)
def test_a_byte_order_mark_and_one_line_end_are_not_part_of_the_password(
    users: Users, client: FlaskClient, sent: str, password: str
) -> None:
    assert users("passwd", "travis", "--password-stdin", sent=sent.encode()).exit_code == 0
    assert can_sign_in(client, "travis", password)


def test_a_taken_name_is_refused_before_the_password_prompt(users: Users) -> None:
    for name in ("Travis", "TRAVIS", "ｔravis"):
        done = users("add", name)

        assert (done.exit_code, done.output) == (1, "Error: That name is taken. Choose another.\n")


def test_an_invalid_name_is_refused(users: Users, db: Connection) -> None:
    before = rows(db)
    for name in ("", "a" * 65, "ﷺ" * 4, "a\tb", "a\x1b[31mb", "a\u200bb", "a\ue000b", "a\udcffb"):
        done = users("add", "--generate", "--", name)

        assert done.exit_code == 1
        assert done.output.startswith("Error: username: ")
    assert rows(db) == before


def test_any_other_name_is_accepted(users: Users, client: FlaskClient) -> None:
    for name in ("a", "a" * 64, "Ünal", "漢字", "a b", "-x", "'; DROP TABLE users"):
        done = users("add", "--password-stdin", "--", name, sent=PASSWORD)

        assert done.exit_code == 0
        assert can_sign_in(client, name.swapcase(), PASSWORD)


def test_a_password_that_the_policy_refuses(users: Users, db: Connection) -> None:
    add_user(db, "ada.lovelace", password_hash="-")
    before = rows(db)
    for password in (
        b"", b"1234567", b"x" * 257, b"correct\0horse", b"PASSWORD1", b"Ada.Lovelace2026",
        b"\xff\xfe" * 4, b"\xff" * 100_000, b"\xc3\xa4" * 100_000,
    ):  # fmt: skip
        for command in (("passwd", "ada.lovelace"), ("add", "ada.lovelace2")):
            done = users(*command, "--password-stdin", sent=password)

            assert done.exit_code == 1
            assert done.output.startswith("Error: password: ")
    assert rows(db) == before


def test_the_minimum_length_is_a_setting(make_app: MakeApp, database: Database) -> None:
    app = make_app(password_min_length=12)

    done = app.test_cli_runner().invoke(
        args=["users", "add", "ada", "--password-stdin"], input="elevenchars"
    )

    assert done.exit_code == 1
    assert "12 characters" in done.output


@pytest.mark.parametrize("command", [("add", "ada"), ("passwd", "travis")])
def test_a_wrong_command_line_is_exit_code_2(
    users: Users, db: Connection, command: tuple[str, ...]
) -> None:
    before = rows(db)
    for options in (
        (), ("--generate", "--password-stdin"), ("--password", PASSWORD), (PASSWORD,)
    ):  # fmt: skip
        assert users(*command, *options).exit_code == 2
    assert rows(db) == before


def test_passwd_replaces_the_password_and_ends_all_sessions(
    users: Users, client: FlaskClient, travis: dict[str, str]
) -> None:
    done = users("passwd", "TRAVIS", "--password-stdin", sent=PASSWORD)

    changed = "Changed: the password of travis (sessions ended: 1)\n"
    assert (done.exit_code, done.output) == (0, changed)
    assert can_sign_in(client, "travis", PASSWORD)
    assert not can_sign_in(client, "travis", "mypassword")
    assert client.get("/my-pets", headers=travis).text == "Revoked token. Sign in again."


def test_an_unknown_name_is_exit_code_1(users: Users) -> None:
    for command in ("show", "passwd", "promote", "demote", "enable", "disable", "unlock", "delete"):
        done = users(command, "nobody")

        assert (done.exit_code, done.output) == (1, "Error: There is no user 'nobody'.\n")


@pytest.mark.parametrize(
    "command", [("show", "--"), ("delete", "--yes", "--"), ("list", "--search")]
)
def test_an_impossible_name_is_not_printed_as_it_is(users: Users, command: tuple[str, ...]) -> None:
    for name in ("\udcff", "x\x1b[31mred", "e\u0301" * 60_000, ""):
        done = users(*command, name)

        assert done.exit_code in (0, 1)
        assert done.exception is None or isinstance(done.exception, SystemExit)
        assert "\x1b" not in done.output
        assert len(done.output) < 1000


def test_promote_and_demote(users: Users, db: Connection) -> None:
    add_user(db, "ada", password_hash="-")
    users("promote", "ada")

    assert users("promote", "TRAVIS").output == "travis is an admin now.\n"
    assert users("promote", "travis").output == "travis is an admin now.\n"
    assert row(db, "travis")["admin"] == 1
    assert users("demote", "travis").output == "travis is not an admin now.\n"
    assert users("demote", "travis").output == "travis is not an admin now.\n"
    assert row(db, "travis")["admin"] == 0


def test_disable_refuses_a_user_at_once_and_enable_undoes_it(
    users: Users, client: FlaskClient, travis: dict[str, str]
) -> None:
    assert users("disable", "travis").output == "travis is disabled now.\n"
    assert users("disable", "travis").output == "travis is disabled now.\n"
    refused = client.get("/my-pets", headers=travis)
    wrong = client.post("/auth", data=CREDENTIALS | {"password": "wrong"})
    right = client.post("/auth", data=CREDENTIALS)

    assert (refused.status_code, refused.text) == (403, "Token of a disabled user.")
    problem = client.get("/pets", headers=travis | {"Accept": "application/json"}).get_json()
    assert (problem["status"], problem["code"]) == (401, "token_user_disabled")
    assert (right.status_code, right.data) == (wrong.status_code, wrong.data)
    assert users("enable", "travis").output == "travis is enabled now.\n"
    assert users("enable", "travis").output == "travis is enabled now.\n"
    assert client.get("/my-pets", headers=travis).text == "Revoked token. Sign in again."
    assert can_sign_in(client, "travis", "mypassword")


def test_delete_asks_first_and_deletes_the_pets(users: Users, db: Connection) -> None:
    add_user(db, "ada", password_hash="-")
    for refused in (users("delete", "travis", sent="n\n"), users("delete", "travis")):
        assert refused.exit_code == 1
        assert row(db, "travis")

    done = users("delete", "TRAVIS", sent="y\n")

    assert done.output.endswith("[y/N]: y\nDeleted: travis (id 1)\n")
    assert [user["username"] for user in rows(db)] == ["ada"]
    assert db.queries.pets.page_of_user(user_id=1, id=0, limit=1) == []
    assert users("delete", "ada", "--yes").output == "Deleted: ada (id 2)\n"


@pytest.mark.parametrize("command", [("demote",), ("disable",), ("delete", "--yes")])
def test_the_last_enabled_admin_is_kept(
    users: Users, db: Connection, command: tuple[str, ...]
) -> None:
    users("promote", "travis")
    add_user(db, "ada", password_hash="-")
    users("promote", "ada")
    users("disable", "ada")

    done = users(*command, "travis")

    assert done.exit_code == 1
    assert done.output == (
        "Error: No other enabled admin has chosen a password. Promote a user who has one first.\n"
    )
    assert (row(db, "travis")["admin"], row(db, "travis")["disabled"]) == (1, 0)
    users("enable", "ada")
    assert users(*command, "travis").exit_code == 0
    assert users("delete", "ada", "--yes").exit_code == 1


CHANGES: dict[str, Callable[[Connection, int], object]] = {
    "demote": lambda db, user_id: user_rows.set_admin(db, user_id, admin=False, actor=OPERATOR),
    "disable": lambda db, user_id: user_rows.set_disabled(
        db, user_id, disabled=True, actor=OPERATOR
    ),
    "delete": partial(user_rows.remove, actor=OPERATOR),
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_of_two_admins_is_kept_when_both_are_changed_at_once(
    db: Connection, database: Database, change: str
) -> None:
    for number in range(10):  # enough for a race to show
        pair = [add_user(db, f"{letter}{number}", password_hash="-") for letter in "ab"]
        execute(db, "UPDATE users SET admin = 0, disabled = 0")
        execute(db, "UPDATE users SET admin = 1 WHERE id IN (?, ?)", *pair)
        assert count_refused(database, pair, CHANGES[change]) == 1


def count_refused(
    database: Database, pair: list[int], change: Callable[[Connection, int], object]
) -> int:
    """Change both users at the same time, and count who is kept as the last admin."""
    barrier = threading.Barrier(2)

    def is_refused(user_id: int) -> bool:
        with database.connection() as db:
            user_rows.find_by_id(db, user_id)
            barrier.wait(timeout=120)
            try:
                change(db, user_id)
            except LastAdmin:
                return True
        return False

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(is_refused, pair))


def test_list_is_a_table_in_the_order_of_names(users: Users, db: Connection) -> None:
    for name in ("bob", "Ada", "漢字", "007"):
        add_user(db, name, password_hash="-")
    users("promote", "bob")

    assert [line.rstrip() for line in users("list").stdout.splitlines()] == [
        "id    username    admin    disabled    created at            last sign-in",
        "----  ----------  -------  ----------  --------------------  --------------",
        "5     007         no       no          1970-01-01T00:00:00Z",
        "3     Ada         no       no          1970-01-01T00:00:00Z",
        "2     bob         yes      no          1970-01-01T00:00:00Z",
        "1     travis      no       no          2023-11-14T22:13:20Z",
        "4     漢字        no       no          1970-01-01T00:00:00Z",
    ]


def test_list_filters_names_by_prefix(users: Users, db: Connection) -> None:
    add_user(db, "Ada", password_hash="-")
    add_user(db, "ángel", password_hash="-")
    for prefix, expected in {
        "a": ["Ada"], "AD": ["Ada"], "á": ["ángel"], "a%": [], "": ["Ada", "travis", "ángel"]
    }.items():  # fmt: skip
        lines = users("list", "--json", "--search", prefix).stdout.splitlines()

        assert [json.loads(line)["username"] for line in lines] == expected


def test_list_of_nobody(users: Users) -> None:
    assert users("list", "--search", "x").output == "Nothing found.\n"
    assert users("list", "--search", "x", "--json").output == ""


def test_list_reads_more_than_one_page(
    users: Users, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_rows, "PAGE_SIZE", 2)
    for name in ("a", "b", "c", "d"):
        add_user(db, name, password_hash="-")

    lines = users("list", "--json").stdout.splitlines()

    assert [json.loads(line)["username"] for line in lines] == ["a", "b", "c", "d", "travis"]


def test_show_prints_the_user_without_the_hash(
    users: Users, client: FlaskClient, db: Connection
) -> None:
    assert not can_sign_in(client, "travis", "wrong")
    assert row(db, "travis")["last_sign_in_at"] is None
    assert can_sign_in(client, "travis", "mypassword")

    as_text, as_json = users("show", "TRAVIS"), users("show", "travis", "--json")

    time = "2023-11-14T22:13:20Z"
    assert as_text.stdout.splitlines()[-1].split() == [
        "1", "travis", "no", "no", time, time, "{}",
    ]  # fmt: skip
    assert json.loads(as_json.stdout) == {
        "id": 1, "username": "travis", "admin": False, "disabled": False,
        "created_at": time, "last_sign_in_at": time, "password_expires_at": None, "claims": {},
    }  # fmt: skip
    assert row(db, "travis")["password_hash"] not in as_text.output + as_json.output


def test_claims_are_shown_while_another_process_writes(users: Users, db: Connection) -> None:
    lock_writers_out(db)

    assert users("claims", "travis").output == "{}\n"


def every_command(group: click.Group, parents: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in commands_of(group).items():
        yield parents + name, command
        if isinstance(command, click.Group):
            yield from every_command(command, f"{parents}{name} ")


def test_every_command_and_option_has_help(app: Flask) -> None:
    for name, command in every_command(app.cli):
        assert (command.help or "").strip(), name
        assert "\\b" not in (command.help or ""), name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (name, parameter.name)
