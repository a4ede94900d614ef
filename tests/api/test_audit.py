"""The audit log: recorded actions, pruning, the `audit` command."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server import audit
from jwt_server.audit import Action, Actor
from jwt_server.database import Connection, Database
from jwt_server.users import users
from tests.helpers.admin import Rows, facts
from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import DAY, DEFAULT_LIMITS, HOME, JSON, STRANGER, guesses, refresh, sign_in
from tests.helpers.databases import database_in, url_of
from tests.helpers.factories import CREDENTIALS, OPERATOR, add_user, bearer
from tests.helpers.sql import broken_audit_log, every_row

NEW = {"username": "Ada", "password": "a long passphrase"}


@pytest.fixture
def app(make_app: MakeApp, database: Database) -> Flask:
    """An app with the default limits."""
    return make_app(**DEFAULT_LIMITS, signup="open")


def test_sign_in_and_sign_out_are_recorded(client: FlaskClient, rows: Rows, clock: Clock) -> None:
    tokens = sign_in(client)
    client.post("/auth", data=CREDENTIALS)
    client.post("/auth/reauth", json={"password": "mypassword"}, headers=bearer_of(tokens))
    client.post("/auth/logout?scope=others", headers=bearer_of(tokens))
    client.post("/auth/logout", headers=bearer_of(tokens))

    found = rows()
    assert [facts(row) for row in found] == [
        ("signed_in", 1, 1, "127.0.0.1", {}),
        ("signed_in", 1, 1, "127.0.0.1", {}),
        ("reauthenticated", 1, 1, "127.0.0.1", {}),
        ("sessions_ended", 1, 1, "127.0.0.1", {"sessions": 2}),
        ("signed_out", 1, 1, "127.0.0.1", {}),
    ]
    assert {row["at"] for row in found} == {int(clock())}
    first = found[0]["details"]["session"]
    assert [row["details"].get("session") == first for row in found] == [
        True, False, True, False, True,
    ]  # fmt: skip


def bearer_of(tokens: dict[str, Any]) -> dict[str, str]:
    return bearer(tokens["access_token"])


def test_sessions_ended_by_token_and_by_id_are_recorded(client: FlaskClient, rows: Rows) -> None:
    mine, other, third = sign_in(client), sign_in(client), sign_in(client)
    ids = [row["details"]["session"] for row in rows()]
    for _ in range(2):
        client.post("/auth/logout", json={"refresh_token": other["refresh_token"]})
        client.delete(f"/auth/sessions/{ids[2]}", headers=bearer_of(mine))
    client.post("/auth/logout", json={"refresh_token": "x"})

    assert [(row["action"], row["actor_id"], row["details"]) for row in rows()] == [
        ("signed_out", 1, {"session": ids[1]}),
        ("session_ended", 1, {"session": ids[2]}),
    ]
    assert refresh(client, third["refresh_token"])["code"] == "session_ended"


def test_account_changes_are_recorded(client: FlaskClient, rows: Rows) -> None:
    client.post("/users", json=NEW)
    headers = bearer_of(sign_in(client, **NEW))
    client.patch("/me", json={"username": "Eve"}, headers=headers)
    client.patch("/me", json={"username": "Eve"}, headers=headers)
    body = {"current_password": NEW["password"], "new_password": "another passphrase"}
    changed = client.put("/me/password", json=body, headers=headers).get_json()
    before = rows()
    client.delete("/me", json={"password": body["new_password"]}, headers=bearer_of(changed))

    assert [facts(row) for row in before] == [
        ("signed_up", None, 2, "127.0.0.1", {"username": "Ada", "admin": False}),
        ("signed_in", 2, 2, "127.0.0.1", {}),
        ("user_renamed", 2, 2, "127.0.0.1", {"username": "Eve", "former_username": "Ada"}),
        ("password_changed", 2, 2, "127.0.0.1", {"sessions_ended": 1}),
    ]
    assert [facts(row) for row in rows()] == [
        ("user_deleted", 2, 2, "127.0.0.1", {"username": "Eve"}),
    ]


def test_deletion_anonymizes_the_users_rows(
    client: FlaskClient, rows: Rows, db: Connection
) -> None:
    client.post("/users", json=NEW)
    headers = bearer_of(sign_in(client, **NEW))
    client.patch("/me", json={"username": "Eve"}, headers=headers)
    guesses(client)("Eve", address=STRANGER)
    sign_in(client)
    with db.transaction():
        audit.record(db, Actor(2, HOME, 0), Action.USER_RENAMED, 1, username="travis")
    client.delete("/me", json={"password": NEW["password"]}, headers=headers)

    *older, last = rows()
    assert [facts(row) for row in older] == [
        ("signed_up", None, 2, None, {"admin": False}),
        ("signed_in", 2, 2, None, {}),
        ("user_renamed", 2, 2, None, {}),
        ("sign_in_failed", None, 2, None, {}),
        ("signed_in", 1, 1, "127.0.0.1", {}),
        ("user_renamed", 2, 1, None, {"username": "travis"}),
    ]
    assert facts(last) == ("user_deleted", 2, 2, "127.0.0.1", {"username": "Eve"})
    assert not {"Ada", STRANGER, HOME} & set(json.dumps(older).split('"'))


def test_unknown_names_are_keyed_hashes(
    client: FlaskClient, rows: Rows, db: Connection, make_app: MakeApp
) -> None:
    names = ["correct horse battery", "Correct  Horse Battery", "CORRECT HORSE BATTERY", "x" * 64]
    for name in names:
        guesses(client)(name)
    other = make_app(**DEFAULT_LIMITS, secret_keys=(b"another secret key of 32 bytes and more",))
    guesses(other.test_client())(names[0])
    guesses(client)("Travis")

    found = rows()
    hashes = [row["details"].get("unknown_name") for row in found]
    assert {row["action"] for row in found} == {"sign_in_failed"}
    assert [row["user_id"] for row in found] == [None] * 5 + [1]
    assert hashes[0] == hashes[2]
    assert len(set(hashes)) == 5
    assert hashes[5] is None
    dump = str(every_row(db)).casefold()
    assert not any(word in dump for word in ("horse", "xxxx"))


def test_a_lockout_is_recorded_once(client: FlaskClient, rows: Rows, clock: Clock) -> None:
    guess = guesses(client)
    for _ in range(20):
        guess()
    clock.advance(1)
    assert [guess().status_code for _ in range(3)] == [401, 429, 429]
    clock.advance(10)
    guess()

    found = rows()
    assert [row["action"] for row in found] == [
        *["sign_in_failed"] * 5, "locked_out", "sign_in_failed", "sign_in_failed",
    ]  # fmt: skip
    assert facts(found[5]) == ("locked_out", None, 1, STRANGER, {"limit": "account and address"})


def test_lockouts_name_their_limit(make_app: MakeApp, database: Database, rows: Rows) -> None:
    app = make_app(**DEFAULT_LIMITS | {"throttle_account": 8, "throttle_address": 4}, signup="open")
    guess = guesses(app.test_client())
    for number in range(5):
        guess(f"nobody-{number}")
    for number in range(9):
        guess(address=f"198.51.100.{number}")

    locked = [row for row in rows() if row["action"] == "locked_out"]
    assert [(row["user_id"], row["address"], row["details"]["limit"]) for row in locked] == [
        (None, STRANGER, "address"), (1, "198.51.100.7", "account"),
    ]  # fmt: skip
    assert locked[0]["details"]["unknown_name"].startswith("account.")


def test_success_at_the_limit_is_no_lockout(
    make_app: MakeApp, database: Database, rows: Rows
) -> None:
    client = make_app(**DEFAULT_LIMITS | {"throttle_address": 4}).test_client()
    for number in range(3):
        guesses(client)(f"nobody-{number}", address=HOME)
    for _ in range(5):
        assert guesses(client)("travis", "mypassword", HOME).status_code == 200

    assert [row["action"] for row in rows()] == [*["sign_in_failed"] * 3, *["signed_in"] * 5]


def test_sign_up_lockout_is_recorded(client: FlaskClient, rows: Rows) -> None:
    for _ in range(12):
        client.post("/users", json=NEW | {"username": "travis"})

    assert [facts(row) for row in rows()] == [
        ("locked_out", None, None, "127.0.0.1", {"limit": "sign-up"})
    ]


def test_refresh_lockout_is_recorded(client: FlaskClient, rows: Rows) -> None:
    token = sign_in(client)["refresh_token"]
    [opened] = rows()
    for _ in range(30):
        token = refresh(client, token)["refresh_token"]
    for _ in range(3):
        assert client.post("/auth/refresh", json={"refresh_token": token}).status_code == 429

    [row] = rows()
    assert facts(row) == ("locked_out", None, 1, "127.0.0.1", {"limit": "refresh"})
    assert row["details"]["session"] == opened["details"]["session"]


def test_wrong_password_of_a_signed_in_user_is_recorded(client: FlaskClient, rows: Rows) -> None:
    headers = bearer_of(sign_in(client))
    rows()
    for _ in range(7):
        client.post("/auth/reauth", json={"password": "wrong"}, headers=headers)

    assert [facts(row) for row in rows()] == [
        *[("password_refused", 1, 1, "127.0.0.1", {})] * 5,
        ("locked_out", 1, 1, "127.0.0.1", {"limit": "session"}),
    ]


def test_reuse_is_recorded_once_and_logged_as_warning(
    client: FlaskClient, rows: Rows, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    stolen = sign_in(client)
    refresh(client, stolen["refresh_token"])
    [opened] = rows()
    clock.advance(11)
    for _ in range(3):
        refresh(client, stolen["refresh_token"])

    [row] = rows()
    assert facts(row) == ("refresh_token_reused", None, 1, "127.0.0.1", {})
    assert row["details"]["session"] == opened["details"]["session"]
    *_, record = [each for each in caplog.records if each.name == "jwt_server.audit"]
    assert (record.levelno, record.__dict__["action"]) == (logging.WARNING, "refresh_token_reused")


def test_refused_and_rolled_back_changes_are_not_recorded(
    client: FlaskClient, rows: Rows, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jwt_server.audit")
    add_user(db, "ada")
    headers = bearer_of(sign_in(client)) | JSON
    rows()
    caplog.clear()
    client.patch("/me", json={"username": "ADA"}, headers=headers)
    client.delete("/me", json={}, headers=headers)
    client.post("/auth", data={"username": "travis"})
    client.post("/users", json={"username": "x", "password": "short"})
    with broken_audit_log(db):
        assert client.patch("/me", json={"username": "eve"}, headers=headers).status_code == 500

    assert rows() == []
    assert [each for each in caplog.records if each.name == "jwt_server.audit"] == []
    assert client.get("/me", headers=headers).get_json()["username"] == "travis"


def test_rolled_back_transactions_are_not_logged(
    db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jwt_server.audit")
    actor = Actor(1, HOME, 0)

    with pytest.raises(KeyError), db.transaction():
        audit.record(db, actor, Action.PASSWORD_SET, 1)
        raise KeyError
    with db.transaction():
        audit.record(db, actor, Action.REAUTHENTICATED, 1)
        assert caplog.records == []

    assert [each.__dict__["action"] for each in caplog.records] == ["reauthenticated"]


def test_transaction_with_a_failed_part_is_not_committed(db: Connection, rows: Rows) -> None:
    def fail() -> None:
        with suppress(KeyError), db.transaction():
            audit.record(db, Actor(1, HOME, 0), Action.PASSWORD_SET, 1)
            raise KeyError

    with pytest.raises(RuntimeError, match="A part of this transaction"), db.transaction():
        fail()

    assert rows() == []


def test_transaction_with_a_failed_query_is_not_committed(db: Connection, rows: Rows) -> None:
    """PostgreSQL would roll it back, and not say so."""

    def fail() -> None:
        with suppress(db.engine.error):
            db.queries.audit.insert(
                at=None, action="", actor_id=None, user_id=None, address="", details=""
            )

    with pytest.raises(RuntimeError, match="A part of this transaction"), db.transaction():
        audit.record(db, Actor(1, HOME, 0), Action.PASSWORD_SET, 1)
        fail()

    assert rows() == []


def test_sign_ins_prune_old_rows(
    make_app: MakeApp, database: Database, db: Connection, clock: Clock
) -> None:
    client = make_app(**DEFAULT_LIMITS, audit_retention=30).test_client()
    for _ in range(45):
        audit.record(db, OPERATOR, Action.USER_ADDED, 1)
    recent = Actor(None, None, int(clock()) - 30 * DAY)
    audit.record(db, recent, Action.USER_ADDED, 7)

    def left() -> int:
        row = db.driver.execute("SELECT count(*) AS n FROM audit WHERE action = 'user_added'")
        return int(row.fetchone()["n"])

    assert left() == 47
    sign_in(client)
    assert left() == 27
    guesses(client)("nobody")
    assert left() == 7
    sign_in(client)
    assert left() == 2
    clock.advance(1)
    sign_in(client)
    assert left() == 1


def test_prune_deletes_old_rows(client: FlaskClient, db: Connection) -> None:
    with db.transaction():
        for _ in range(2500):
            audit.record(db, OPERATOR, Action.USER_ADDED, 1)

    done = client.application.test_cli_runner().invoke(args=["prune"])

    assert done.output.endswith("Deleted: 2500 audit rows\n")


@pytest.mark.parametrize(
    ("command", "row"),
    [
        ("users add ada --generate", ("user_added", 2, {"username": "ada", "admin": False})),
        ("users passwd travis --generate", ("password_set", 1, {"sessions_ended": 1})),
        ("users promote travis", ("user_promoted", 1, {})),
        ("users disable travis", ("user_disabled", 1, {})),
        ("users delete travis --yes", ("user_deleted", 1, {"username": "travis"})),
        ("sessions end --user travis", ("sessions_ended", 1, {"sessions": 1})),
        ("sessions end --all", ("sessions_ended", None, {"sessions": 1})),
        ("users demote travis", None),
        ("users enable travis", None),
        ("users unlock travis", None),
        ("users show travis", None),
        ("users add travis --generate", None),
        ("prune", None),
        ("seed", None),
    ],
)  # fmt: skip
def test_changes_by_commands_are_recorded(
    app: Flask, rows: Rows, caplog: pytest.LogCaptureFixture, command: str, row: Any
) -> None:
    caplog.set_level(logging.INFO, "jwt_server.audit")
    app.test_cli_runner().invoke(args=command.split())

    found = [(each["action"], each["user_id"], each["details"]) for each in rows()]
    assert found == ([] if row is None else [row])
    assert caplog.records == []


def test_user_commands_are_recorded(
    app: Flask, client: FlaskClient, rows: Rows, db: Connection
) -> None:
    users.set_admin(db, add_user(db, "ada"), admin=True, actor=OPERATOR)
    for _ in range(5):
        guesses(client)()
    rows()
    for command in ("promote", "demote", "disable", "enable", "unlock"):
        app.test_cli_runner().invoke(args=["users", command, "travis"])

    assert [(row["action"], row["actor_id"], row["user_id"], row["address"]) for row in rows()] == [
        (action, None, 1, None)
        for action in (
            "user_promoted", "user_demoted", "user_disabled", "user_enabled", "user_unlocked",
        )
    ]  # fmt: skip


@pytest.mark.usefixtures("database")
def test_key_changes_are_recorded(
    make_app: MakeApp, rows: Rows, clock: Clock, tmp_path: Any
) -> None:
    app = make_app(jwt_algorithm="ES256", jwt_keys_dir=tmp_path / "keys")
    run = app.test_cli_runner().invoke
    run(args=["keys", "rotate"])
    [first] = rows()
    run(args=["keys", "revoke", first["details"]["kid"]])

    assert (first["action"], first["user_id"]) == ("key_added", None)
    revoked, added = rows()
    assert (revoked["action"], revoked["details"]) == ("key_revoked", first["details"])
    assert added["details"]["kid"] != first["details"]["kid"]
    run(args=["keys", "rotate"])
    clock.advance(365 * DAY)
    run(args=["keys", "prune"])
    *_, removed = rows()
    assert (removed["action"], removed["details"]) == ("key_removed", added["details"])


def test_keys_rotate_without_a_database(make_app: MakeApp, tmp_path: Any) -> None:
    missing = database_in(tmp_path)
    app = make_app(database=missing, jwt_algorithm="EdDSA", jwt_keys_dir=tmp_path / "keys")

    done = app.test_cli_runner().invoke(args=["keys", "rotate"])

    assert done.exit_code == 0
    assert "Added:" in done.output
    assert "This is not in the audit log: " in done.output
    assert url_of(missing).rpartition("/")[2] in done.output


# The audit command


def lines(done: Any) -> list[dict[str, Any]]:
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.output.splitlines()]


@pytest.fixture
def events(client: FlaskClient, clock: Clock) -> FlaskClient:
    client.post("/users", json=NEW)
    clock.advance(60)
    guesses(client)("ada")
    guesses(client)("nobody")
    clock.advance(60)
    sign_in(client)
    return client


def test_audit_command_shows_the_newest_first(events: FlaskClient) -> None:
    done = events.application.test_cli_runner().invoke(args=["audit"])

    assert done.exit_code == 0
    head, rule, *table = done.output.splitlines()
    assert head.split() == ["at", "action", "user", "by", "address", "details"]
    assert set(rule) == {"-", " "}
    assert [row.split()[:2] for row in table] == [
        ["2023-11-14T22:15:20Z", "signed_in"],
        ["2023-11-14T22:14:20Z", "sign_in_failed"],
        ["2023-11-14T22:14:20Z", "sign_in_failed"],
        ["2023-11-14T22:13:20Z", "signed_up"],
        ["2023-11-14T22:13:20Z", "user_added"],
    ]
    assert "travis (1)" in table[0]
    assert "Ada (2)" in table[2]
    assert 'username="Ada" admin=false' in table[3]
    assert "nobody" not in done.output
    columns = [head.index(name) for name in ("action", "user", "by", "address", "details")]
    assert all(row[start - 1 : start] in {"", " "} for row in [head, *table] for start in columns)


def test_audit_command_filters_and_prints_json(events: FlaskClient) -> None:
    run = events.application.test_cli_runner().invoke

    for options, ids in {
        "": [5, 4, 3, 2, 1],
        "--limit 2": [5, 4],
        "--user ada": [3, 2],
        "--user 2": [3, 2],
        "--user 77": [],
        "--action sign_in_failed": [4, 3],
        "--action sign_in_failed --user Ada": [3],
        "--action signed_in --user Ada": [],
    }.items():
        rows = lines(run(args=["audit", "--json", *options.split()]))
        assert [row["id"] for row in rows] == ids, options
        for row in rows:
            assert list(row) == ["id", "at", "action", "actor_id", "user_id", "address", "details"]


def test_audit_command_reads_all_pages(app: Flask, db: Connection) -> None:
    with db.transaction():
        for _ in range(2500):
            audit.record(db, OPERATOR, Action.USER_ADDED, 1)

    rows = lines(app.test_cli_runner().invoke(args=["audit", "--json", "--limit", "9999"]))

    assert [row["id"] for row in rows] == [1, *range(2501, 1, -1)]  # the first is the newest


def test_audit_command_reports_what_was_not_found(app: Flask) -> None:
    for args, exit_code, text in (
        (["--user", "nobody"], 1, "There is no user 'nobody'."),
        (["--user", "9" * 30], 1, "There is no user"),
        (["--action", "nonsense"], 2, "is not one of"),
        (["--limit", "0"], 2, "is not in the range"),
        (["--user", "77"], 0, "Nothing found."),
    ):
        done = app.test_cli_runner().invoke(args=["audit", *args])
        assert done.exit_code == exit_code
        assert text in done.output


def test_audit_command_on_an_empty_log(app: Flask, db: Connection) -> None:
    db.driver.execute("DELETE FROM audit")

    assert app.test_cli_runner().invoke(args=["audit"]).output == "Nothing found.\n"


# The export


def test_export_has_no_details_about_other_users(
    client: FlaskClient, db: Connection, clock: Clock
) -> None:
    admin = add_user(db, "boss")
    actor = Actor(admin, "192.0.2.1", int(clock()))
    audit.record(db, actor, Action.USER_PROMOTED, 1)
    audit.record(db, Actor(1, HOME, int(clock())), Action.USER_RENAMED, admin, username="chief")
    guesses(client)()
    headers = bearer_of(sign_in(client))

    found = client.get("/me/export", headers=headers).get_json()["audit"]

    told = [(row["action"], row["actor_id"], row["address"], row["details"]) for row in found]
    assert told[:4] == [
        ("user_added", None, None, {"username": "travis"}),
        ("user_promoted", admin, None, {}),
        ("user_renamed", 1, HOME, None),
        ("sign_in_failed", None, STRANGER, {}),
    ]
    assert (found[4]["action"], found[4]["at"]) == ("signed_in", "2023-11-14T22:13:20Z")
