"""The lane: so many hash at once, the rest wait in line, and nothing else waits for them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient

from jwt_server.errors import HashingBusy
from jwt_server.security.hash_queue import HashQueue
from tests.helpers.app import MakeApp
from tests.helpers.description import password_operations
from tests.helpers.factories import CREDENTIALS, bearer, token
from tests.helpers.http import Send, send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, running

PATIENCE = 10
SLOW = "13"  # bcrypt's cost: a hash takes half a second


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Hashers:
    """Threads in a lane, each of which stays at its place until it is told to leave."""

    def __init__(self, queue: HashQueue) -> None:
        self.queue = queue
        self.pool = ThreadPoolExecutor(32)
        self.began: list[int] = []
        self.leave = [threading.Event() for _ in range(32)]

    def come(self, number: int) -> Future[None]:
        """One more; returns when it has its place, or stands in line."""
        waiting, began = self.queue.waiting, len(self.began)
        future = self.pool.submit(self._hash, number)
        until(lambda: future.done() or self.queue.waiting > waiting or len(self.began) > began)
        return future

    def _hash(self, number: int) -> None:
        with self.queue.turn():
            self.began.append(number)
            self.leave[number].wait(PATIENCE)


def test_those_in_line_come_in_the_order_in_which_they_came() -> None:
    hashers = Hashers(HashQueue(places=1, queue=10, wait=PATIENCE))
    futures = [hashers.come(number) for number in range(8)]

    assert hashers.began == [0]
    for number, future in enumerate(futures):
        hashers.leave[number].set()
        future.result(PATIENCE)

    assert hashers.began == list(range(8))
    assert hashers.queue.waiting == 0


def test_no_more_than_its_places_hash_at_once() -> None:
    hashers = Hashers(HashQueue(places=3, queue=10, wait=PATIENCE))
    futures = [hashers.come(number) for number in range(5)]

    assert hashers.began == [0, 1, 2]
    assert hashers.queue.waiting == 2
    for event in hashers.leave:
        event.set()
    for future in futures:
        future.result(PATIENCE)


def test_a_full_line_takes_nobody_more() -> None:
    hashers = Hashers(HashQueue(places=1, queue=2, wait=PATIENCE))
    futures = [hashers.come(number) for number in range(3)]

    with pytest.raises(HashingBusy), hashers.queue.turn():
        pass

    for event in hashers.leave:
        event.set()
    for future in futures:
        future.result(PATIENCE)
    with hashers.queue.turn():  # there is room again
        pass


def test_who_has_waited_long_enough_is_sent_away_and_the_next_moves_up() -> None:
    queue = HashQueue(places=1, queue=2, wait=0.05)
    hashers = Hashers(queue)
    first = hashers.come(0)

    with pytest.raises(HashingBusy), queue.turn():
        pass

    assert queue.waiting == 0
    hashers.leave[0].set()
    first.result(PATIENCE)
    with queue.turn():
        pass


def test_who_has_hung_up_makes_room() -> None:
    queue = HashQueue(places=1, queue=1, wait=PATIENCE, gone=lambda: True)
    hashers = Hashers(queue)
    first = hashers.come(0)

    with pytest.raises(HashingBusy), queue.turn():
        pass

    assert queue.waiting == 0
    hashers.leave[0].set()
    first.result(PATIENCE)


def test_a_look_that_fails_takes_nobody_elses_place() -> None:
    def broken() -> bool:
        raise ValueError("no look")

    queue = HashQueue(places=1, queue=1, wait=PATIENCE, gone=broken)
    hashers = Hashers(queue)
    first = hashers.come(0)

    with pytest.raises(ValueError, match="no look"), queue.turn():
        pass

    assert queue.waiting == 0
    hashers.leave[0].set()
    first.result(PATIENCE)
    with queue.turn():
        pass


def test_a_failure_gives_its_place_back() -> None:
    queue = HashQueue(places=1, queue=0, wait=0)

    with pytest.raises(ValueError, match="broken"), queue.turn():
        raise ValueError("broken")

    with queue.turn():
        pass


def test_a_hundred_threads_never_hash_two_at_once_nor_lose_a_place() -> None:
    queue = HashQueue(places=2, queue=100, wait=PATIENCE)
    lock, inside, most = threading.Lock(), 0, 0

    def hash_a_moment(_number: int) -> None:
        nonlocal inside, most
        with queue.turn():
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.0005)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(hash_a_moment, range(500)))

    assert most == 2
    assert queue.waiting == 0
    with queue.turn(), queue.turn():  # both places are there again
        pass


PASSWORD_ROUTES = [
    ("POST", "/auth", CREDENTIALS),
    ("POST", "/auth", {"username": "nobody", "password": "x"}),
    ("POST", "/auth/reauth", {"password": "mypassword"}),
    ("POST", "/users", {"username": "ada", "password": "correct horse"}),
    ("DELETE", "/me", {"password": "mypassword"}),
    ("PUT", "/me/password", {"current_password": "mypassword", "new_password": "correct horse"}),
]


@pytest.mark.parametrize(("method", "path", "body"), PASSWORD_ROUTES)
def test_every_route_that_hashes_stands_in_line(
    make_app: MakeApp,
    database: object,
    travis: dict[str, str],
    method: str,
    path: str,
    body: dict[str, str],
) -> None:
    app = make_app(hash_queue=0, signup="open")
    queue = app.extensions["jwt-server"].hasher.queue

    with queue.turn():  # somebody else hashes
        refused = app.test_client().open(path, method=method, json=body, headers=travis)
    done = app.test_client().open(path, method=method, json=body, headers=travis)

    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "5"
    assert refused.text == "Too many people are signing in right now. Try again in a few seconds."
    assert done.status_code in {200, 201, 204, 401}


def test_every_route_that_takes_a_password_is_among_those(client: FlaskClient) -> None:
    description = client.get("/openapi.json").get_json()

    tried = {f"{method} {path}" for method, path, _ in PASSWORD_ROUTES}
    assert tried == set(password_operations(description))


def test_what_is_wrong_with_a_body_is_told_without_a_place_in_line(make_app: MakeApp) -> None:
    app = make_app(hash_queue=0)

    with app.extensions["jwt-server"].hasher.queue.turn():
        answer = app.test_client().post("/auth", json={"username": "travis"})

    assert answer.status_code == 422


def test_in_line_nobody_holds_a_connection_to_the_database(
    make_app: MakeApp, database: object, travis: dict[str, str]
) -> None:
    app = make_app(hash_queue=1)
    service = app.extensions["jwt-server"]
    with ThreadPoolExecutor(1) as pool, service.hasher.queue.turn():
        client = app.test_client()
        waiting = pool.submit(
            client.post, "/auth/reauth", json={"password": "mypassword"}, headers=travis
        )
        until(lambda: service.hasher.queue.waiting == 1)

        assert len(service.database._idle) == 1  # the only one there is, and it is at home

    assert waiting.result(PATIENCE).status_code == 204


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A server of one worker, one place and a short line, whose hashes take their time."""
    environment = BASE_ENVIRONMENT | {
        "SALT_ROUNDS": SLOW, "WORKERS": "1", "HASH_CONCURRENCY": "1", "HASH_QUEUE": "3",
    }  # fmt: skip
    with running(tmp_path_factory.mktemp("lane"), environment) as server:
        yield server


