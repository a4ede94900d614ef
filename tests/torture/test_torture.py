"""A short `make torture`, and checks that it finds every kind of loss."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jwt_server.security.passwords import hash_password
from tests.helpers.databases import ON_POSTGRESQL
from tests.helpers.secrets import find_secrets
from tests.helpers.waiting import until
from tests.torture import checks, report
from tests.torture.__main__ import main
from tests.torture.databases import UnderTorture, describe_sqlite, has_wal_reset_bug
from tests.torture.record import ACKNOWLEDGED, Account, Ledger
from tests.torture.run import Plan, Torture
from tests.torture.verify import verify
from tests.torture.wire import NoResponse, Outage, Wire

pytestmark = pytest.mark.slow

KILLS = 8 if ON_POSTGRESQL else 4


@pytest.fixture(scope="module")
def torture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Torture]:
    """A finished short run: its records and its database."""
    folder = tmp_path_factory.mktemp("torture")
    plan = Plan(KILLS, clients=6, seed=7, every=2, max_pause=0.5)
    with closing(Torture(plan, folder, lambda _: None)) as torture:
        torture.run()
        yield torture


def test_nothing_is_lost_by_kills(torture: Torture) -> None:
    result = torture.result

    assert result.ledger.lost == []
    assert result.killed >= KILLS
    assert bool(result.recoveries) == ON_POSTGRESQL
    assert result.own_checks > KILLS / 2
    assert result.ledger.checks > KILLS
    assert result.over_http >= 1
    record = {name for name, outcome in result.ledger.counts if outcome == ACKNOWLEDGED}
    assert record >= {
        "sign-up", "sign-in", "refresh", "password change", "rename", "account deletion",
        "pet added", "pet replaced", "pet removed", "sign-out: local", "sign-out: others",
    }  # fmt: skip
    assert find_secrets(torture.target.log()) == []


def test_the_table_shows_the_result(torture: Torture) -> None:
    table = report.table(torture.result, describe_sqlite("3.40.1"))

    assert "\n\n0 lost" in table
    assert "3.40.1, which has the WAL-reset bug" in table
    assert f"kills {torture.result.killed}/{KILLS}" in report.progress(torture.result)


def pick(torture: Torture) -> dict[str, object]:
    """Return things in the records, to be damaged."""
    accounts = [each for each in torture.accounts() if each.user_id]
    here = [each for each in accounts if not each.deleted]
    changed = next(each for each in reversed(here) if each.old_passwords)
    robbed = next(each for each in here if each.removed_pets and each is not changed)
    return {
        "user": here[0].user_id,
        "deleted": next(each.user_id for each in accounts if each.deleted),
        "pet": next(pet for each in here for pet in each.pets),
        "gone_pet": next(iter(robbed.removed_pets)),
        "gone_pets_user": robbed.user_id,
        "live": next(each for one in here for each in one.usable()).id,
        "dead": next(each for one in here for each in one.ended_sessions() if each.access_token).id,
        "rotated": next(each for one in here for each in one.active() if each.generation > 1).id,
        "changed": changed.user_id,
        "old_hash": hash_password(changed.old_passwords[-1], 4),
    }


REVIVE = "UPDATE sessions SET ended_at = NULL, expires_at = ends_at WHERE id = :dead"
ROLL_BACK = "UPDATE users SET password_hash = :old_hash WHERE id = :changed"
LOSE_PET = "DELETE FROM pets WHERE id = :pet"
REGAIN_PET = "INSERT INTO pets VALUES (:gone_pet, :gone_pets_user, 'Ru', NULL, 0)"
ADD_USER = (
    "INSERT INTO users (id, username, username_key, password_hash, created_at)"
    " VALUES ({}, 'x', 'x', '', 0)"
)

SABOTAGE = {
    "a pet is lost": (LOSE_PET, "pet {pet}: found None"),
    "a pet is half there": ("UPDATE pets SET species = 'half' WHERE id = :pet", "pet {pet}: found"),
    "a removed pet is back": (REGAIN_PET, "pet {gone_pet}: found"),
    "a revoked session is back": (REVIVE, "session {dead}: found"),
    "a live session is lost": ("DELETE FROM sessions WHERE id = :live", "session {live}: found"),
    "a live session has ended": (
        "UPDATE sessions SET ended_at = 1 WHERE id = :live", "session {live}: found"),
    "a rotation is undone": (
        "UPDATE sessions SET generation = generation - 1 WHERE id = :rotated",
        "session {rotated}: found"),
    "a session is there that nobody opened": (
        "INSERT INTO sessions (id, user_id, nonce, generation, refreshable, created_at, rotated_at,"
        " last_used_at, authenticated_at, expires_at, ends_at, address, user_agent)"
        " SELECT 'x', user_id, nonce, 1, 1, 0, 0, 0, 0, 9, 9, '', '' FROM sessions"
        " WHERE id = :live", "session x: found"),
    "a password is rolled back": (ROLL_BACK, "user {changed}: password: found False"),
    "a name is rolled back": (
        "UPDATE users SET username = 'x' WHERE id = :user", "user {user}: found"),
    "a user is lost": ("DELETE FROM users WHERE id = :user", "user {user}: found []"),
    "a deleted user is back": (
        ADD_USER.format(":deleted"),
        "deleted user {deleted}: rows of users"),
    "of a deleted user a row is left": (
        "INSERT INTO known_addresses VALUES (:deleted, '10.0.0.1', 0)",
        "deleted user {deleted}: rows of known_addresses"),
    "somebody is there who never signed up": (
        ADD_USER.format(9999), "unknown users"),
    "ids begin anew": (
        "ALTER SEQUENCE pets_id_seq RESTART" if ON_POSTGRESQL
        else "UPDATE sqlite_sequence SET seq = 0 WHERE name = 'pets'", "ids of pets go on"),
    "a row belongs to nobody": (
        "INSERT INTO pets (user_id, name, created_at) VALUES (8888, 'x', 0)",
        "pets_user_id_fkey" if ON_POSTGRESQL else "foreign_key_check"),
    "a row breaks its table's rules": (
        "UPDATE users SET admin = 7 WHERE id = :user",
        "users_admin_check" if ON_POSTGRESQL else "integrity_check"),
}  # fmt: skip


def spoil(database: UnderTorture, torture: Torture, *statements: str) -> None:
    for statement in statements:
        database.spoil(statement, pick(torture))


def losses(database: UnderTorture, torture: Torture) -> list[str]:
    """Return the losses that the checks of the database find."""
    ledger = Ledger()
    ledger.ids = torture.result.ledger.ids
    checks.integrity(database, ledger)
    checks.compare(database, torture.accounts(), ledger)
    return ledger.lost


@pytest.fixture
def copy(torture: Torture, tmp_path: Path) -> UnderTorture:
    return torture.database.copy(tmp_path)


@pytest.mark.parametrize(("statement", "expected"), SABOTAGE.values(), ids=SABOTAGE)
def test_each_loss_in_the_database_is_found(
    torture: Torture, copy: UnderTorture, statement: str, expected: str
) -> None:
    assert losses(copy, torture) == []

    spoil(copy, torture, statement)

    found = losses(copy, torture)
    assert any(expected.format(**pick(torture)) in line for line in found), found


def test_a_damaged_file_is_found(torture: Torture, copy: UnderTorture) -> None:
    copy.damage()

    assert losses(copy, torture) != []


@pytest.fixture
def restarted(torture: Torture, copy: UnderTorture) -> Iterator[Callable[..., list[str]]]:
    """Start the service on a damaged database and query it; returns the losses."""
    ledger = torture.result.ledger

    def restart(*statements: str) -> list[str]:
        spoil(torture.database, torture, *statements)
        torture.target.start()
        torture.target.wait()
        for client in torture.clients:
            verify(client, everything=True)
        torture.target.stop()
        return list(ledger.lost)

    yield restart
    ledger.lost.clear()
    torture.database.restore(copy)


def test_each_loss_is_found_over_http(
    torture: Torture, restarted: Callable[..., list[str]]
) -> None:
    picked = pick(torture)

    found = "\n".join(restarted(REVIVE, ROLL_BACK, LOSE_PET, REGAIN_PET))

    assert f"ended session {picked['dead']}: access: found 200" in found
    assert f"removed pet {picked['gone_pet']}: found 200" in found
    assert f"({picked['changed']}): the password does not sign in" in found
    assert ": pets: found" in found


def test_a_run_with_a_loss_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def lose_pets(torture: Torture) -> None:
        def are_there() -> bool:
            with torture.database.reading() as query:
                return len(query("SELECT id FROM pets")) > 3

        until(are_there, 60)
        torture.database.spoil("DELETE FROM pets", {})

    options = ["--kills", "1", "--clients", "3", "--seed", "1", "--folder", str(tmp_path)]
    assert main(options, lose_pets) == 1

    out = capsys.readouterr().out
    assert "\n0 lost" not in out
    assert "pet" in out.split(" lost\n")[-1]


@pytest.mark.parametrize(
    ("version", "has"),
    [
        ("3.40.1", True), ("3.44.5", True), ("3.44.6", False), ("3.45.0", True), ("3.50.6", True),
        ("3.50.7", False), ("3.51.2", True), ("3.51.3", False), ("3.52.0", False),
    ],
)  # fmt: skip
def test_sqlite_versions_with_the_wal_reset_bug(version: str, *, has: bool) -> None:
    assert has_wal_reset_bug(version) is has


ANSWERS = {
    "no answer though nothing was killed": (b"", "though nothing was killed"),
    "a 503 that does not say how long to wait": (
        b"HTTP/1.1 503 Oops\r\nContent-Length: 2\r\n\r\n{}", "GET /me: 503"),
    "a mistake of the service's": (
        b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}", "GET /me: 500"),
}  # fmt: skip


@pytest.mark.parametrize(("response", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_a_failure_without_a_kill_is_a_loss(response: bytes, expected: str) -> None:
    ledger, outage = Ledger(), Outage()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_once, args=(listener, response))
        thread.start()
        wire = Wire(listener.getsockname()[1], "10.0.0.1", outage, ledger)
        if response:
            assert wire.send("GET", "/me").status >= 500
        else:
            with pytest.raises(NoResponse):
                wire.send("GET", "/me")
        thread.join()
    wire.close()

    assert len(ledger.lost) == 1
    assert expected in ledger.lost[0]


def answer_once(listener: socket.socket, response: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(response)


def test_an_id_that_is_used_twice_is_a_loss() -> None:
    ledger = Ledger()

    ledger.add_id("pets", 7)
    ledger.add_id("pets", 7)

    assert ledger.lost == ["pets: the id 7 was used twice"]
    assert Account("x", "y").active() == []
