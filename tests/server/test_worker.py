"""The overrides of gunicorn's worker: each of these tests fails without one of them."""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import gunicorn
import pytest
from gunicorn.config import Config
from gunicorn.http.errors import ParseException

from jwt_server.gunicorn.connection import Connection, Socket
from jwt_server.gunicorn.worker import VERIFIED
from tests.helpers.app import Clock
from tests.helpers.cpu import cpu_milliseconds
from tests.helpers.factories import bearer, token
from tests.helpers.http import send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, UNSHARED, Server, running
from tests.helpers.waiting import free_port, until

ONE = BASE_ENVIRONMENT | {"WORKERS": "1", "HASH_CONCURRENCY": "1", "HASH_QUEUE": "0"}
THREADS = 33
"""Which follow from these settings."""
LIMIT = 2000
"""Requests that a client sends at most."""

CONFIG: Any = Config  # gunicorn has no types
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
UPLOAD = b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\nusername="
CHUNKED = UPLOAD.replace(b"Content-Length: 20\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n9\r\n")
CLOSE = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("worker"), ONE) as server:
        yield server


def test_the_installed_gunicorn_is_of_a_verified_series() -> None:
    assert gunicorn.__version__.startswith(f"{VERIFIED}."), (
        f"The worker was verified with gunicorn {VERIFIED}, not with {gunicorn.__version__}:"
        " see the first lines of jwt_server/gunicorn/worker.py."
    )


def open_connection(server: Server) -> socket.socket:
    return socket.create_connection((server.host, server.port), timeout=20)


def respond(connection: socket.socket, request: bytes = GET, responses: int = 1) -> None:
    """Send a request, or several, and read each response."""
    connection.sendall(request)
    received = b""
    while received.count(b"\r\n\r\nalive") < responses:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError
        received += more


