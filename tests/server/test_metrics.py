"""The metrics for Prometheus: what is counted, and the server on a port of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families

from jwt_server import metrics, sqlite
from jwt_server.config import Settings
from jwt_server.database import Connection
from jwt_server.errors import ConfigurationError
from jwt_server.gunicorn import metrics_server
from jwt_server.web.service import EXTENSION, Service
from tests.helpers import waiting
from tests.helpers.app import Clock, IdleApps, MakeApp
from tests.helpers.auth import guesses
from tests.helpers.databases import about_sqlite, create_database, database_in, file_of
from tests.helpers.disks import filled, small_disk
from tests.helpers.factories import CREDENTIALS, bearer, token
from tests.helpers.http import Response, send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, ROOT, Server, flask, running, wait_for_workers
from tests.helpers.waiting import free_port

until = partial(waiting.until, seconds=60)

REQUESTS = "jwt_server_request_seconds_count"
REFUSALS = "jwt_server_refusals_total"
SIGN_INS = "jwt_server_sign_ins_total"
QUEUED = "jwt_server_hash_line"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def idle_apps() -> IdleApps:
    """None, as these tests count from 0."""
    return defaultdict(list)


def service_of(app: Flask) -> Service:
    service: Service = app.extensions[EXTENSION]
    return service


def value(app: Flask, name: str, **labels: str) -> float:
    found = service_of(app).metrics.registry.get_sample_value(name, labels)
    assert found is not None
    return found


def series(app: Flask, name: str) -> set[tuple[str, ...]]:
    """Return the label values of all series of that name."""
    return {
        tuple(sample.labels.values())
        for family in service_of(app).metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


def test_requests_are_counted_by_method_route_and_status(
    app: Flask, client: FlaskClient, travis: dict[str, str]
) -> None:
    for number in (1, 2, 99):
        client.get(f"/pets/{number}", headers=travis)
    client.delete("/pets/1", headers=travis)
    client.get("/healthz")  # which is not logged
    client.get("/docs/docs.js").close()

    count = partial(value, app, REQUESTS, route="/pets/{pet_id}")
    assert count(method="GET", status="200") == 2
    assert count(method="GET", status="404") == 1
    assert count(method="DELETE", status="204") == 1
    assert value(app, REQUESTS, method="GET", route="/healthz", status="200") == 1
    assert value(app, REQUESTS, method="GET", route="/docs/{asset}", status="200") == 1
    total = "jwt_server_request_seconds_sum"
    assert 0 < value(app, total, method="GET", route="/pets/{pet_id}", status="200") < 10


def test_clients_cannot_create_series(app: Flask, client: FlaskClient) -> None:
    for number in range(20):
        client.get(f"/nowhere/{number}")
        client.open("/auth", method=f"BREW{number}")
        client.post("/auth", data={"username": f"user{number}", "password": f"secret{number}"})

    assert series(app, REQUESTS) == {
        ("GET", "-", "404"), ("-", "-", "501"), ("POST", "/auth", "401"),
    }  # fmt: skip
    assert value(app, REQUESTS, method="GET", route="-", status="404") == 20


def test_sign_ins_are_counted_by_outcome(app: Flask, client: FlaskClient) -> None:
    assert value(app, SIGN_INS, outcome="signed_in") == 0
    assert value(app, SIGN_INS, outcome="wrong_credentials") == 0

    for _ in range(3):
        client.post("/auth", data=CREDENTIALS)
    client.post("/auth", json=CREDENTIALS, headers={"Accept": "application/json"})
    client.post("/auth", data=CREDENTIALS | {"password": "wrong"})
    client.post("/auth", data={"username": "nobody", "password": "wrong"})
    client.post("/auth")
    client.options("/auth")
    grant = {"grant_type": "password", **CREDENTIALS}
    tokens = client.post("/auth/token", data=grant).get_json()
    client.post("/auth/token", data=grant | {"password": "wrong"})
    again = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert client.post("/auth/token", data=again).status_code == 200  # no sign-in

    assert value(app, SIGN_INS, outcome="signed_in") == 5
    assert value(app, SIGN_INS, outcome="wrong_credentials") == 3
    assert value(app, SIGN_INS, outcome="credential_required") == 1
    assert value(app, REFUSALS, route="/auth", code="wrong_credentials") == 2


def test_reuse_of_a_refresh_token_is_counted_once(
    app: Flask, client: FlaskClient, clock: Clock
) -> None:
    reused = {"route": "/auth/refresh", "code": "refresh_token_reused"}
    assert value(app, REFUSALS, **reused) == 0
    tokens = client.post(
        "/auth", json=CREDENTIALS, headers={"Accept": "application/json"}
    ).get_json()
    for _ in range(4):
        client.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
        clock.advance(60)

    assert value(app, REFUSALS, **reused) == 1
    assert value(app, REFUSALS, route="/auth/refresh", code="session_ended") == 2


def test_a_full_hash_queue_is_counted(make_app: MakeApp, db: Connection) -> None:
    app = make_app(hash_queue=0)
    with service_of(app).hasher.queue.slot():
        assert app.test_client().post("/auth", data=CREDENTIALS).status_code == 503

    assert value(app, SIGN_INS, outcome="hashing_busy") == 1


def test_queued_passwords_and_their_wait_are_measured(app: Flask) -> None:
    def sign_in(address: str) -> None:
        guesses(app.test_client())("travis", "mypassword", address)

    addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    clients = [threading.Thread(target=sign_in, args=[each]) for each in addresses]
    with service_of(app).hasher.queue.slot():
        assert value(app, QUEUED) == 0
        for each in clients:
            each.start()
        until(lambda: value(app, QUEUED) == 3)
    for each in clients:
        each.join()

    assert value(app, QUEUED) == 0
    assert value(app, "jwt_server_hash_wait_seconds_count") == 4  # with the test's own
    assert 0 < value(app, "jwt_server_hash_wait_seconds_sum") < 20


def test_a_password_that_gives_up_leaves_the_queue(make_app: MakeApp, db: Connection) -> None:
    app = make_app(hash_wait=0)
    with service_of(app).hasher.queue.slot():
        assert app.test_client().post("/auth", data=CREDENTIALS).status_code == 503

    assert value(app, QUEUED) == 0
    assert value(app, "jwt_server_hash_wait_seconds_count") == 1


def test_database_time_includes_the_wait_for_other_writers(
    app: Flask, client: FlaskClient, travis: dict[str, str], settings: Settings
) -> None:
    client.get("/my-pets", headers=travis)
    assert value(app, "jwt_server_database_seconds_count") == 1
    assert 0 < value(app, "jwt_server_database_seconds_sum") < 5

    before = value(app, "jwt_server_database_seconds_sum")
    with closing(sqlite.open_database(file_of(settings))) as other:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.8, other.rollback).start()
        assert client.post("/pets", json={"name": "Bo"}, headers=travis).status_code == 201

    assert value(app, "jwt_server_database_seconds_sum") - before > 0.2


def test_file_sizes_are_current(db: Connection, settings: Settings) -> None:
    def sizes(path: Path) -> dict[str, float]:
        families = metrics.FileSizes(path).collect()
        return {family.name: family.samples[0].value for family in families}

    wal = Path(f"{settings.database}-wal")
    assert sizes(file_of(settings)) == {
        "jwt_server_database_bytes": file_of(settings).stat().st_size,
        "jwt_server_wal_bytes": wal.stat().st_size,
    }
    assert set(sizes(file_of(settings).with_name("missing")).values()) == {0}


@dataclass(frozen=True)
class Counted:
    """A server with two workers, and its metrics port."""

    server: Server
    port: int

    def scrape(self, method: str = "GET", path: str = "/metrics") -> Response:
        return send_to_server(replace(self.server, port=self.port), method, path, bearer(token()))

    def values(self) -> dict[tuple[str, ...], float]:
        """Return what Prometheus gets, by name and label values."""
        response = self.scrape()
        assert response.status == 200
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        }

    def count(self) -> float:
        return self.values().get((REQUESTS, "GET", "/my-pets", "200"), 0)

    def use_both_workers(self) -> int:
        """Send requests until both workers have responded; return their number."""
        workers, before, sent = wait_for_workers(self.server, 2), len(self.server.log()), 0
        used: set[int] = set()
        while used != set(workers):
            assert send_to_server(self.server, "GET", "/my-pets", bearer(token())).status == 200
            sent += 1
            lines = map(json.loads, self.server.log()[before:].splitlines())
            used = {each["pid"] for each in lines if each.get("route") == "/my-pets"}
            assert sent < 1000
        return sent

    def folders(self) -> set[Path]:
        return folders_of(self.server)


def folders_of(server: Server) -> set[Path]:
    """Return the folders that a worker keeps its counts in."""
    maps = Path(f"/proc/{server.workers()[0]}/maps").read_text()
    return {Path(each).parent for each in re.findall(rf"/\S*/{metrics_server.PREFIX}\S+", maps)}


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    port = free_port()
    extra = {
        "METRICS_PORT": str(port), "PROMETHEUS_MULTIPROC_DIR": "/nonexistent", "WORKERS": "2",
    }  # fmt: skip
    with running(tmp_path_factory.mktemp("counted"), BASE_ENVIRONMENT | extra) as server:
        counted = Counted(server, port)
        counted.use_both_workers()
        [folder] = counted.folders()
        assert folder.stat().st_mode & 0o777 == 0o700
        yield counted
    assert not folder.exists()


def test_counts_are_summed_over_workers_also_those_that_died(counted: Counted) -> None:
    total = counted.count() + counted.use_both_workers()
    assert {counted.count() for _ in range(10)} == {total}

    for victim in wait_for_workers(counted.server, 2):
        os.kill(victim, signal.SIGKILL)
        wait_for_workers(counted.server, 2, gone=[victim])
        assert counted.count() == total
        total += counted.use_both_workers()
        assert counted.count() == total
    [folder] = counted.folders()
    assert len(list(folder.glob("gauge_livesum_*.db"))) == 2


def test_all_metrics_can_be_read(counted: Counted) -> None:
    body = "username=travis&password=mypassword"
    send_to_server(counted.server, "POST", "/auth", {}, body, FORM)
    found = counted.values()

    assert found[SIGN_INS, "signed_in"] == 1
    assert found[REFUSALS, "refresh_token_reused", "/auth/refresh"] == 0
    assert found[(QUEUED,)] == 0
    assert found[("jwt_server_hash_wait_seconds_count",)] == 1
    assert found[("jwt_server_database_seconds_count",)] > 0


@about_sqlite
def test_the_size_of_the_files_can_be_read(counted: Counted) -> None:
    found = counted.values()

    database = counted.server.log_file.with_name("server.db")
    assert found[("jwt_server_database_bytes",)] == database.stat().st_size
    assert found[("jwt_server_wal_bytes",)] == Path(f"{database}-wal").stat().st_size > 0


def test_no_metric_holds_what_clients_sent(counted: Counted) -> None:
    send_to_server(counted.server, "GET", "/my-pets?x=mypassword", bearer(token()))
    text = counted.scrape().text

    assert "travis" not in text
    assert "mypassword" not in text
    assert "127.0.0.1" not in text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics/", 200),
        ("GET", "/metrics?x=y", 200),
        ("GET", "/my-pets", 200),
        ("POST", "/auth", 501),
        ("POST", "/metrics", 501),
    ],
)
def test_the_metrics_port_has_only_the_metrics(
    counted: Counted, method: str, path: str, status: int
) -> None:
    response = counted.scrape(method, path)

    assert response.status == status
    assert "Bunny" not in response.text
    assert "<" not in response.text or status == 200


def test_the_service_has_no_metrics_route(counted: Counted) -> None:
    for headers in ({}, {"Host": f"127.0.0.1:{counted.port}"}):
        assert send_to_server(counted.server, "GET", "/metrics", headers).status == 404


def test_reading_the_metrics_is_neither_counted_nor_logged(counted: Counted) -> None:
    before = len(counted.server.log())
    first, second = counted.values(), counted.values()

    assert first == second
    assert counted.server.log()[before:] == ""


def test_by_default_only_this_machine_can_read_the_metrics(counted: Counted) -> None:
    # 127.0.0.2 is this machine, too: a server on all addresses would accept.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", counted.port), timeout=5)


def test_half_sent_requests_block_neither_the_service_nor_the_metrics(counted: Counted) -> None:
    with ExitStack() as stack:
        for _ in range(80):  # more than all its threads and the service's together
            address = (counted.server.host, counted.port)
            slow = stack.enter_context(socket.create_connection(address, timeout=20))
            slow.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert send_to_server(counted.server, "GET", "/my-pets", bearer(token())).status == 200
        assert counted.scrape().status == 200


def test_a_client_that_sends_byte_by_byte_is_disconnected(counted: Counted) -> None:
    address = (counted.server.host, counted.port)
    with socket.create_connection(address, timeout=20) as slow, pytest.raises(ConnectionError):
        for _ in range(1000):
            slow.sendall(b"x")
            time.sleep(0.05)


@pytest.mark.slow
def test_commands_ignore_the_folder_of_other_programs_metrics(tmp_path: Path) -> None:
    create_database(database_in(tmp_path))
    names = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")

    extra = BASE_ENVIRONMENT | dict.fromkeys(names, "/nonexistent")
    done = flask(tmp_path, extra, "users", "list")

    assert done.returncode == 0
    assert "travis" in done.stdout
    assert "Traceback" not in done.stderr


def test_with_port_0_there_are_no_metrics(server: Server) -> None:
    send_to_server(server, "GET", "/my-pets", bearer(token()))

    assert folders_of(server) == set()


def test_a_metrics_port_in_use_is_a_configuration_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "WAIT_SECONDS", 0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"METRICS_PORT: .*{taken} .*already in use"):
            metrics_server.listen(replace(settings, metrics_port=taken))
    with pytest.raises(ConfigurationError, match=r"METRICS_HOST: .*\[2001:db8::1\]:9464 "):
        metrics_server.listen(replace(settings, metrics_host="2001:db8::1", metrics_port=9464))


def test_the_folders_of_killed_services_are_removed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "MEMORY", tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = Path(metrics_server.make_folder(replace(settings, metrics_port=2)))
    killed = Path(metrics_server.make_folder(replace(settings, metrics_port=1)))
    (killed / "counter_1.db").touch()
    Path(f"{killed}-link").symlink_to(elsewhere)

    made = Path(metrics_server.make_folder(replace(settings, metrics_port=1)))

    assert made.is_dir()
    assert other.is_dir()
    assert not killed.exists()
    assert elsewhere.is_dir()


def test_without_space_a_worker_serves_but_does_not_count(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Writing a count into a full memory disk would kill it."""
    with small_disk(tmp_path / "memory", megabytes=1) as memory:
        monkeypatch.setattr(metrics_server, "MEMORY", memory)
        monkeypatch.setattr(metrics_server.MetricsServer, "serve_forever", lambda *_, **__: None)
        monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue())
        server = metrics_server.MetricsServer(replace(settings, metrics_port=free_port()))
        with closing(server.socket), filled(memory):
            server.start()

    assert values.ValueClass is values.MutexValue
    assert "No space for the metrics of this worker: " in caplog.text