def sign_in(server: Server, name: str = "travis") -> int:
    body = urlencode({"username": name, "password": "wrong"})
    return send_to_server(
        server, "POST", "/auth", {}, body, "application/x-www-form-urlencoded"
    ).status


def test_while_the_line_is_full_reads_are_answered_at_once(slow: Server) -> None:
    with ThreadPoolExecutor(12) as pool:
        futures = [pool.submit(sign_in, slow, f"nobody{number}") for number in range(12)]
        until(lambda: any(future.done() for future in futures))  # the line is full
        answered = 0
        while not all(future.done() for future in futures):
            answered += send_to_server(slow, "GET", "/my-pets", bearer(token())).status == 200

    statuses = [future.result() for future in futures]
    assert set(statuses) == {401, 503}
    assert statuses.count(401) >= 4  # one at its place, three in line
    assert answered >= 20  # in some two seconds of hashing


def test_a_client_that_hangs_up_frees_its_place_in_line(slow: Server) -> None:
    body = urlencode({"username": "x", "password": "y"}).encode()
    request = (
        b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )

    def asked() -> socket.socket:
        connection = socket.create_connection((slow.host, slow.port))
        connection.sendall(request)
        return connection

    busy = asked()
    time.sleep(0.1)  # until it hashes; the rest stands in line
    for connection in [asked() for _ in range(3)]:
        connection.close()

    # The dead three would take two seconds and more to hash; their places are free before.
    deadline = time.monotonic() + PATIENCE
    while (status := sign_in(slow)) == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert status == 401
    busy.close()


def test_gunicorns_threads_follow_from_the_line(tmp_path: Path) -> None:
    from_line = BASE_ENVIRONMENT | {"HASH_QUEUE": "100", "HASH_CONCURRENCY": "2", "WORKERS": "1"}
    with running(tmp_path, from_line) as server, ThreadPoolExecutor(110) as pool:
        list(pool.map(lambda number: sign_in(server, f"n{number}"), range(110)))
        status = Path(f"/proc/{server.workers()[0]}/status").read_text()

    assert int(status.split("Threads:")[1].split()[0]) <= 1 + 2 + 100 + 32


def test_sign_in_says_503_as_documented(send: Send) -> None:
    described = send("GET", "/openapi.json").text

    assert "hashing_busy" in described