def test_more_busy_connections_than_threads_are_all_served(one_worker: Server) -> None:
    counts = [0] * (2 * THREADS)

    def send(number: int) -> None:
        with open_connection(one_worker) as connection:
            while min(counts) < 5 and counts[number] < LIMIT:
                respond(connection)
                counts[number] += 1

    threads = [threading.Thread(target=send, args=(number,)) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert min(counts) >= 5
    assert max(counts) < LIMIT  # else some were served only after others had finished


OWN_APP = """
from threading import Event

other = Event()

def broken(error):
    yield b"aliv"
    raise error

class BrokenClose(list):
    def close(self):
        raise OSError

def app(environ, start_response):
    if environ["PATH_INFO"] == "/healthz":
        other.set()
    elif environ["PATH_INFO"] == "/waits":
        other.clear()
        other.wait(120)
    start_response("200 OK", [("Content-Length", "5")])
    bodies = {
        "/exits": broken(SystemExit(1)), "/fails": broken(OSError(5, "I/O error")),
        "/close": BrokenClose([b"alive"]),
    }
    return bodies.get(environ["PATH_INFO"], [b"alive"])
"""


@pytest.fixture(scope="module")
def own_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one worker and the app above."""
    folder = tmp_path_factory.mktemp("own-app")
    (folder / "wsgi.py").write_text(OWN_APP)
    with running(folder, ONE) as server:
        yield server


def test_a_request_that_takes_long_does_not_delay_others(own_app: Server) -> None:
    """Here it ends only after another one was handled, by the same worker."""
    wait = GET.replace(b"/healthz", b"/waits")
    for _ in range(3):
        with ExitStack() as stack:
            waiting = [stack.enter_context(open_connection(own_app)) for _ in range(THREADS - 1)]
            for connection in waiting:
                connection.sendall(wait)
            respond(stack.enter_context(open_connection(own_app)))
            for connection in waiting:
                respond(connection, b"")


@pytest.mark.parametrize("path", [b"/exits", b"/fails", b"/close"])
def test_no_response_follows_one_that_has_failed(own_app: Server, path: bytes) -> None:
    [worker] = own_app.workers()

    response = own_app.raw(GET.replace(b"/healthz", path) + GET)

    assert response.count(b"HTTP/1.1 ") == 1
    assert own_app.workers() == [worker]


def test_no_response_follows_a_body_that_nobody_has_read(own_app: Server) -> None:
    """Its end is invalid, so nobody knows where the next request begins."""
    head = GET.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")

    assert own_app.raw(head + b"bad\r\n" + GET).count(b"HTTP/1.1 ") == 1


def test_pipelining_clients_do_not_delay_others(own_app: Server) -> None:
    """Though there are more of them than threads."""
    done = threading.Event()

    def pipeline() -> None:
        with open_connection(own_app) as connection:
            while not done.is_set():
                respond(connection, GET * 200, 200)

    threads = [threading.Thread(target=pipeline) for _ in range(THREADS + 1)]
    for thread in threads:
        thread.start()
    with open_connection(own_app) as connection:
        for _ in range(10):
            respond(connection)
    done.set()
    for thread in threads:
        thread.join()


def test_connections_are_spread_evenly_over_the_workers(tmp_path: Path) -> None:
    with running(tmp_path, BASE_ENVIRONMENT | {"WORKERS": "2"}) as server:

        def is_socket(file: Path) -> bool:
            with suppress(FileNotFoundError):  # closed since it was listed
                return str(file.readlink()).startswith("socket:")
            return False

        def sockets() -> list[int]:
            folders = [Path(f"/proc/{pid}/fd") for pid in server.workers()]
            return [sum(map(is_socket, folder.iterdir())) for folder in folders]

        def is_even() -> bool:
            """Not before both workers have started, nor while an earlier connection is closed."""
            before = sockets()
            with ExitStack() as stack:
                for _ in range(12):
                    respond(stack.enter_context(open_connection(server)))
                return [now - then for now, then in zip(sockets(), before, strict=False)] == [6, 6]

        until(is_even, 60)


def test_pipelined_requests_are_answered_in_order(one_worker: Server) -> None:
    def request(number: int) -> bytes:
        return (CLOSE if number == 5 else GET).replace(
            b"Host: x", b"Host: x\r\nX-Request-ID: request-%d" % number
        )

    response = one_worker.raw(b"".join(map(request, range(6))))

    found = [response.find(b"X-Request-ID: request-%d" % number) for number in range(6)]
    assert found == sorted(found)
    assert response.count(b"200 OK") == 6
    assert -1 not in found


def test_idle_connections_take_no_thread(one_worker: Server) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(open_connection(one_worker)) for _ in range(2 * THREADS)]
        for connection in idle:
            respond(connection)

        assert send_to_server(one_worker, "GET", "/my-pets", bearer(token())).status == 200
        for connection in idle:
            respond(connection)


@pytest.mark.parametrize(
    ("sent", "rest", "status"),
    [
        (b"", GET, b"200"),
        (GET[:-2], b"\r\n", b"200"),
        (GET[:-2] + b"Cookie: " + b"x" * 6000, b"\r\n\r\n", b"200"),
        (UPLOAD, b"travis&x=xx", b"422"),
    ],
    ids=["nothing", "a part of the head", "a part of a large head", "a part of the body"],
)
def test_clients_that_have_sent_no_whole_request_take_no_thread(
    one_worker: Server, sent: bytes, rest: bytes, status: bytes
) -> None:
    """For silent clients gunicorn would wait ten times for five seconds, for the others forever."""
    with ExitStack() as stack:
        waiting = [stack.enter_context(open_connection(one_worker)) for _ in range(10 * THREADS)]
        for connection in waiting:
            connection.sendall(sent)

        assert send_to_server(one_worker, "GET", "/my-pets", bearer(token())).status == 200
        for connection in waiting:
            connection.sendall(rest)
            assert connection.recv(65536).startswith(b"HTTP/1.1 " + status)


def test_a_head_may_come_in_parts_between_pipelined_requests(one_worker: Server) -> None:
    with open_connection(one_worker) as connection:
        for end in range(1, len(GET)):
            connection.sendall(GET[:end])
            respond(connection, GET[end:])
            respond(connection, GET + GET[:end])
            respond(connection, GET[end:])


@contextmanager
def connected() -> Iterator[tuple[socket.socket, Connection]]:
    """Yield a client's socket, and the worker's connection to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=20)
        accepted, address = listener.accept()
    conn = Connection(CONFIG(), accepted, address, accepted.getsockname())
    with client, closing(conn.sock):
        yield client, conn


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, Connection]]:
    """A client's socket, and the worker's connection to it."""
    with connected() as pair:
        yield pair


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that deadlines are measured with."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_a_head_has_a_deadline_that_more_bytes_do_not_move(
    connection: tuple[socket.socket, Connection], monotonic: Clock
) -> None:
    client, conn = connection
    for byte in GET[:9]:
        client.sendall(bytes([byte]))
        assert not conn.receive()
        monotonic.advance(1)

    assert conn.sock.deadline - time.monotonic() == 1


