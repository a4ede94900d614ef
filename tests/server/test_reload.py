"""New code and new settings for a service under load; and its end, as its clients see it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jwt
import pytest

from jwt_server.sqlite import SCHEMA_VERSION
from tests.helpers.factories import CREDENTIALS
from tests.helpers.http import send_to_server
from tests.helpers.load import load
from tests.helpers.nginx import needs_nginx, nginx
from tests.helpers.server import (
    BASE_ENVIRONMENT,
    ROOT,
    Server,
    flask,
    free_port,
    gunicorn,
    running,
    until,
)

RELOADS = 10
SECONDS = 30

wait_until = partial(until, seconds=SECONDS)


@dataclass(frozen=True)
class Site:
    """A service with code of its own, which a test changes, and settings in `.env`."""

    server: Server
    folder: Path

    @property
    def package(self) -> Path:
        return self.folder / "jwt_server"

    def change(self, file: str, old: str, new: str) -> None:
        """Deploy another version of a file, as a whole, as an installer does."""
        path = self.package / file
        text = path.read_text()
        assert old in text
        draft = path.with_suffix(".new")
        draft.write_text(text.replace(old, new))
        draft.replace(path)

    def set(self, **settings: str) -> None:
        """Write other settings."""
        lines = [f"{name}={value!r}" for name, value in (BASE_ENVIRONMENT | settings).items()]
        (self.folder / ".env").write_text("\n".join(lines))

    def reload(self) -> subprocess.CompletedProcess[str]:
        return flask(self.folder, self.environment(self.folder), "reload")

    @staticmethod
    def environment(folder: Path) -> dict[str, str]:
        return {"PYTHONPATH": str(folder)}


def install(folder: Path) -> None:
    """Put the service and its settings into a folder, as they are meant to be."""
    shutil.copytree(ROOT / "jwt_server", folder / "jwt_server", dirs_exist_ok=True)
    if not (folder / "wsgi.py").exists():
        (folder / "wsgi.py").symlink_to("jwt_server/wsgi.py")
    lines = [f"{name}={value!r}" for name, value in BASE_ENVIRONMENT.items()]
    (folder / ".env").write_text("\n".join(lines))


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    install(folder)
    with running(folder, Site.environment(folder)) as server:
        wait_until(lambda: len(server.workers()) == 2)
        yield Site(server, folder)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path) as site:
        yield site


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """For tests that spoil something, and lay it right again."""
    with serving(tmp_path_factory.mktemp("unharmed")) as site:
        yield site


def alive(site: Site) -> str:
    return send_to_server(site.server, "GET", "/healthz").text


def test_ten_reloads_to_new_code_fail_no_request_and_keep_the_process(site: Site) -> None:
    with load(site.server, each=1) as clients:
        for number in range(RELOADS):
            before = "alive" if not number else f"alive {number}"
            site.change("ops/health.py", f'response_class("{before}"',
                        f'response_class("alive {number + 1}"')  # fmt: skip
            done = site.reload()
            assert done.returncode == 0, done.stderr
            assert f"Reloaded: process {site.server.process.pid} runs" in done.stdout
            assert alive(site) == f"alive {number + 1}"

    assert clients.failures() == []
    wanted = {"alive", *(f"alive {number + 1}" for number in range(RELOADS))}
    assert {text for text in clients.answers() if text.startswith("alive")} == wanted
    assert clients.answers()["/auth"] > RELOADS
    assert "Traceback" not in site.server.log()


@needs_nginx
def test_nginx_sees_no_reload_either(site: Site, tmp_path: Path) -> None:
    port = free_port()
    folder = tmp_path / "nginx"
    folder.mkdir()
    before = f"""
        upstream service {{ server {site.server.host}:{site.server.port}; keepalive 8; }}
        server {{
            listen 127.0.0.1:{port};
            location / {{
                proxy_pass http://service;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
            }}
        }}"""
    with nginx(folder, before, port) as proxy, load(proxy) as clients:
        for _ in range(2):
            assert site.reload().returncode == 0

    assert clients.failures() == []
    assert clients.answers()["/auth"] > RELOADS


def test_a_reload_takes_settings_and_fails_no_request(site: Site) -> None:
    with load(site.server) as clients:
        for seconds in (60, 120):
            site.set(TEXT_TOKEN_TTL=str(seconds))
            assert site.reload().returncode == 0
            assert lifetime(site) == seconds

    assert clients.failures() == []


def lifetime(site: Site) -> int:
    """How many seconds a token is good for that is signed now."""
    body = json.dumps(CREDENTIALS)
    answer = send_to_server(site.server, "POST", "/auth", {}, body, "application/json")
    claims = jwt.decode(answer.text, options={"verify_signature": False})
    return int(claims["exp"] - claims["iat"])


def of_version(site: Site, version: int) -> None:
    with closing(sqlite3.connect(site.folder / "server.db")) as driver, driver:
        driver.execute(f"PRAGMA user_version = {version}")


REFUSED: dict[str, tuple[Callable[[Site], None], str]] = {
    "code that is none": (
        lambda site: site.change("ops/health.py", "def alive", "def alive alive"), "SyntaxError"),
    "code that can't be imported": (
        lambda site: site.change("pets/routes.py", "import", "import nothing_of_this_name\nimport"),
        "SyntaxError"),
    "a worker that is none": (
        lambda site: site.change("ops/worker.py", "class Worker(", "class Worker(Nothing, "),
        "Nothing"),
    "no application": (lambda site: (site.folder / "wsgi.py").unlink(), "wsgi"),
    "a release that wants another schema": (
        lambda site: site.change("sqlite.py", "SCHEMA_VERSION: Final = 5",
                                 "SCHEMA_VERSION: Final = 6"),
        "has schema version 5, this release needs 6"),
    "a setting with a mistake": (
        lambda site: site.set(TEXT_TOKEN_TTL="soon"), "TEXT_TOKEN_TTL: 'soon' is"),
    "another address": (
        lambda site: site.set(HOST="127.0.0.2"), "a reload can't change"),
    "a database that can't be used": (
        lambda site: of_version(site, 99), "has schema version 99"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_would_not_start_changes_nothing(
    unharmed: Site, spoil: Callable[[Site], None], reason: str
) -> None:
    server, workers = unharmed.server, unharmed.server.workers()
    spoil(unharmed)
    before = len(server.log())
    try:
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "The service goes on as it was." in server.log()[before:])
    finally:
        install(unharmed.folder)
        of_version(unharmed, SCHEMA_VERSION)

    assert reason in server.log()[before:]
    wait_until(lambda: server.workers() == workers)  # and no child that tries anything
    assert alive(unharmed) == "alive"


def test_the_command_tells_why_nothing_was_reloaded(site: Site) -> None:
    """Such a mistake as only the service meets: the command's own settings are other ones."""
    site.set(SALT_ROUNDS="5")
    (site.folder / ".env").write_text("JWT_SECRET=short")
    done = flask(site.folder, Site.environment(site.folder) | BASE_ENVIRONMENT, "reload")

    assert done.returncode == 1
    assert "JWT_SECRET:" in done.stderr
    assert "The service goes on as it was." in done.stderr
    assert alive(site) == "alive"

    site.set()
    assert site.reload().returncode == 0


