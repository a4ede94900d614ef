"""gunicorn's worker of ours: it stays with a connection, and nobody has to wait for that."""

from __future__ import annotations

import http.client
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from tests.helpers.factories import bearer, token
from tests.helpers.http import send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, running

ONE = BASE_ENVIRONMENT | {"WORKERS": "1", "HASH_CONCURRENCY": "1", "HASH_QUEUE": "0"}
THREADS = 33  # which follow from these


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("worker"), ONE) as server:
        yield server


def test_each_of_more_busy_connections_than_threads_has_its_turn(alone: Server) -> None:
    until = time.monotonic() + 3
    answered = [0] * (2 * THREADS)

    def ask_on_and_on(number: int) -> None:
        with closing(http.client.HTTPConnection(alone.host, alone.port, timeout=20)) as connection:
            while time.monotonic() < until:
                connection.request("GET", "/healthz")
                assert connection.getresponse().read() == b"alive"
                answered[number] += 1

    clients = [
        threading.Thread(target=ask_on_and_on, args=(number,)) for number in range(len(answered))
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()

    assert min(answered) > 0
    assert max(answered) < 20 * min(answered)


def test_requests_that_are_sent_at_once_are_answered_in_turn(alone: Server) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: request-%d\r\n\r\n"
    last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    answer = alone.raw(b"".join(one % number for number in range(5)) + last % 5)

    found = [answer.find(b"X-Request-ID: request-%d" % number) for number in range(6)]
    assert found == sorted(found)
    assert answer.count(b"200 OK") == 6
    assert -1 not in found


def test_a_connection_that_says_nothing_more_costs_nobody_anything(alone: Server) -> None:
    idle = []
    for _ in range(2 * THREADS):
        connection = http.client.HTTPConnection(alone.host, alone.port, timeout=10)
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        idle.append(connection)

    assert send_to_server(alone, "GET", "/my-pets", bearer(token())).status == 200
    for connection in idle:
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"alive"
        connection.close()


def test_a_stop_is_quick_and_loses_no_answer(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("stop"), ONE) as server:
        kept = http.client.HTTPConnection(server.host, server.port, timeout=10)
        kept.request("GET", "/healthz")
        kept.getresponse().read()
        silent = socket.create_connection((server.host, server.port))

        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=20)

    assert time.monotonic() - started < 10
    assert server.process.returncode == 0
    assert "Traceback" not in server.log()
    kept.close()
    silent.close()


def test_a_worker_whose_arbiter_was_killed_stops_though_its_clients_go_on(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running(tmp_path_factory.mktemp("orphan"), ONE) as server:
        busy = http.client.HTTPConnection(server.host, server.port, timeout=10)
        started = time.monotonic()
        server.process.kill()
        server.process.wait(timeout=10)

        with pytest.raises((OSError, http.client.HTTPException)):
            while time.monotonic() - started < 10:
                busy.request("GET", "/healthz")
                assert busy.getresponse().read() == b"alive"
        busy.close()

        while time.monotonic() - started < 10:  # another arbiter can have the port
            with socket.socket() as probe, suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((server.host, server.port))
                probe.listen()
                break
            time.sleep(0.1)

    assert time.monotonic() - started < 10
