"""The figures for Prometheus: what is counted, right across workers, on a port of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import Client, TestResponse

from jwt_server import metrics, sqlite
from jwt_server.config import Settings
from jwt_server.database import Connection
from jwt_server.errors import ConfigurationError
from jwt_server.gunicorn import scrape
from jwt_server.metrics import Metrics
from jwt_server.web.service import EXTENSION, Service
from tests.helpers import server as servers
from tests.helpers.app import Clock, MakeApp
from tests.helpers.factories import CREDENTIALS, bearer, token
from tests.helpers.http import send_to_server
from tests.helpers.server import (
    BASE_ENVIRONMENT,
    ROOT,
    Server,
    flask,
    free_port,
    gunicorn,
    running,
    started,
)
from tests.server.test_server import failed_start, wait_for_workers

until = partial(servers.until, seconds=10)

REQUESTS = "jwt_server_request_seconds_count"
REFUSALS = "jwt_server_refusals_total"
SIGN_INS = "jwt_server_sign_ins_total"
LINE = "jwt_server_hash_line"


def service_of(app: Flask) -> Service:
    service: Service = app.extensions[EXTENSION]
    return service


def figure(app: Flask, name: str, **labels: str) -> float | None:
    return service_of(app).metrics.registry.get_sample_value(name, labels)


def series(app: Flask, name: str) -> set[tuple[str, ...]]:
    """The labels' values of all figures of that name."""
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

    route = "/pets/<id:pet_id>"
    assert figure(app, REQUESTS, method="GET", route=route, status="200") == 2
    assert figure(app, REQUESTS, method="GET", route=route, status="404") == 1
    assert figure(app, REQUESTS, method="DELETE", route=route, status="204") == 1
    seconds = figure(app, "jwt_server_request_seconds_sum", method="GET", route=route, status="200")
    assert seconds is not None
    assert 0 < seconds < 10


def test_what_clients_make_up_makes_no_new_figures(app: Flask, client: FlaskClient) -> None:
    for number in range(20):
        client.get(f"/nowhere/{number}")
        client.open("/auth", method=f"BREW{number}")
        client.post("/auth", data={"username": f"user{number}", "password": f"secret{number}"})

    assert series(app, REQUESTS) == {
        ("GET", "-", "404"), ("-", "-", "501"), ("POST", "/auth", "401"),
    }  # fmt: skip
    assert figure(app, REQUESTS, method="GET", route="-", status="404") == 20


def test_sign_ins_are_counted_by_outcome(app: Flask, client: FlaskClient) -> None:
    assert figure(app, SIGN_INS, outcome="signed_in") == 0
    assert figure(app, SIGN_INS, outcome="wrong_credentials") == 0

    for _ in range(3):
        client.post("/auth", data=CREDENTIALS)
    client.post("/auth", json=CREDENTIALS, headers={"Accept": "application/json"})
    client.post("/auth", data=CREDENTIALS | {"password": "wrong"})
    client.post("/auth", data={"username": "nobody", "password": "wrong"})
    client.post("/auth")
    client.options("/auth")

    assert figure(app, SIGN_INS, outcome="signed_in") == 4
    assert figure(app, SIGN_INS, outcome="wrong_credentials") == 2
    assert figure(app, SIGN_INS, outcome="credential_required") == 1
    assert figure(app, REFUSALS, route="/auth", code="wrong_credentials") == 2


def test_a_refresh_token_used_twice_is_counted_once(
    app: Flask, client: FlaskClient, clock: Clock
) -> None:
    reused = {"route": "/auth/refresh", "code": "refresh_token_reused"}
    assert figure(app, REFUSALS, **reused) == 0
    tokens = client.post(
        "/auth", json=CREDENTIALS, headers={"Accept": "application/json"}
    ).get_json()
    for _ in range(4):
        client.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
        clock.advance(60)

    assert figure(app, REFUSALS, **reused) == 1
    assert figure(app, REFUSALS, route="/auth/refresh", code="session_ended") == 2


def test_a_full_lane_is_counted_as_an_outcome(make_app: MakeApp, db: Connection) -> None:
    app = make_app(hash_queue=0)
    with service_of(app).hasher.queue.slot():
        assert app.test_client().post("/auth", data=CREDENTIALS).status_code == 503

    assert figure(app, SIGN_INS, outcome="hashing_busy") == 1