def test_a_body_has_the_deadline_of_its_head(
    connection: tuple[socket.socket, Connection], monotonic: Clock
) -> None:
    client, conn = connection
    client.sendall(UPLOAD.replace(b"Host: x", b"Expect: 100-continue"))
    assert conn.receive()
    request = next(conn.parser)
    monotonic.advance(11)
    client.sendall(b"t")
    with pytest.raises(TimeoutError):
        request.body.read()


@pytest.mark.parametrize("part", [1000, 1_000_000])
@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize("send", [Socket.sendall, Socket.send])  # gunicorn uses both
def test_a_client_must_read_each_part_of_a_response_in_time(
    connection: tuple[socket.socket, Connection], monkeypatch: pytest.MonkeyPatch,
    send: Callable[..., object], slow: bool, part: int,
) -> None:  # fmt: skip
    """Each wait seems to take 20 seconds, or a hundredth of one."""
    client, conn = connection
    ticks = count(step=20 if slow else 0.01)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def read() -> None:
        while client.recv(1000):
            pass

    reader = threading.Thread(target=read)
    reader.start()
    with pytest.raises(TimeoutError) if slow else nullcontext():
        for _ in range(1_000_000 // part):
            send(conn.sock, bytes(part))
    conn.sock.close()
    reader.join()


def test_looking_whether_a_client_has_left_takes_nothing_of_its_next_request(
    connection: tuple[socket.socket, Connection],
) -> None:
    """Also if the request has waited in the hash queue until after the deadline."""
    client, conn = connection
    conn.sock.deadline = 0
    client.sendall(GET)

    assert conn.sock.recv(1, socket.MSG_PEEK) == GET[:1]
    assert conn.receive()
    assert next(conn.parser).path == "/healthz"


def test_a_full_worker_closes_what_has_been_idle_longest(tmp_path: Path) -> None:
    """And keeps those whose request may be on the way."""
    limit = 20
    extra = {"GUNICORN_CMD_ARGS": f"--worker-connections {limit}"}
    with running(tmp_path, ONE | extra) as server, ExitStack() as stack:
        idle = [stack.enter_context(open_connection(server)) for _ in range(limit)]
        for connection in idle:
            respond(connection)
        new = stack.enter_context(open_connection(server))
        respond(new)

        assert idle[0].recv(1) == b""
        for connection in (*idle[1:], new):
            respond(connection)
        assert server.log().count("New connections wait") == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Cookie: " + b"x" * 16_000 + b"\r\n", b"200"),
        (b"Cookie: " + b"x" * 16_384 + b"\r\n", b"431"),
        (b"".join(b"H%d: x\r\n" % number for number in range(99)), b"200"),
        (b"".join(b"H%d: x\r\n" % number for number in range(100)), b"431"),
    ],
    ids=["16 KB", "more than 16 KB", "100 headers", "101 headers"],
)
def test_headers_have_a_limit(one_worker: Server, headers: bytes, status: bytes) -> None:
    response = one_worker.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")

    assert response.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("part", [b"\r\n ", b"a:\r\n", b"a: " + b"b" * 600 + b"\r\n", b"\n", b":"])
def test_no_head_is_costly_to_parse(part: bytes) -> None:
    head = b"GET / HTTP/1.1\r\n" + part * (60_000 // len(part)) + b"\r\n\r\n"

    def parse() -> None:
        with connected() as (client, conn):
            client.sendall(head)
            while not conn.receive():
                pass
            with suppress(ParseException):
                next(conn.parser)

    assert cpu_milliseconds(parse) < 20


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_head_is_bounded_as_a_whole(one_worker: Server, end: bytes) -> None:
    """Each of its headers is short enough, and so is their number."""
    headers = b"".join(b"H%d: %s\r\n" % (number, b"x" * 1000) for number in range(90))
    with open_connection(one_worker) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n" + headers + end)
        assert connection.recv(65536).startswith(b"HTTP/1.1 431 ")


def test_clients_that_do_not_close_their_end_delay_no_others(one_worker: Server) -> None:
    """Gunicorn's main thread would wait for two seconds for each, before it closes the next."""
    with ExitStack() as stack:
        clients = [stack.enter_context(open_connection(one_worker)) for _ in range(40)]
        for client in clients:
            respond(client, CLOSE)
        for client in clients:
            assert client.recv(1) == b""  # within 20 seconds, while none is closed here


@pytest.fixture
def patient_server(tmp_path: Path) -> Iterator[Server]:
    """A server that waits for its workers for 210 seconds when it is stopped."""
    with running(tmp_path, ONE | {"HASH_WAIT": "100"}) as server:
        yield server


def stop(server: Server) -> None:
    """Stop a server within a minute, without an error."""
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=60) == 0
    assert "Traceback" not in server.log()


