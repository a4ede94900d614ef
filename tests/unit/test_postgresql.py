"""The URL of a PostgreSQL database, and what the service makes of it before it connects."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

import pytest

from jwt_server import postgresql
from jwt_server.config import Settings
from jwt_server.database import Database
from jwt_server.errors import ConfigurationError, DatabaseUnavailable
from jwt_server.postgresql import DEFAULTS
from tests.helpers.factories import SECRET_KEY

URL = "postgresql://jwt_server:hunter2@db.example.com:5433/logins"


def test_parameters_of_the_url_win_over_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGCONNECT_TIMEOUT")
    engine = postgresql.Engine(f"{URL}?connect_timeout=9&options=-c%20lock_timeout%3D9s")

    assert engine.parameters["connect_timeout"] == "9"
    assert engine.parameters["options"].endswith(" -c lock_timeout=9s")
    assert "statement_timeout=5s" in engine.parameters["options"]
    others = DEFAULTS.keys() - {"connect_timeout"}
    assert {name: engine.parameters[name] for name in others} == {
        name: DEFAULTS[name] for name in others
    }


def test_variables_of_libpq_win_over_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "9")
    monkeypatch.setenv("PGOPTIONS", "-c lock_timeout=9s")

    parameters = postgresql.Engine(URL).parameters
    own = postgresql.Engine(f"{URL}?connect_timeout=3&options=-c%20lock_timeout%3D3s").parameters

    assert "connect_timeout" not in parameters  # libpq reads the variable
    assert parameters["options"].endswith(" -c lock_timeout=9s")
    assert own["connect_timeout"] == "3"
    assert own["options"].endswith(" -c lock_timeout=3s")


def test_own_parameters_are_not_passed_to_libpq() -> None:
    engine = postgresql.Engine(f"{URL}?pool=3&prepared_statements=false&sslmode=verify-full")

    assert engine.pool_size == 3
    assert engine.parameters["sslmode"] == "verify-full"
    assert not engine.parameters.keys() & {"pool", "prepared_statements"}


def test_several_hosts_are_kept() -> None:
    engine = postgresql.Engine("postgresql://a:1,b:2/logins?pool=4")

    assert (engine.parameters["host"], engine.parameters["port"]) == ("a,b", "1,2")
    assert engine.parameters["target_session_attrs"] == "read-write"


@pytest.mark.parametrize(
    "query",
    ["pool=0", "pool=-1", "pool=1000", "pool=x", "pool=", "pool=٣", "prepared_statements=no",
     "unknown=1", "sslmode"],
)  # fmt: skip
def test_invalid_parameters_are_refused_without_showing_the_password(query: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL: ") as caught:
        Database(f"{URL}?{query}")

    assert "hunter2" not in str(caught.value)


def test_password_is_in_no_representation() -> None:
    database = Database(URL)
    settings = Settings((SECRET_KEY,), (), database=URL)

    assert database.engine.name == "postgresql://db.example.com:5433/logins"
    assert "hunter2" not in f"{database!r} {settings!r} {database.engine.address}"


@pytest.mark.parametrize("name", sorted(postgresql.SECRETS))
def test_secrets_are_not_in_what_other_programs_connect_with(name: str) -> None:
    engine = postgresql.Engine(f"postgresql://db.example.com/logins?{name}=hunter2")

    assert engine.address == "'dbname=logins host=db.example.com'"


@pytest.mark.parametrize(
    ("places", "query", "name"),
    [
        ("", "", ""),
        ("", "?port=5433", ":5433"),
        ("db1,db2", "", "db1,db2"),
        ("db1:5433,db2:5434", "", "db1:5433,db2:5434"),
        ("db1,db2", "?port=5433", "db1:5433,db2:5433"),
    ],
)
def test_name_has_each_host_with_its_port(places: str, query: str, name: str) -> None:
    database = Database(f"postgresql://{places}/logins{query}")

    assert database.engine.name == f"postgresql://{name}/logins"


def test_missing_driver_is_named_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "jwt_server.postgresql")
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(ConfigurationError, match=r"pip install --requirement requirements-postg"):
        Database(URL)


def test_sqlite_needs_no_driver_of_postgresql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "jwt_server.postgresql")
    monkeypatch.setitem(sys.modules, "psycopg", None)

    assert Database(tmp_path / "x.db").engine.dialect == "sqlite"


def test_server_that_dies_between_connecting_and_the_first_query_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"postgresql://u@127.0.0.1:{listener.getsockname()[1]}/logins"
        thread = threading.Thread(target=accept_and_die, args=(listener,))
        thread.start()
        engine = postgresql.Engine(f"{url}?sslmode=disable&gssencmode=disable")
        with pytest.raises(DatabaseUnavailable, match="can't be opened"):
            engine.connect()
        thread.join()


def accept_and_die(listener: socket.socket) -> None:
    """Accept a client as a primary, in PostgreSQL's protocol, and close at its first query."""
    client, _ = listener.accept()
    with client:
        client.recv(65536)
        values = (b"in_hot_standby\0off\0", b"default_transaction_read_only\0off\0")
        for kind, body in ((b"R", bytes(4)), *((b"S", value) for value in values), (b"Z", b"I")):
            client.sendall(kind + (4 + len(body)).to_bytes(4, "big") + body)
        client.recv(65536)