def test_the_line_and_the_time_in_it_are_told(app: Flask) -> None:
    def sign_in() -> None:
        app.test_client().post("/auth", data=CREDENTIALS)

    crowd = [threading.Thread(target=sign_in) for _ in range(3)]
    with service_of(app).hasher.queue.slot():
        assert figure(app, LINE) == 0
        for each in crowd:
            each.start()
        until(lambda: figure(app, LINE) == 3)
        time.sleep(0.1)
    for each in crowd:
        each.join()

    assert figure(app, LINE) == 0
    assert figure(app, "jwt_server_hash_wait_seconds_count") == 4  # and the test's own turn
    waited = figure(app, "jwt_server_hash_wait_seconds_sum")
    assert waited is not None
    assert 0.3 <= waited < 20


def test_who_leaves_the_line_is_in_it_no_longer(make_app: MakeApp, db: Connection) -> None:
    app = make_app(hash_wait=0)
    with service_of(app).hasher.queue.slot():
        assert app.test_client().post("/auth", data=CREDENTIALS).status_code == 503

    assert figure(app, LINE) == 0
    assert figure(app, "jwt_server_hash_wait_seconds_count") == 1


def test_the_time_in_the_database_has_the_wait_for_others_in_it(
    app: Flask, client: FlaskClient, travis: dict[str, str], settings: Settings
) -> None:
    client.get("/my-pets", headers=travis)
    assert figure(app, "jwt_server_database_seconds_count") == 1
    quick = figure(app, "jwt_server_database_seconds_sum")
    assert quick is not None
    assert 0 < quick < 0.2

    with closing(sqlite.open_database(settings.database)) as other:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.3, other.rollback).start()
        assert client.post("/pets", json={"name": "Bo"}, headers=travis).status_code == 201

    total = figure(app, "jwt_server_database_seconds_sum")
    assert total is not None
    assert 0.2 < total < 5


def test_apps_count_apart(make_app: MakeApp, db: Connection) -> None:
    first, second = make_app(), make_app()
    first.test_client().get("/healthz")

    assert series(second, REQUESTS) == set()


@dataclass(frozen=True)
class Workers:
    """What several processes have counted into one folder."""

    folder: Path
    patch: pytest.MonkeyPatch

    def worker(self, pid: int) -> Metrics:
        """The figures of a process of that id."""
        self.patch.setattr(values, "ValueClass", values.MultiProcessValue(lambda: pid))
        return metrics.made()

    def total(self, name: str, **labels: str) -> float | None:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self.folder))
        return registry.get_sample_value(name, labels)

    def files(self) -> set[str]:
        return {path.name for path in self.folder.glob("*.db")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workers:
    path = tmp_path / "figures"
    path.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(path))
    return Workers(path, monkeypatch)


def test_what_the_dead_have_counted_is_kept_in_one_file_a_kind(folder: Workers) -> None:
    labels = {"method": "GET", "route": "/pets", "status": "200"}
    for pid in (101, 102, 103):
        figures = folder.worker(pid)
        for seconds in (0.0001, 0.003, 60):
            figures.count("GET", "/pets", "200", None, seconds)
        figures.count("POST", "/auth", "401", "wrong_credentials", 0.2)
        figures.hash_line.inc()

    def seen() -> list[float | None]:
        return [
            folder.total(REQUESTS, **labels),
            folder.total("jwt_server_request_seconds_sum", **labels),
            folder.total("jwt_server_request_seconds_bucket", **labels, le="0.001"),
            folder.total("jwt_server_request_seconds_bucket", **labels, le="0.005"),
            folder.total("jwt_server_request_seconds_bucket", **labels, le="+Inf"),
            folder.total(SIGN_INS, outcome="wrong_credentials"),
            folder.total(SIGN_INS, outcome="signed_in"),
        ]

    before = seen()
    assert before == [9, pytest.approx(180.0093), 3, 6, 9, 3, 0]
    assert folder.total(LINE) == 3
    for pid in (101, 102):
        scrape.bury(folder.folder, pid)

    assert seen() == before
    assert folder.total(LINE) == 1  # who waited in a dead worker waits no more
    assert folder.files() == {
        "counter_dead.db", "histogram_dead.db",
        "counter_103.db", "histogram_103.db", "gauge_livesum_103.db",
    }  # fmt: skip


