"""A failed sign-in reveals nothing about the name: same bytes, same statements, same hashing.

Work is counted, not timed; bench/timing.py measures it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import bcrypt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from passlib.hash import bcrypt as plain_bcrypt

from jwt_server.database import Connection, Database
from jwt_server.security.passwords import hash_password
from jwt_server.users import users
from jwt_server.web.service import EXTENSION
from tests.helpers.app import MakeApp
from tests.helpers.auth import DEFAULT_LIMITS, HOME, STRANGER, guesses, sign_in
from tests.helpers.factories import OPERATOR, add_user
from tests.helpers.sql import tracing

NAMES = ("nobody", "known", "disabled", "cheap", "unusable", "demoted")
LITERAL = re.compile(r"'(?:[^']|'')*'|\bNULL\b|\b\d+\b")


@pytest.fixture
def app(make_app: MakeApp, database: Database, db: Connection) -> Flask:
    """An app with the default limits, and users of all kinds but `nobody`."""
    for name in NAMES[1:]:
        add_user(db, name, password_hash=hash_password("correct horse", 6))
    users.set_disabled(db, users.get_by_name(db, "disabled")["id"], disabled=True, actor=OPERATOR)
    for name, stored in (("cheap", plain_bcrypt.using(rounds=4).hash("x")), ("unusable", "!")):
        users.set_password(db, users.get_by_name(db, name)["id"], stored, actor=OPERATOR)
    return make_app(**DEFAULT_LIMITS, salt_rounds=6)


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """A function that returns the work of bcrypt since its last call: the sum of 2^cost."""
    costs: list[int] = []

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(password: bytes, salt: bytes) -> Any:
            costs.append(2 ** int(salt.split(b"$")[2]))
            return function(password, salt)

        return run

    for name in ("hashpw", "checkpw"):
        monkeypatch.setattr(bcrypt, name, noted(getattr(bcrypt, name)))

    def taken() -> int:
        total = sum(costs)
        costs.clear()
        return total

    return taken


@contextmanager
def traced(app: Flask) -> Iterator[list[str]]:
    """The statements that the app's connections run, without their literals."""
    database: Database = app.extensions[EXTENSION].database
    statements: list[str] = []
    tracers = ExitStack()
    with ExitStack() as stack:
        connections = [stack.enter_context(database.connection()) for _ in range(3)]
        for each in connections:
            tracers.enter_context(
                tracing(each, lambda sql: statements.append(LITERAL.sub("?", sql)))
            )
        stack.callback(statements.clear)
    with tracers:
        yield statements


@pytest.mark.parametrize(("password", "forms"), [("wrong", 1), ("wro\u0301ng", 2)], ids=ascii)
def test_failed_sign_ins_do_the_same_work(
    app: Flask, client: FlaskClient, spent: Callable[[], int], password: str, forms: int
) -> None:
    work: dict[str, list[tuple[list[str], int]]] = {}
    with traced(app) as statements:
        for name in NAMES:
            for _ in range(8):  # five are hashed, then three are refused
                statements.clear()
                guesses(client)(name, password, STRANGER)
                work.setdefault(name, []).append((list(statements), spent()))

    first = work["nobody"]
    assert [hashed for _, hashed in first] == [forms * 2**6] * 5 + [0] * 3
    assert any("INSERT INTO audit" in sql for sql in first[0][0])
    assert all(len(sql) == 1 and "SELECT max(blocked_until)" in sql[0] for sql, _ in first[5:])
    for name, found in work.items():
        assert found == first, name


def test_failed_sign_ins_do_the_same_work_at_a_known_address(
    app: Flask, client: FlaskClient, spent: Callable[[], int]
) -> None:
    sign_in(client)
    spent()
    guesses(client)("travis", address=HOME)
    elsewhere = spent()
    guesses(client)("travis", address="127.0.0.1")

    assert spent() == elsewhere == 2**6


@pytest.mark.parametrize("accept", ["text/plain", "application/json"])
def test_failed_sign_ins_get_identical_responses(client: FlaskClient, accept: str) -> None:
    responses: dict[str, list[Any]] = {}
    for name in NAMES:
        for _ in range(8):
            response = guesses(client)(name, address=STRANGER, Accept=accept)
            told = {key: value for key, value in response.headers if key != "X-Request-ID"}
            responses.setdefault(name, []).append((response.status_code, response.data, told))

    first = responses["nobody"]
    assert [status for status, _, _ in first] == [401] * 5 + [429] * 3
    assert first[5][2]["Retry-After"] == "1"
    for name, found in responses.items():
        assert found == first, name
