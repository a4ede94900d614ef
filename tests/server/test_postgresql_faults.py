"""Outages of PostgreSQL under a gunicorn: restarted, killed, locked, full, read-only, hanging.

Requests get 503 with Retry-After and the cause in the log, none hangs, and the service works again
as soon as the cause is gone. No connection is left over.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import psycopg
import pytest
from psycopg import sql

from jwt_server.database import Database
from tests.helpers.databases import IMPORTED_AT, add_demo_user
from tests.helpers.disks import filled, small_disk
from tests.helpers.factories import CREDENTIALS, bearer, token
from tests.helpers.http import Response, send_to_server
from tests.helpers.postgresql import PASSWORD, Cluster
from tests.helpers.postgresql_programs import user
from tests.helpers.server import BASE_ENVIRONMENT, Server, failed_start, started
from tests.helpers.waiting import until

pytestmark = pytest.mark.hosts

POOL, WORKERS = 4, 2
RECOVERY_SECONDS = 5
JSON = "application/json"
OURS = "FROM pg_stat_activity WHERE application_name = 'jwt-server'"


@dataclass(frozen=True)
class Service:
    """A running server and its database."""

    server: Server
    cluster: Cluster
    logged: int = 0
    """The length of the log before the test."""

    def ask(self, method: str, path: str, body: Any = None) -> Response:
        """Send a request as the demo user."""
        headers = bearer(token()) | {"Accept": JSON}
        data = None if body is None else json.dumps(body)
        return send_to_server(self.server, method, path, headers, data, JSON if data else None)

    def read(self) -> Response:
        return self.ask("GET", "/my-pets")

    def write(self, name: str = "Rex") -> Response:
        return self.ask("POST", "/pets", {"name": name})

    def causes(self) -> str:
        """Return the log's errors since the test began, one a line."""
        lines = map(json.loads, self.server.log()[self.logged :].splitlines())
        return "\n".join(line["message"] for line in lines if line["level"] == "ERROR")