def test_the_command_says_that_no_service_runs(tmp_path: Path) -> None:
    with running(tmp_path, BASE_ENVIRONMENT):
        pass
    assert (tmp_path / "server.db.pid").exists()

    done = flask(tmp_path, BASE_ENVIRONMENT, "reload")

    assert done.returncode == 1
    assert f"No service runs with {tmp_path / 'server.db'}." in done.stderr


def test_reloads_upon_reloads_are_neither_lost_nor_fatal(site: Site) -> None:
    process = site.server.process
    with load(site.server, each=1) as clients:
        for _ in range(10):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.2)
        wait_until(lambda: site.reload().returncode == 0)

    assert clients.failures() == []
    assert process.poll() is None


@pytest.mark.parametrize("delay", [0.3, 0.6, 0.9])
def test_a_stop_during_a_reload_is_not_lost(site: Site, delay: float) -> None:
    """It comes while the code is tried, between the old arbiter and the new, or right after."""
    site.server.process.send_signal(signal.SIGHUP)
    time.sleep(delay)
    site.server.process.send_signal(signal.SIGTERM)

    assert site.server.process.wait(timeout=SECONDS) == 0


def test_a_stop_does_not_wait_for_code_that_hangs(site: Site) -> None:
    site.change("wsgi.py", "import sys", "import sys, time\ntime.sleep(100)")
    begun = time.monotonic()
    site.server.process.send_signal(signal.SIGHUP)
    time.sleep(1)
    site.server.process.send_signal(signal.SIGTERM)

    assert site.server.process.wait(timeout=SECONDS) == 0
    assert time.monotonic() - begun < 10


def test_a_reload_with_no_worker_alive_makes_new_ones_and_can_be_done_again(site: Site) -> None:
    for _ in range(2):
        for worker in site.server.workers():
            os.kill(worker, signal.SIGKILL)
        assert site.reload().returncode == 0
        assert alive(site) == "alive"
    os.kill(site.server.workers()[0], signal.SIGKILL)
    wait_until(lambda: len(site.server.workers()) == 2)  # who dies is replaced, as ever


def test_a_spoiled_note_harms_no_reload(site: Site) -> None:
    for note in ("", "[1]", '{"pid": "x"}'):
        before = site.server.log().count("new workers relieve")
        (site.folder / "server.db.pid").write_text(note)
        site.server.process.send_signal(signal.SIGHUP)
        wait_until(partial(reloaded, site.server, before + 1))

    assert site.reload().returncode == 0


def test_reloads_leave_no_open_file_and_no_figures_behind(site: Site) -> None:
    def held(pid: int) -> int:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    assert site.reload().returncode == 0
    wait_until(lambda: len(site.server.workers()) == 2)
    arbiter, worker = held(site.server.process.pid), held(min(site.server.workers()))
    for _ in range(2):
        assert site.reload().returncode == 0
        wait_until(lambda: len(site.server.workers()) == 2)

    assert held(site.server.process.pid) == arbiter
    assert abs(held(min(site.server.workers())) - worker) <= 1  # a connection to the database