@pytest.mark.slow
def test_a_stop_does_not_wait_for_clients_that_send_nothing(patient_server: Server) -> None:
    """Gunicorn would wait for them as long as for requests."""
    with open_connection(patient_server), open_connection(patient_server) as later:
        respond(later)  # so both are accepted
        stop(patient_server)


@pytest.mark.slow
def test_a_stop_does_not_wait_for_clients_that_do_not_close(patient_server: Server) -> None:
    """Eight at a time for two seconds each would take more than a minute."""
    with ExitStack() as stack:
        for _ in range(300):
            respond(stack.enter_context(open_connection(patient_server)), CLOSE)
        stop(patient_server)


@pytest.mark.slow
def test_clients_that_stall_free_their_thread_without_a_trace(tmp_path: Path) -> None:
    download = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 3
    with running(tmp_path, ONE) as server, ExitStack() as stack:
        silent = stack.enter_context(open_connection(server))
        for sent in (CHUNKED, download):
            stalled = [stack.enter_context(open_connection(server)) for _ in range(THREADS)]
            for connection in stalled:
                connection.sendall(sent)
            assert send_to_server(server, "GET", "/my-pets", bearer(token())).status == 200
            if sent is CHUNKED:
                assert stalled[0].recv(65536).startswith(b"HTTP/1.1 400 ")
        assert silent.recv(1) == b""  # before KEEP_ALIVE
        assert '"level": "ERROR"' not in server.log()


@pytest.mark.slow
def test_a_worker_without_files_closes_idle_connections_for_new_ones(tmp_path: Path) -> None:
    with running(tmp_path, ONE) as server, ExitStack() as stack:
        first = server.workers()
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (128, 128))
        os.kill(first[0], signal.SIGKILL)  # the next one has the limit
        until(lambda: server.workers() not in ([], first), 60)
        [worker] = server.workers()
        for _ in range(140):
            respond(stack.enter_context(open_connection(server)))

        assert send_to_server(server, "GET", "/my-pets", bearer(token())).status == 200
        assert server.log().count("New connections wait") <= 1
        assert server.workers() == [worker]


LARGE = GET[:-2] + (b"Cookie: " + b"x" * 16_000 + b"\r\n") * 3


@pytest.mark.slow
def test_clients_that_half_send_requests_do_not_make_a_worker_grow(tmp_path: Path) -> None:
    """Also those of the metrics port, and more at once than a worker accepts."""
    metrics = free_port()
    with running(tmp_path, ONE | {"METRICS_PORT": str(metrics)}, UNSHARED) as server:
        [worker] = server.workers()
        use_all_threads(server)
        before = memory(worker)
        for port, sent, count in (
            (metrics, b"GET /metrics HTTP/1.1\r\n", 66),
            (server.port, b"", 1100),
            (server.port, LARGE, 1100),
            (server.port, UPLOAD, 1100),
        ):
            with ExitStack() as stack:
                for _ in range(count):
                    connection = socket.create_connection((server.host, port), timeout=20)
                    stack.enter_context(connection).settimeout(0)
                    with suppress(OSError):
                        connection.sendall(sent)
        use_all_threads(server)

        assert server.workers() == [worker]
        assert memory(worker) < 1.5 * before


def use_all_threads(server: Server) -> None:
    with ThreadPoolExecutor(2 * THREADS) as pool:
        requests = range(10 * THREADS)
        ask = partial(send_to_server, server, "GET", "/my-pets", bearer(token()))
        assert {each.status for each in pool.map(lambda _: ask(), requests)} == {200}


def memory(process: int) -> int:
    """Return the proportional set size, in KiB."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    return int(rollup.split("Pss:")[1].split()[0])


@pytest.mark.slow
def test_a_worker_stops_after_its_arbiter_was_killed(tmp_path: Path) -> None:
    """Also if its clients go on; then the next arbiter can have the port."""
    with running(tmp_path, ONE) as server:
        [worker] = server.workers()
        with open_connection(server) as busy:
            respond(busy)
            server.process.kill()
            server.process.wait(timeout=120)
            with pytest.raises(ConnectionError):
                for _ in range(2000):
                    respond(busy)
                    time.sleep(0.01)
        until(lambda: not Path(f"/proc/{worker}").exists(), 60)
        with closing(socket.create_server((server.host, server.port))):
            pass