@dataclass
class Load:
    """Reads and writes from several threads, without a pause, until the end of its context."""

    service: Service
    statuses: Counter[int] = field(default_factory=Counter)
    succeeded_at: dict[int, float] = field(default_factory=dict)
    """By thread, when its last request that succeeded began."""
    over: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.threads = [threading.Thread(target=self._run, args=(each,)) for each in range(8)]
        for thread in self.threads:
            thread.start()
        until(lambda: len(self.succeeded_at) == len(self.threads), 30)
        return self

    def __exit__(self, *_exception: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _run(self, number: int) -> None:
        while not self.over.is_set():
            began = time.monotonic()
            response = self.service.read() if number % 2 else self.service.write()
            self.statuses[response.status] += 1
            if response.status == 503:
                assert_refused(response)
            else:
                self.succeeded_at[number] = began

    def recover(self) -> None:
        """Wait until requests of all threads succeed that begin from now on."""
        now = time.monotonic()
        until(lambda: min(self.succeeded_at.values()) > now, RECOVERY_SECONDS)


def assert_refused(response: Response) -> None:
    """Check for a 503 with Retry-After that does not tell the cause."""
    assert response.status == 503, response.text
    assert response.headers["Retry-After"] == "2"
    assert response.json["code"] == "database_unavailable"
    for secret in (PASSWORD, "127.0.0.1", "jwt_server", "server", "timeout"):
        assert secret not in response.json["detail"]


@contextmanager
def serving(
    folder: Path, cluster: Cluster, query: str = f"pool={POOL}", workers: int = WORKERS
) -> Iterator[Service]:
    """Run a server over an empty cluster, with the demo user; at the end, check its log."""
    Database(cluster.url).engine.create()
    add_demo_user(cluster.url, IMPORTED_AT)
    extra = {"DATABASE_URL": f"{cluster.url}?{query}", "WORKERS": str(workers)}
    with started(folder, BASE_ENVIRONMENT | extra) as server:
        yield Service(server, cluster)
        log = server.log()
    assert "Traceback" not in log
    assert '"status": 500' not in log
    assert PASSWORD not in log


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with (
        Cluster({"max_connections": "20"}) as cluster,
        serving(tmp_path_factory.mktemp("shared"), cluster) as service,
    ):
        yield service


@pytest.fixture
def service(shared: Service) -> Iterator[Service]:
    """The shared server; after the outage, its first requests succeed, and no connection leaks."""
    service = Service(shared.server, shared.cluster, len(shared.server.log()))
    yield service
    assert_well(service)


def assert_well(service: Service) -> None:
    for _ in range(2 * WORKERS):
        assert service.read().status == 200
        assert service.write().status == 201
        assert service.ask("GET", "/readyz").status == 200
    assert service.ask("POST", "/auth", CREDENTIALS).status == 200
    until(lambda: set(states(service.cluster)) == {"idle"}, 10)
    assert len(states(service.cluster)) <= POOL * WORKERS


def states(cluster: Cluster) -> list[str]:
    """Return the states of the service's connections."""
    with psycopg.connect(cluster.admin_url) as driver:
        return [row[0] for row in driver.execute(f"SELECT state {OURS}".encode()).fetchall()]


class TestRestart:
    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_requests_get_503_meanwhile_and_go_on_afterwards(
        self, service: Service, mode: Literal["fast", "immediate"]
    ) -> None:
        with Load(service) as load:
            service.cluster.stop(mode)
            until(lambda: load.statuses[503] > 20, 30)
            service.cluster.start()
            load.recover()
        assert set(load.statuses) == {200, 201, 503}

    def test_all_requests_of_a_long_outage_are_refused(self, service: Service) -> None:
        service.cluster.stop()
        with ThreadPoolExecutor(16) as pool:
            for response in pool.map(lambda _: service.read(), range(200)):
                assert_refused(response)
        assert service.ask("GET", "/healthz").status == 200
        assert_refused(service.ask("GET", "/readyz"))
        assert "refused" in service.causes()
        service.cluster.start()


class TestKilledBackend:
    def test_terminated_backends_fail_their_requests_only(self, service: Service) -> None:
        with Load(service) as load:
            for _ in range(5):
                service.cluster.execute(sql.SQL(f"SELECT pg_terminate_backend(pid) {OURS}"))
                load.recover()
        assert set(load.statuses) <= {200, 201, 503}

    def test_killed_backend_restarts_the_database_and_the_service_goes_on(
        self, service: Service
    ) -> None:
        with Load(service) as load:
            with psycopg.connect(service.cluster.admin_url) as driver:
                row = driver.execute(f"SELECT pid {OURS}".encode()).fetchone()
            assert row
            os.kill(row[0], signal.SIGKILL)
            until(lambda: "all server processes terminated" in service.cluster.log(), 30)
            load.recover()
        assert set(load.statuses) == {200, 201, 503}


class TestConnections:
    def test_server_without_connections_left_is_an_outage(self, service: Service) -> None:
        service.cluster.execute(sql.SQL(f"SELECT pg_terminate_backend(pid, 10000) {OURS}"))
        with ExitStack() as stack:
            with pytest.raises(psycopg.OperationalError, match=r"connection slots|too many"):
                while True:
                    stack.enter_context(psycopg.connect(service.cluster.url))
            assert_refused(service.read())
            assert "connection" in service.causes()

    def test_exhausted_pool_is_an_outage_that_names_the_setting(self, tmp_path: Path) -> None:
        query = "pool=1&options=-c%20lock_timeout%3D5s"
        with (
            Cluster() as cluster,
            serving(tmp_path, cluster, query, workers=1) as service,
            psycopg.connect(cluster.url) as holder,
            ThreadPoolExecutor() as pool,
        ):
            holder.execute("LOCK TABLE pets")
            slow = pool.submit(service.write)
            until(lambda: states(cluster) == ["active"], 10)
            assert_refused(service.ask("GET", "/me"))
            assert service.ask("GET", "/healthz").status == 200
            holder.rollback()
            assert slow.result().status in (201, 503)
            assert service.write().status == 201
            assert "see `pool` in docs/configuration.md" in service.causes()


class TestLock:
    def test_locked_table_fails_its_requests_and_others_go_on(self, service: Service) -> None:
        with psycopg.connect(service.cluster.url) as holder, ThreadPoolExecutor() as pool:
            holder.execute("LOCK TABLE pets")
            locked = [pool.submit(service.read) for _ in range(3)]
            while not all(each.done() for each in locked):
                assert service.ask("GET", "/me").status == 200
            for each in locked:
                assert_refused(each.result())
        assert "lock timeout" in service.causes()


class TestReadOnly:
    def test_read_only_database_is_an_outage_until_it_is_writable(self, service: Service) -> None:
        assert service.write().status == 201
        service.cluster.options["default_transaction_read_only"] = "on"
        service.cluster.reload()
        until(lambda: service.write().status == 503, 10)
        assert_refused(service.write())
        assert_refused(service.ask("GET", "/readyz"))
        assert "read-only" in service.causes()
        del service.cluster.options["default_transaction_read_only"]
        service.cluster.reload()
        until(lambda: service.ask("GET", "/readyz").status == 200, 10)

    def test_standby_as_the_only_host_is_one_line_at_the_start(
        self, service: Service, tmp_path: Path
    ) -> None:
        standby = service.cluster.standby("lonely")
        extra = {"DATABASE_URL": standby.url, "WORKERS": "1"}

        [line] = failed_start(tmp_path, BASE_ENVIRONMENT | extra)
        assert "session is read-only" in line
        assert "check DATABASE_URL" in line
        assert PASSWORD not in line
        service.cluster.standbys.remove(standby)
        standby.close()


class TestHang:
    def test_server_that_hangs_is_given_up_and_used_again(self, service: Service) -> None:
        with ThreadPoolExecutor(16) as pool:
            assert {each.status for each in pool.map(lambda _: service.read(), range(32))} == {200}
            service.cluster.hang()
            try:
                for response in pool.map(lambda _: service.read(), range(100)):
                    assert_refused(response)
                assert service.ask("GET", "/healthz").status == 200
            finally:
                service.cluster.wake()
        assert "does not answer" in service.causes()
        assert "timeout expired" in service.causes()

    def test_reads_go_on_while_writes_wait_for_a_standby(self, service: Service) -> None:
        service.cluster.options["synchronous_standby_names"] = "absent"
        service.cluster.reload()
        with ThreadPoolExecutor() as pool:
            write = pool.submit(service.write, "waits")
            while not write.done():
                assert service.read().status == 200
            assert_refused(write.result())
        assert "synchronous replication" in service.causes()
        del service.cluster.options["synchronous_standby_names"]
        service.cluster.reload()
        assert "waits" in service.read().text  # it was committed all the same


@pytest.fixture
def full_cluster() -> Iterator[tuple[Cluster, Path]]:
    """A cluster on a small disk."""
    cluster = Cluster()
    with closing(cluster), small_disk(cluster.folder / "disk", 160) as disk:
        if owner := user():
            os.chown(disk, owner["user"], owner["group"])
        cluster.data = disk / "data"
        cluster.__enter__()
        yield cluster, disk
        cluster.stop("immediate")


class TestFullDisk:
    def test_reads_go_on_and_writes_work_again_once_there_is_space(
        self, full_cluster: tuple[Cluster, Path], tmp_path: Path
    ) -> None:
        cluster, disk = full_cluster
        with serving(tmp_path, cluster) as service:
            assert service.write("before").status == 201
            with filled(disk):
                until(lambda: service.write("x" * 100).status == 503, 30)
                assert "before" in service.read().text
                assert "No space left on device" in service.causes()
            assert_well(service)


def test_stopped_service_says_goodbye_to_the_database(tmp_path: Path) -> None:
    with Cluster() as cluster, ExitStack() as stack:
        service = stack.enter_context(serving(tmp_path, cluster))
        with Load(service):
            pass
        stack.close()
        until(lambda: states(cluster) == [], 10)
        assert "unexpected EOF" not in cluster.log()
        assert "could not receive data" not in cluster.log()