def test_a_unix_socket_outlives_reloads_and_goes_with_the_service(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    extra = BASE_ENVIRONMENT | {"HOST": f"unix:{path}", "TRUSTED_PROXIES": "1"}
    for command in ("init-db", "seed"):
        assert flask(tmp_path, extra, command).returncode == 0
    process = gunicorn(tmp_path, extra, tmp_path / "server.log")
    try:
        for _ in range(3):
            wait_until(lambda: (tmp_path / "server.db.pid").exists() and path.exists())
            done = flask(tmp_path, extra, "reload")
            assert done.returncode == 0, done.stderr
            with closing(socket.socket(socket.AF_UNIX)) as client:
                client.connect(str(path))
                client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                assert b" 200 OK" in client.recv(65536)
    finally:
        process.terminate()
        assert process.wait(timeout=SECONDS) == 0
    assert not path.exists()


def test_who_says_nothing_holds_no_reload_up(site: Site) -> None:
    """Nor a stop, where workers end in the same way."""
    workers = site.server.workers()
    silent = [socket.create_connection((site.server.host, site.server.port)) for _ in range(4)]
    time.sleep(6)  # so long a thread waits for the first request; then the connection is put aside
    begun = time.monotonic()
    site.server.process.send_signal(signal.SIGHUP)

    wait_until(lambda: not set(workers) & set(site.server.workers()))
    assert time.monotonic() - begun < 15
    for each in silent:
        each.settimeout(SECONDS)
        assert each.recv(1) == b""
        each.close()


def reloaded(server: Server, times: int) -> bool:
    return server.log().count("new workers relieve") == times and len(server.workers()) == 2


SIGNED_IN = "username=travis&password=mypassword"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM], ids=lambda each: each.name)
def test_who_hashes_or_stands_in_line_is_served(tmp_path: Path, number: signal.Signals) -> None:
    slow = {"WORKERS": "1", "HASH_CONCURRENCY": "1", "HASH_QUEUE": "8", "SALT_ROUNDS": "10"}
    with running(tmp_path, BASE_ENVIRONMENT | slow) as server:
        answers = in_parallel(server, 6, "POST", "/auth", SIGNED_IN)
        wait_until(lambda: connections(server) >= 6)
        server.process.send_signal(number)

        assert [answer.status for answer in answers()] == [200] * 6
        assert '"status": 503' not in server.log()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM], ids=lambda each: each.name)
def test_who_waits_to_be_let_in_is_served(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, BASE_ENVIRONMENT) as server:
        wait_until(lambda: len(server.workers()) == 2)
        workers = server.workers()
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        answers = in_parallel(server, 20, "GET", "/healthz")
        wait_until(lambda: connections(server) >= 20)
        server.process.send_signal(number)
        time.sleep(0.5)
        for worker in workers:
            os.kill(worker, signal.SIGCONT)

        assert [answer.status for answer in answers()] == [200] * 20


def test_an_idle_connection_ends_without_a_reset(site: Site) -> None:
    with closing(socket.create_connection((site.server.host, site.server.port))) as idle:
        idle.settimeout(SECONDS)
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        read_until(idle, b"\r\n\r\nalive")
        site.server.process.send_signal(signal.SIGHUP)

        assert idle.recv(65536) == b""
        # What crosses the end is read and lost: no reset, which a client may not try again after.
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        idle.shutdown(socket.SHUT_WR)
        assert idle.recv(65536) == b""


def test_who_does_not_hang_up_holds_nobody_up(server: Server) -> None:
    held = []
    for _ in range(8):
        held.append(socket.create_connection((server.host, server.port)))
        held[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        read_until(held[-1], b"\r\n\r\nalive")
    begun = time.monotonic()
    for _ in range(20):
        assert send_to_server(server, "GET", "/healthz").status == 200

    assert time.monotonic() - begun < 2  # one of those eight would have cost that
    for each in held:
        each.close()


def read_until(connection: socket.socket, end: bytes) -> None:
    said = b""
    while end not in said:
        more = connection.recv(65536)
        assert more
        said += more


def connections(server: Server) -> int:
    """How many a client has opened, taken or not; both ends of each are on this machine."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    local = f":{server.port:04X}"
    return sum(1 for line in lines if line.split()[1].endswith(local) and line.split()[3] == "01")


def in_parallel(
    server: Server, count: int, method: str, path: str, body: str = ""
) -> Callable[[], Sequence[http.client.HTTPResponse]]:
    """Ask so often at once; what comes is there when it is asked for."""
    found: list[http.client.HTTPResponse] = []

    def ask() -> None:
        with closing(
            http.client.HTTPConnection(server.host, server.port, timeout=SECONDS)
        ) as connection:
            connection.request(
                method, path, body, {"Content-Type": "application/x-www-form-urlencoded"}
            )
            answer = connection.getresponse()
            answer.read()
            found.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()

    def answers() -> Sequence[http.client.HTTPResponse]:
        for thread in threads:
            thread.join()
        return found

    return answers
