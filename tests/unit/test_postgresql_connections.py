"""Connections to PostgreSQL that can't be made, hang, or end; and those over TLS."""

from __future__ import annotations

import datetime
import ipaddress
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from psycopg import sql

from jwt_server import postgresql
from jwt_server.database import Connection, Database
from jwt_server.errors import DatabaseUnavailable
from tests.helpers.postgresql import PASSWORD, Cluster
from tests.helpers.postgresql_programs import user
from tests.helpers.unreachable import SilentHost, host_that_drops_packets, silent_host
from tests.helpers.waiting import until

OURS = "FROM pg_stat_activity WHERE application_name = 'jwt-server'"
TERMINATE = sql.SQL(f"SELECT pg_terminate_backend(pid, 10000) {OURS}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster with tables."""
    with Cluster() as cluster:
        postgresql.Engine(cluster.url).create()
        yield cluster


@pytest.fixture(autouse=True)
def own_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have connections made within the service's own limit of time."""
    monkeypatch.delenv("PGCONNECT_TIMEOUT")


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    with closing(Database(cluster.url)) as database:
        yield database


def options(**limits: str) -> str:
    """Return the part of a URL that sets limits."""
    return "?options=" + "%20".join(f"-c%20{name}%3D{value}" for name, value in limits.items())


def insert(db: Connection, key: str) -> None:
    db.driver.execute("INSERT INTO throttle VALUES (%s, 1, 1, 0)", [key])


def keys(cluster: Cluster) -> set[str]:
    with psycopg.connect(cluster.url) as driver:
        return {row[0] for row in driver.execute("SELECT key FROM throttle").fetchall()}


def sessions(cluster: Cluster) -> list[str]:
    """Return the states of the service's connections."""
    with psycopg.connect(cluster.admin_url) as driver:
        return [row[0] for row in driver.execute(f"SELECT state {OURS}".encode()).fetchall()]


def failure(database: Database) -> str:
    """Return why no connection can be made."""
    with pytest.raises(DatabaseUnavailable) as caught:
        database.engine.check(starting=True)
    return str(caught.value)


class TestStart:
    def test_wrong_password_is_named_and_not_shown(self, cluster: Cluster) -> None:
        cause = failure(Database(cluster.url.replace(PASSWORD, "hunter2")))

        assert 'password authentication failed for user "jwt_server"' in cause
        assert "check DATABASE_URL" in cause
        assert "hunter2" not in cause
        assert "\n" not in cause

    def test_missing_database_is_named(self, cluster: Cluster) -> None:
        assert 'database "missing" does not exist' in failure(Database(cluster.url_of("missing")))

    def test_missing_tables_are_said_with_the_next_step(self, cluster: Cluster) -> None:
        assert "init-db" in failure(Database(cluster.create_database("empty")))

    def test_missing_privileges_are_named(self, cluster: Cluster) -> None:
        cluster.execute(sql.SQL("CREATE ROLE other LOGIN"))
        database = Database(f"{cluster.admin_url}&dbname=jwt_server&user=other")

        assert "permission denied for table schema_version" in failure(database)

    def test_missing_tls_is_named(self, cluster: Cluster) -> None:
        assert "SSL was required" in failure(Database(f"{cluster.url}?sslmode=require"))

    def test_standby_is_refused(self, cluster: Cluster) -> None:
        standby = cluster.standby("alone")

        assert "session is read-only" in failure(Database(standby.url))
        assert "in hot standby mode" in failure(
            Database(f"{standby.url}?target_session_attrs=primary")
        )

    def test_host_that_does_not_answer_is_given_up(self) -> None:
        with silent_host() as silent, host_that_drops_packets() as dropping:
            for port in (silent.port, dropping):
                url = f"postgresql://jwt_server:{PASSWORD}@127.0.0.1:{port}/jwt_server"
                cause = failure(Database(url))
                assert "timeout expired" in cause
                assert PASSWORD not in cause


class TestHosts:
    @pytest.fixture
    def silent(self) -> Iterator[SilentHost]:
        with silent_host() as silent:
            yield silent

    def test_host_that_answered_is_tried_first_from_then_on(
        self, cluster: Cluster, silent: SilentHost
    ) -> None:
        address = f"127.0.0.1:{silent.port},{cluster.address}"
        engine = postgresql.Engine(cluster.url.replace(cluster.address, address))
        engine.check()
        assert silent.connections() == 1

        for _ in range(3):
            engine.check()
        assert silent.connections() == 0

    def test_hosts_may_be_addresses_with_ports_of_their_own(self, cluster: Cluster) -> None:
        engine = postgresql.Engine(
            f"postgresql://jwt_server:{PASSWORD}@/jwt_server"
            f"?hostaddr=127.0.0.1,127.0.0.1&port={cluster.port},{cluster.port}"
        )
        engine.check()

    @pytest.mark.parametrize("hosts", ["127.0.0.1,localhost", "localhost,127.0.0.1,localhost"])
    def test_hosts_with_one_port_are_kept(self, cluster: Cluster, hosts: str) -> None:
        engine = postgresql.Engine(
            f"postgresql://jwt_server:{PASSWORD}@/jwt_server?host={hosts}&port={cluster.port}"
        )
        engine.check()
        engine.check()

        assert engine.parameters["host"] == hosts

    def test_many_threads_make_one_attempt_at_a_host_that_is_down(self, silent: SilentHost) -> None:
        engine = postgresql.Engine(f"postgresql://a:b@127.0.0.1:{silent.port}/c")

        def connect(_number: int) -> None:
            with pytest.raises(DatabaseUnavailable):
                engine.connect()

        with ThreadPoolExecutor(50) as pool:
            list(pool.map(connect, range(50)))
        assert silent.connections() == 1  # the others waited for it, and were refused
        with ThreadPoolExecutor(50) as pool:
            list(pool.map(connect, range(500)))
        assert silent.connections() <= 10  # nobody waits any more

    def test_first_connection_after_an_outage_succeeds(self, cluster: Cluster) -> None:
        cluster.stop()
        with closing(Database(cluster.url)) as database:
            for _ in range(3):
                assert "refused" in failure(database)
            cluster.start()
            with database.connection() as db:
                assert db.driver.execute("SELECT 1 AS one").fetchall() == [{"one": 1}]


class TestPool:
    def test_exhausted_pool_names_the_setting(self, cluster: Cluster) -> None:
        with closing(Database(f"{cluster.url}?pool=1")) as database:
            with database.connection(), pytest.raises(DatabaseUnavailable, match="`pool`"):
                database.acquire()
            with database.connection() as db:
                insert(db, "pool")

    def test_terminated_idle_connections_are_replaced(
        self, cluster: Cluster, database: Database
    ) -> None:
        with database.connection(), database.connection(), database.connection():
            pass
        cluster.execute(TERMINATE)

        for _ in range(3):
            with database.connection() as db:
                assert db.driver.execute("SELECT 1 AS one").fetchall() == [{"one": 1}]
        assert sessions(cluster) == ["idle"]

    def test_lost_connection_counts_for_older_idle_ones(
        self, cluster: Cluster, database: Database
    ) -> None:
        with database.connection() as first, database.connection() as second:
            pass
        engine: Any = database.engine
        engine.ends_connection(psycopg.OperationalError("timed out"))

        with database.connection() as db:
            assert db not in (first, second)
            kept = db
        with database.connection() as db:
            assert db is kept

    def test_who_waits_for_a_connection_gets_it_before_those_who_come_later(
        self, cluster: Cluster
    ) -> None:
        order: list[str] = []
        waits = threading.Event()
        database = Database(f"{cluster.url}?pool=1", before_waiting=waits.set)

        def take(name: str) -> None:
            with database.connection():
                order.append(name)

        with closing(database), ThreadPoolExecutor(1) as threads:
            for _ in range(20):
                held = database.acquire()
                waits.clear()
                waiting = threads.submit(take, "first")
                assert waits.wait(60)
                database.release(held)
                take("second")
                waiting.result()

        assert order == ["first", "second"] * 20

    def test_mistakes_in_a_statement_keep_the_connection(self, database: Database) -> None:
        engine: Any = database.engine
        with database.connection() as kept:
            assert not engine.ends_connection(psycopg.DataError("NUL"))
            assert not engine.ends_connection(psycopg.ProgrammingError("parameters"))
        with database.connection() as db:
            assert db is kept


class TestTransactions:
    @pytest.mark.parametrize("fails", [False, True], ids=["commit", "rollback"])
    def test_lost_connection_is_an_outage_and_writes_nothing(
        self, cluster: Cluster, database: Database, *, fails: bool
    ) -> None:
        with (
            pytest.raises(DatabaseUnavailable),
            database.connection() as db,
            db.transaction(),
        ):
            insert(db, "lost")
            cluster.execute(TERMINATE)
            if fails:
                raise ValueError

        assert "lost" not in keys(cluster)
        with database.connection() as db, db.transaction():
            insert(db, f"next {fails}")
        assert f"next {fails}" in keys(cluster)
        assert sessions(cluster) == ["idle"]

    def test_connection_with_plans_of_a_changed_table_is_replaced(self, cluster: Cluster) -> None:
        alter = "ALTER TABLE sessions ALTER created_at TYPE "
        url = f"{cluster.url}?pool=1&prepared_statements=true"
        with closing(Database(url)) as database, psycopg.connect(cluster.url) as other:
            other.autocommit = True
            with database.connection() as db:
                for _ in range(postgresql.PREPARE_AFTER + 1):
                    db.queries.auth.session_with_user(id="")
            for column_type in (b"NUMERIC", b"BIGINT"):
                other.execute(alter.encode() + column_type)
                with (
                    pytest.raises(DatabaseUnavailable, match="must not change result type"),
                    database.connection() as db,
                ):
                    db.queries.auth.session_with_user(id="")
                with database.connection() as db:
                    for _ in range(postgresql.PREPARE_AFTER + 1):
                        assert db.queries.auth.session_with_user(id="") is None

    def test_idle_transaction_is_ended_by_the_server(self, cluster: Cluster) -> None:
        limits = options(idle_in_transaction_session_timeout="50ms")
        with closing(Database(f"{cluster.url}{limits}")) as database:
            with (
                pytest.raises(DatabaseUnavailable),
                database.connection() as db,
                db.transaction(),
            ):
                insert(db, "idle")
                until(lambda: sessions(cluster) == [], 10)
            with database.connection() as db:
                insert(db, "after idle")
        assert "idle" not in keys(cluster)

    @pytest.mark.parametrize(
        "limit", ["statement_timeout", "lock_timeout"], ids=["slow statement", "held lock"]
    )
    def test_statement_that_takes_too_long_keeps_the_connection(
        self, cluster: Cluster, limit: str
    ) -> None:
        with ExitStack() as stack:
            database = stack.enter_context(
                closing(Database(f"{cluster.url}{options(**{limit: '50ms'})}"))
            )
            holder = stack.enter_context(psycopg.connect(cluster.url))
            holder.execute("LOCK TABLE throttle")
            with pytest.raises(DatabaseUnavailable), database.connection() as db, db.transaction():
                insert(db, "slow")
            holder.rollback()
            kept = db
            with database.connection() as db, db.transaction():
                insert(db, f"after {limit}")
            assert db is kept
        assert f"after {limit}" in keys(cluster)

    def test_server_that_hangs_is_given_up(
        self, cluster: Cluster, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgresql.Driver, "patience", 0.2)
        with database.connection() as other, database.connection() as db:
            cluster.hang()
            try:
                with (
                    pytest.raises(DatabaseUnavailable, match="the server does not answer"),
                    db.transaction(),
                ):
                    insert(db, "hangs")
                assert not database.engine.is_usable(other.driver)
            finally:
                cluster.wake()
        with database.connection() as db:
            insert(db, "awake")
        assert not keys(cluster) & {"hangs"}

    def test_commit_without_a_standby_is_an_outage_that_leaves_connections_to_reads(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgresql.Driver, "patience", 0.2)
        with Cluster() as cluster, closing(Database(f"{cluster.url}?pool=2")) as database:
            database.engine.create()
            cluster.options["synchronous_standby_names"] = "absent"
            cluster.reload()
            with (
                pytest.raises(DatabaseUnavailable, match="synchronous replication"),
                database.connection() as first,
                first.transaction(),
            ):
                insert(first, "first")
            with (
                pytest.raises(DatabaseUnavailable, match="synchronous replication"),
                database.connection() as second,
                second.transaction(),
            ):
                insert(second, "second")
                with (
                    database.connection() as other,
                    pytest.raises(DatabaseUnavailable, match="Another commit waits"),
                    other.transaction(),
                ):
                    pass
                with database.connection() as other:
                    assert len(other.driver.execute("SELECT key FROM throttle").fetchall()) == 1
            assert first is second
            cluster.options["synchronous_standby_names"] = ""
            cluster.reload()
            for key in ("third", "fourth"):
                with database.connection() as db, db.transaction():
                    insert(db, key)
            assert keys(cluster) == {"first", "second", "third", "fourth"}

    def test_other_warnings_of_the_server_are_no_outage(self, cluster: Cluster) -> None:
        """It warns in each transaction when its transaction IDs run short, for one."""
        with closing(Database(cluster.url)) as database, database.connection() as db:
            for key in ("warned", "warned again"):
                with db.transaction():
                    insert(db, key)
                    db.driver.execute("DO $$ BEGIN RAISE WARNING 'vacuum soon'; END $$")
        assert {"warned", "warned again"} <= keys(cluster)


def write_certificate(folder: Path) -> dict[str, str]:
    """Write a certificate for 127.0.0.1, and its key; return the options of a cluster with it."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now, hour = datetime.datetime.now(datetime.UTC), datetime.timedelta(hours=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - hour)
        .not_valid_after(now + hour)
        .add_extension(x509.SubjectAlternativeName([address]), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, certificate, key_file = serialization.Encoding.PEM, folder / "tls.pem", folder / "tls.key"
    certificate.write_bytes(signed.public_bytes(pem))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(pem, *plain))
    for path in (certificate, key_file):
        path.chmod(0o600)
        if owner := user():
            os.chown(path, owner["user"], owner["group"])
    return {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key_file)}


def test_connections_over_tls_are_kept_and_replaced_like_others() -> None:
    cluster = Cluster()
    cluster.options |= write_certificate(cluster.folder)
    with cluster:
        url = f"{cluster.url}?sslmode=verify-full&sslrootcert={cluster.folder}/tls.pem"
        with closing(Database(url)) as database:
            database.engine.create()
            with database.connection() as kept:
                assert kept.driver.pgconn.ssl_in_use
            for number in range(10):
                with database.connection() as db, db.transaction():
                    insert(db, f"{number}" * 1000)
                assert db is kept
            cluster.execute(TERMINATE)
            with database.connection() as db:
                assert db is not kept
                assert len(db.driver.execute("SELECT key FROM throttle").fetchall()) == 10