def test_a_worker_of_a_dead_ones_id_counts_on_and_the_file_does_not_grow(folder: Workers) -> None:
    sizes = []
    for _ in range(5):
        scrape.reserve(folder.folder, 101)
        folder.worker(101).count("GET", "/pets", "200", None, 0.1)
        scrape.bury(folder.folder, 101)
        scrape.bury(folder.folder, 101)  # also where there is nothing to keep
        sizes.append(sum(path.stat().st_size for path in folder.folder.glob("*.db")))

    assert folder.total(REQUESTS, method="GET", route="/pets", status="200") == 5
    assert sizes[1:] == [sizes[1]] * 4


def test_a_file_that_is_spoilt_stops_nothing(
    folder: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    folder.worker(102).count("GET", "/pets", "200", None, 0.1)
    (folder.folder / "counter_101.db").write_bytes(b"\xff\xff\x00\x00" + b"\xff" * 100_000)

    scrape.bury(folder.folder, 101)

    assert folder.total(REQUESTS, method="GET", route="/pets", status="200") == 1
    assert "the figures of worker 101 can't be kept" in caplog.text


def test_a_new_workers_room_is_taken_at_once(folder: Workers) -> None:
    scrape.reserve(folder.folder, 101)
    files = {path.name: path.stat() for path in folder.folder.glob("*.db")}

    assert all(stat.st_blocks * 512 >= stat.st_size > 0 for stat in files.values())
    folder.worker(101).count("GET", "/pets", "200", None, 0.1)
    assert folder.files() == set(files)
    assert folder.total(REQUESTS, method="GET", route="/pets", status="200") == 1


def test_without_room_a_worker_counts_for_nobody_and_lives(
    folder: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    folder.worker(101)
    scrape.reserve(folder.folder / "gone", 102)

    assert "no room for worker 102's figures" in caplog.text
    assert values.ValueClass is values.MutexValue


def test_what_a_killed_server_left_is_removed_and_what_another_uses_is_not(
    folder: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)  # put back at the end
    monkeypatch.setattr(scrape, "MEMORY", folder.folder)
    left = folder.folder / f"{scrape.PREFIX}left"
    left.mkdir()
    (left / "counter_1.db").touch()
    elsewhere = folder.folder / "elsewhere"
    elsewhere.mkdir()
    (folder.folder / f"{scrape.PREFIX}link").symlink_to(elsewhere)

    first = scrape.shared_folder.__wrapped__()  # as in one process, and as in another
    second = scrape.shared_folder.__wrapped__()

    assert first != second
    assert first.is_dir()
    assert second.is_dir()
    assert second.stat().st_mode & 0o777 == 0o700
    assert not left.exists()
    assert elsewhere.is_dir()
    assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == str(second)


def test_a_port_must_be_free_but_for_who_was_handed_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrape, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = replace(settings, metrics_port=other.getsockname()[1])
        with pytest.raises(ConfigurationError, match=r"METRICS_PORT: .*Address already in use"):
            scrape.require_free_port(taken)
        scrape.require_free_port(replace(settings, metrics_port=0))
        with monkeypatch.context() as context:
            context.setenv("GUNICORN_FD", "5,6")
            scrape.require_free_port(taken)
    scrape.require_free_port(taken)
    with pytest.raises(ConfigurationError, match=r"METRICS_PORT: \[2001:db8::1\]:9464 can't be"):
        scrape.require_free_port(replace(settings, metrics_host="2001:db8::1", metrics_port=9464))


def test_who_comes_by_the_port_gets_the_figures_and_others_the_service(
    app: Flask, folder: Workers, settings: Settings
) -> None:
    folder.worker(101).count("GET", "/pets", "200", None, 0.1)
    with socket.create_server(("127.0.0.1", 0)) as theirs, socket.socket(socket.AF_UNIX) as ours:
        ours.bind(str(folder.folder / "sock"))
        figures = replace(settings, metrics_port=theirs.getsockname()[1])
        client = Client(scrape.beside(app, figures, folder.folder))

        def ask(path: str, actor: socket.socket) -> TestResponse:
            return client.get(path, environ_overrides={"gunicorn.socket": actor})

        assert "jwt_server_request_seconds_count" in ask("/metrics", theirs).text
        assert ask("/healthz", theirs).status_code == 404
        assert ask("/metrics", ours).text == "There is nothing here."
        assert ask("/healthz", ours).text == "alive"


def test_the_files_sizes_are_as_they_are(db: Connection, settings: Settings) -> None:
    registry = CollectorRegistry()
    registry.register(scrape.FileSizes(settings.database))
    wal = Path(f"{settings.database}-wal")

    assert registry.get_sample_value("jwt_server_wal_bytes") == wal.stat().st_size > 0
    assert (
        registry.get_sample_value("jwt_server_database_bytes") == settings.database.stat().st_size
    )
    db.driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert registry.get_sample_value("jwt_server_wal_bytes") == 0
    registry.register(missing := scrape.FileSizes(settings.database.with_name("x")))
    assert [family.samples[0].value for family in missing.collect()] == [0, 0]


def at(server: Server, port: int) -> Server:
    """The same server, at another of its ports."""
    return replace(server, port=port)


def scraped(server: Server, port: int) -> dict[tuple[str, ...], float]:
    """What Prometheus gets: figures by name and labels' values."""
    answer = send_to_server(at(server, port), "GET", "/metrics")
    assert answer.status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@dataclass(frozen=True)
class Counted:
    """A server that counts, and where."""

    server: Server
    port: int

    def ask(self, times: int = 1) -> None:
        for _ in range(times):
            assert send_to_server(self.server, "GET", "/my-pets", bearer(token())).status == 200

    def ask_each_worker(self) -> int:
        """Ask until all of them have answered; how often it took."""
        workers, before, asked = wait_for_workers(self.server, 2), len(self.server.log()), 0
        while True:
            self.ask()
            asked += 1
            lines = map(json.loads, self.server.log()[before:].splitlines())
            if {each["pid"] for each in lines if each.get("route") == "/my-pets"} == set(workers):
                return asked
            assert asked < 1000

    def count(self) -> float:
        return scraped(self.server, self.port)[REQUESTS, "GET", "/my-pets", "200"]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    """Two workers, and a port for Prometheus."""
    port = free_port()
    extra = BASE_ENVIRONMENT | {"METRICS_PORT": str(port)}
    with running(tmp_path_factory.mktemp("counted"), extra) as server:
        counted = Counted(server, port)
        counted.ask()
        yield counted


def test_the_sums_are_right_whichever_worker_is_asked(counted: Counted) -> None:
    before = counted.count()
    asked = counted.ask_each_worker()

    assert {counted.count() for _ in range(20)} == {before + asked}


def test_no_count_is_lost_with_a_killed_worker(counted: Counted) -> None:
    total = counted.count() + counted.ask_each_worker()
    for victim in wait_for_workers(counted.server, 2):
        wait_for_workers(counted.server, 2)
        os.kill(victim, signal.SIGKILL)
        wait_for_workers(counted.server, 2, gone=[victim])
        assert counted.count() == total
        total += counted.ask_each_worker()
        assert counted.count() == total

    until(lambda: len(folders_of(counted.server)) == 1)
    assert counted.count() == total
    [folder] = folders_of(counted.server)
    until(lambda: len(list(folder.glob("histogram_*.db"))) == 3)  # two workers', and the dead's
    assert counted.count() == total


def folders_of(server: Server) -> list[Path]:
    """The folders that the server's processes have their figures in."""
    maps = Path(f"/proc/{server.workers()[0]}/maps").read_text()
    return sorted({Path(found).parent for found in re.findall(rf"/\S*/{scrape.PREFIX}\S+", maps)})


def test_everything_is_there_to_be_asked_for(counted: Counted) -> None:
    send_to_server(
        counted.server, "POST", "/auth", {}, "username=travis&password=mypassword",
        "application/x-www-form-urlencoded",
    )  # fmt: skip
    found = scraped(counted.server, counted.port)

    assert found[SIGN_INS, "signed_in"] == 1
    assert found[REFUSALS, "refresh_token_reused", "/auth/refresh"] == 0
    assert found[(LINE,)] == 0
    assert found[("jwt_server_hash_wait_seconds_count",)] == 1
    assert found[("jwt_server_database_seconds_count",)] > 0
    database = counted.server.log_file.with_name("server.db")
    assert found[("jwt_server_database_bytes",)] == database.stat().st_size
    assert found[("jwt_server_wal_bytes",)] == Path(f"{database}-wal").stat().st_size > 0


def test_a_name_of_a_figure_is_all_that_prometheus_gets(counted: Counted) -> None:
    for _ in range(3):
        send_to_server(counted.server, "GET", "/my-pets?x=mypassword", bearer(token()))
    text = send_to_server(at(counted.server, counted.port), "GET", "/metrics").text

    assert "travis" not in text
    assert "mypassword" not in text
    assert "127.0.0.1" not in text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics/", 200),
        ("GET", "/my-pets", 404),
        ("GET", "/healthz", 404),
        ("POST", "/auth", 404),
        ("GET", "/", 404),
        ("GET", "/metrics/x", 404),
        ("POST", "/metrics", 405),
    ],
)
def test_the_port_is_not_the_services(
    counted: Counted, method: str, path: str, status: int
) -> None:
    answer = send_to_server(at(counted.server, counted.port), method, path, bearer(token()))

    assert answer.status == status
    assert "Bunny" not in answer.text