def test_a_worker_needs_no_more_space_than_it_reserves(counted: Counted) -> None:
    [folder] = counted.folders()
    for worker in wait_for_workers(counted.server, 2):
        sizes = {path.name: path.stat().st_size for path in folder.glob(f"*_{worker}.db")}
        assert sizes == {
            f"{kind}_{worker}.db": size for kind, size in metrics_server.WORKER_FILES.items()
        }


BOARD = json.loads((ROOT / "deploy" / "grafana.json").read_text())
WATCH = (ROOT / "docs" / "operations.md").read_text().split("\n## Metrics\n")[1].split("\n## ")[0]


def names_there(app: Flask, settings: Settings) -> set[str]:
    registry = service_of(app).metrics.registry
    registry.register(metrics.FileSizes(file_of(settings)))
    return {
        name
        for family in registry.collect()
        for name in (family.name, *(f"{family.name}{end}" for end in ENDS[family.type]))
    }


ENDS = {"counter": ("_total",), "gauge": (), "histogram": ("_bucket", "_count", "_sum")}


def test_the_dashboard_and_the_text_know_every_figure_and_no_other(
    app: Flask, settings: Settings
) -> None:
    there = names_there(app, settings)
    asked = " ".join(each["expr"] for panel in BOARD["panels"] for each in panel["targets"])
    shown = set(re.findall(r"jwt_server_\w+", asked))
    told = set(re.findall(r"jwt_server_\w+", WATCH))

    assert shown <= there
    assert told <= there
    families = {re.sub("_(total|bucket|count|sum)$", "", name) for name in there}
    for named in (shown, told):
        assert {re.sub("_(total|bucket|count|sum)$", "", name) for name in named} == families


def test_panels_of_one_status_show_0_without_such_a_response() -> None:
    asked = [each["expr"] for panel in BOARD["panels"] for each in panel["targets"]]
    by_status = [expression for expression in asked if "{status=" in expression]

    assert len(by_status) == 2
    assert all("or vector(0)" in expression for expression in by_status)


def test_the_dashboards_panels_stand_side_by_side() -> None:
    places: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & places
        places |= cells
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
