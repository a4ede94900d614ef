"""`flask doctor` on PostgreSQL: every problem that it finds, on a server with it and without it."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask
from psycopg import sql

from jwt_server.app import create_app
from jwt_server.cli import doctor_postgresql
from jwt_server.config import Settings
from jwt_server.database import Database
from jwt_server.web.service import Service
from tests.helpers.doctor import Report, examine_service
from tests.helpers.factories import add_user
from tests.helpers.pgbouncer import pgbouncer
from tests.helpers.postgresql import PASSWORD, Cluster
from tests.helpers.postgresql_programs import user
from tests.helpers.waiting import until

pytestmark = pytest.mark.hosts

GOOD: dict[str, Any] = {
    "secret_keys": (secrets.token_urlsafe(48).encode(),),
    "jwt_secrets": (secrets.token_urlsafe(48).encode(),),
    "salt_rounds": 10,
    "workers": 2,
}


Examine = Callable[..., Report]


@pytest.fixture(scope="module")
def shared_app() -> Flask:
    return create_app(Settings(database=Path("unused.db"), **GOOD))


@pytest.fixture
def examine(shared_app: Flask) -> Examine:
    """Run the command on the database of a URL."""

    def run(url: str, clock: Callable[[], float] = time.time) -> Report:
        report = examine_service(shared_app, Service(Settings(database=url, **GOOD), clock))
        assert PASSWORD not in report.text
        return report

    return run


def fill(url: str) -> None:
    """Create the tables, and an admin."""
    with closing(Database(url)) as database:
        database.engine.create()
        with database.connection() as db:
            add_user(db, "ada", password_hash="*")
            db.driver.execute("UPDATE users SET admin = 1")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster that keeps what is committed, with a database without a problem."""
    with Cluster(durable=True) as cluster:
        fill(cluster.url)
        yield cluster


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """A copy of that database, to be changed."""
    yield cluster.create_database("changed", "jwt_server")
    cluster.drop_database("changed")


def test_a_healthy_service_has_no_problems(cluster: Cluster, examine: Examine) -> None:
    report = examine(cluster.url)

    assert (report.exit_code, report.problems) == (0, {})
    assert list(report.levels) == [
        "database", "server", "connection", "standbys",
        "users", "secrets", "files", "audit log", "settings",
    ]  # fmt: skip


def test_a_database_that_can_not_be_used(cluster: Cluster, examine: Examine) -> None:
    for url, text in (
        (cluster.url_of("nowhere"), "does not exist"),
        (cluster.url_of("template1"), "`init-db`"),
        ("postgresql://127.0.0.1:1/x", "can't be opened"),
    ):
        report = examine(url)

        skipped = ("server", "connection", "standbys", "users", "audit log")
        assert report.problems == {"database": {"UNSAFE"}} | {each: {"note"} for each in skipped}
        assert (report.exit_code, text in report.text) == (1, True)


TRIGGER = """
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER t AFTER INSERT ON sessions EXECUTE FUNCTION f()
"""


@pytest.mark.parametrize(
    ("script", "change"),
    [
        (TRIGGER, "trigger 't' of sessions"),
        ("CREATE RULE r AS ON DELETE TO audit DO INSTEAD NOTHING", "rule 'r' of audit"),
        ("DROP INDEX sessions_by_expiry", "index 'sessions_by_expiry' of sessions"),
        (
            "DROP INDEX pets_of_user; CREATE INDEX pets_of_user ON pets (user_id)",
            "index 'pets_of_user' of pets",
        ),
        ("CREATE UNIQUE INDEX i ON users (username)", "index 'i' of users"),
        ("ALTER TABLE users ADD COLUMN x INT DEFAULT 1", "column 'x' of users"),
        ("ALTER TABLE users DROP COLUMN disabled", "column 'disabled' of users"),
        ("ALTER TABLE users ALTER admin SET DEFAULT 1", "column 'admin' of users"),
        ("ALTER TABLE users ALTER username_key TYPE TEXT", "column 'username_key' of users"),
        ("ALTER TABLE users DROP CONSTRAINT users_admin_check", "'users_admin_check' of users"),
        ("ALTER TABLE audit SET UNLOGGED", "table 'audit' of audit"),
        ("ALTER TABLE users ENABLE ROW LEVEL SECURITY", "table 'users' of users"),
        ("CREATE TABLE more () INHERITS (users)", "table 'users' of users"),
        (
            "CREATE TABLE other (id BIGINT CONSTRAINT c REFERENCES users)",
            "constraint 'c' of users",
        ),
        ("DROP TABLE throttle", "of throttle"),
    ],
)
def test_a_changed_schema(database: str, examine: Examine, script: str, change: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(script.encode())

    report = examine(database)

    assert report.problems["database"] == {"UNSAFE"}
    assert f"{change} is not as" in report.text


def test_an_invalid_index(cluster: Cluster, database: str, examine: Examine) -> None:
    with psycopg.connect(f"{cluster.admin_url}&dbname=changed", autocommit=True) as connection:
        connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit_by_age'::regclass"
        )

    report = examine(database)

    assert "index 'audit_by_age' of audit is not as" in report.text