def test_nor_has_the_service_the_figures(counted: Counted) -> None:
    for headers in ({}, {"Host": f"127.0.0.1:{counted.port}"}):
        answer = send_to_server(counted.server, "GET", "/metrics", headers)
        assert (answer.status, answer.text) == (404, "There is nothing here.")


def test_to_ask_for_the_figures_is_no_request(counted: Counted) -> None:
    before = len(counted.server.log())
    first, second = (scraped(counted.server, counted.port) for _ in range(2))

    assert first == second
    assert counted.server.log()[before:] == ""


def test_only_this_machine_can_ask(counted: Counted) -> None:
    # 127.0.0.2 is this machine, too: who listens on all addresses takes it.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", counted.port), timeout=5)
    assert Settings.metrics_host == "127.0.0.1"


@pytest.fixture(scope="module")
def on_a_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A server on a Unix socket, and its port for Prometheus."""
    folder, port = tmp_path_factory.mktemp("socket"), free_port()
    path = folder / "http.sock"
    extra = BASE_ENVIRONMENT | {
        "HOST": f"unix:{path}", "TRUSTED_PROXIES": "1", "METRICS_PORT": str(port),
    }  # fmt: skip
    assert flask(folder, extra, "init-db").returncode == 0
    process = gunicorn(folder, extra, folder / "server.log")
    try:
        until(path.exists)
        yield path, port
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_behind_a_unix_socket_no_host_leads_to_the_figures(on_a_socket: tuple[Path, int]) -> None:
    path, port = on_a_socket
    answers = []
    for host in ("x", f"127.0.0.1:{port}", f"x:{port}"):
        with closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.connect(str(path))
            connection.sendall(f"GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            answers.append(connection.makefile("rb").read())

    assert all(b" 404 " in answer and b"jwt_server_" not in answer for answer in answers)
    with closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert b"jwt_server_wal_bytes" in connection.makefile("rb").read()


def test_a_port_that_is_taken_is_one_line_and_no_start(tmp_path: Path) -> None:
    assert flask(tmp_path, BASE_ENVIRONMENT, "init-db").returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        [line] = failed_start(tmp_path, BASE_ENVIRONMENT | {"METRICS_PORT": taken})

    assert line.startswith(f"METRICS_PORT: 127.0.0.1:{taken} can't be listened on (Address already")


def test_a_killed_server_starts_again_at_once_and_clears_up_after_itself(tmp_path: Path) -> None:
    port = free_port()
    extra = BASE_ENVIRONMENT | {"METRICS_PORT": str(port)}
    with running(tmp_path, extra) as server:
        Counted(server, port).ask()
        [left] = folders_of(server)
        for pid in [*server.workers(), server.process.pid]:
            os.kill(pid, signal.SIGKILL)
        server.process.wait()
    assert left.exists()

    with started(tmp_path, extra) as server:
        Counted(server, port).ask()
        [folder] = folders_of(server)
        assert Counted(server, port).count() == 1
        assert not left.exists()
    assert not folder.exists()


def test_with_port_0_nobody_is_told_and_nothing_is_kept(server: Server) -> None:
    send_to_server(server, "GET", "/healthz")

    assert folders_of(server) == []
    assert server.log().count("Listening at: http://127.0.0.1") == 1
    assert "," not in re.findall(r"Listening at: (\S+)", server.log())[0]


BOARD = json.loads((ROOT / "deploy" / "grafana.json").read_text())
WATCH = (ROOT / "docs" / "operations.md").read_text().split("\n## Metrics\n")[1].split("\n## ")[0]


def names_there(app: Flask, settings: Settings) -> set[str]:
    registry = service_of(app).metrics.registry
    registry.register(scrape.FileSizes(settings.database))
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