def test_what_is_no_change_of_the_schema(database: str, examine: Examine) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE other (id INT)")
        connection.execute("CREATE VIEW names AS SELECT username FROM users")
        connection.execute("CREATE SCHEMA mine CREATE TABLE users (x INT)")
        connection.execute("ALTER TABLE users ADD COLUMN x INT")
        connection.execute("ALTER TABLE users DROP COLUMN x")
        connection.execute("VACUUM (FULL, ANALYZE)")

    assert examine(database).problems == {}
    with psycopg.connect(database) as connection:  # the comparison leaves nothing
        left = connection.execute("SELECT count(*) FROM pg_class WHERE relname = 'users'")
        assert left.fetchone() == (2,)


def test_tables_in_another_schema_are_no_change(cluster: Cluster, examine: Examine) -> None:
    with psycopg.connect(cluster.create_database("schema"), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA service")
        connection.execute("ALTER DATABASE schema SET search_path = service, public")
    fill(cluster.url_of("schema"))

    assert examine(cluster.url_of("schema")).problems == {}
    cluster.drop_database("schema")


def test_a_role_that_can_not_create_temporary_tables(
    cluster: Cluster, database: str, examine: Examine
) -> None:
    cluster.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE changed FROM PUBLIC, jwt_server"))

    report = examine(database)

    assert report.problems == {"database": {"WARNING"}}
    assert "permission denied" in report.text


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_server_that_may_lose_commits(cluster: Cluster, examine: Examine, name: str) -> None:
    cluster.options[name] = "off"
    cluster.reload()
    until(lambda: examine(cluster.url).problems == {"server": {"UNSAFE"}}, 10)
    report = examine(cluster.url)
    del cluster.options[name]
    cluster.reload()

    assert report.exit_code == 1
    assert f"{name} is off: a crash" in report.text
    until(lambda: examine(cluster.url).problems == {}, 10)


def test_an_encoding_without_all_characters(cluster: Cluster, examine: Examine) -> None:
    cluster.execute(
        sql.SQL(
            "CREATE DATABASE latin OWNER jwt_server ENCODING 'LATIN1' TEMPLATE template0"
            " LOCALE_PROVIDER libc LOCALE 'C'"
        )
    )
    fill(cluster.url_of("latin"))

    report = examine(cluster.url_of("latin"))

    assert report.problems == {"server": {"UNSAFE"}}
    assert "encoding is LATIN1" in report.text
    cluster.drop_database("latin")


def test_an_old_release(
    cluster: Cluster, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_postgresql, "MIN_VERSION", 99)

    report = examine(cluster.url)

    assert report.problems == {"server": {"WARNING"}}
    assert "is too old" in report.text


@pytest.mark.parametrize(
    ("seconds", "problems"),
    [
        (-60, {"server": {"UNSAFE"}}),
        (-4, {"server": {"WARNING"}}),
        (0, {}),
        (4, {"server": {"WARNING"}}),
        (60, {"server": {"UNSAFE"}}),
    ],
)
def test_a_clock_that_differs(
    cluster: Cluster, examine: Examine, seconds: int, problems: Mapping[str, set[str]]
) -> None:
    assert examine(cluster.url, lambda: time.time() + seconds).problems == problems


def test_a_pool_beyond_the_servers_connections(cluster: Cluster, examine: Examine) -> None:
    # Of 100 connections, 3 are reserved; there are 2 workers.
    assert examine(f"{cluster.url}?pool=48").problems == {}

    report = examine(f"{cluster.url}?pool=49")

    assert report.problems == {"connection": {"WARNING"}}
    assert "2 workers may open 98 connections, of 97" in report.text


def test_a_superuser(cluster: Cluster, examine: Examine) -> None:
    report = examine(f"{cluster.admin_url}&dbname=jwt_server")

    assert report.problems == {"connection": {"WARNING"}}
    assert "The role postgres is a superuser" in report.text


def test_a_schema_in_which_every_role_can_create(
    cluster: Cluster, database: str, examine: Examine
) -> None:
    with psycopg.connect(database) as driver:
        driver.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")

    report = examine(database)

    assert (report.exit_code, report.problems) == (1, {"connection": {"UNSAFE"}})
    with psycopg.connect(database) as driver:
        driver.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    assert examine(database).problems == {}


def test_timeouts_that_a_pgbouncer_drops(cluster: Cluster, examine: Examine) -> None:
    with pgbouncer(cluster) as url:
        report = examine(url)
        assert report.problems == {"connection": {"WARNING"}}
        [advice] = [
            finding["advice"]
            for finding in map(json.loads, report.text.splitlines())
            if finding["check"] == "connection"
        ]
        cluster.execute(sql.SQL(advice))
    with pgbouncer(cluster) as url:
        after = examine(f"{url}?pool=99")  # PgBouncer accepts more connections than the server
    cluster.execute(sql.SQL("ALTER ROLE jwt_server RESET ALL"))

    assert after.problems == {}


def own_certificate(cluster: Cluster) -> Path:
    """Give a cluster a certificate for 0.0.0.0, which is this machine; return its file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("0.0.0.0"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for file, content in (
        ("server.key", private), ("server.crt", certificate.public_bytes(pem)),
    ):  # fmt: skip
        path = cluster.data / file
        path.touch(mode=0o600)
        path.write_bytes(content)
        if owner := user():
            os.chown(path, owner["user"], owner["group"])
    cluster.options["ssl"] = "on"
    cluster.reload()
    return cluster.data / "server.crt"


def test_a_remote_server_without_verified_tls(cluster: Cluster, examine: Examine) -> None:
    remote = cluster.url.replace("127.0.0.1", "0.0.0.0")  # connects to this machine all the same
    certificate = own_certificate(cluster)

    for mode, problems in (
        ("disable", {"connection": {"UNSAFE"}}),
        ("prefer", {"connection": {"UNSAFE"}}),
        ("require", {"connection": {"WARNING"}}),
        ("verify-ca", {"connection": {"WARNING"}}),
        ("verify-full", {}),
    ):
        report = examine(f"{remote}?sslmode={mode}&sslrootcert={certificate}")
        assert report.problems == problems, mode

    assert examine(f"{remote}").problems == {"connection": {"UNSAFE"}}
    assert examine(f"{cluster.url}?sslmode=disable").problems == {}
    several = f"{cluster.url.removesuffix('/jwt_server')},db.example.com:5432/jwt_server"
    assert "others can pose as db.example.com, or read all" in examine(several).text


def test_a_file_of_passwords_that_others_can_read(
    cluster: Cluster, examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passwords"
    file.touch(mode=0o600)
    assert examine(f"{cluster.url}?passfile={file}").problems == {}

    file.chmod(0o644)

    assert examine(f"{cluster.url}?passfile={file}").problems == {"files": {"UNSAFE"}}
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert examine(cluster.url).problems == {"files": {"UNSAFE"}}


def test_a_standby_that_is_behind(examine: Examine) -> None:
    with Cluster(durable=True) as primary:
        fill(primary.url)
        standby = primary.standby()
        assert examine(primary.url).problems == {"standbys": {"note"}}  # it may not be read
        primary.execute(sql.SQL("GRANT pg_monitor TO jwt_server"))
        until(lambda: examine(primary.url).problems == {}, 20)

        with psycopg.connect(standby.admin_url, autocommit=True) as connection:
            [pid] = connection.execute("SELECT pid FROM pg_stat_wal_receiver").fetchone() or ()
        os.kill(pid, signal.SIGSTOP)
        for _ in range(2):
            primary.execute(sql.SQL("SELECT pg_logical_emit_message(false, '', 'x')"))
            primary.execute(sql.SQL("SELECT pg_switch_wal()"))
        report = examine(primary.url)
        os.kill(pid, signal.SIGCONT)

    assert (report.problems, report.exit_code) == ({"standbys": {"WARNING"}}, 0)
    assert "standby is " in report.text
