"""The hash queue: order, limits, and that other requests don't wait for it."""

from __future__ import annotations

import os
import runpy
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jwt_server.config import Settings
from jwt_server.database import Connection
from jwt_server.errors import HashingBusy, TooManyAttempts
from jwt_server.security.hash_queue import NICE, HashQueue
from jwt_server.users import users
from tests.helpers import waiting
from tests.helpers.app import Clock, MakeApp
from tests.helpers.description import fill_path, password_operations
from tests.helpers.factories import (
    CREDENTIALS,
    OPERATOR,
    add_user,
    bearer,
    open_session,
    token,
)
from tests.helpers.http import send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, ROOT, Server, running
from tests.helpers.sql import data_version

PATIENCE = 10
NOW = 1_700_000_000


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Hashers:
    """Threads that use a hash queue; each holds its slot until it is told to finish."""

    def __init__(self, queue: HashQueue) -> None:
        self.queue = queue
        self.pool = ThreadPoolExecutor(32)
        self.started: list[int] = []
        self.finish = [threading.Event() for _ in range(32)]

    def start(self, number: int) -> Future[None]:
        """Start one more; return when it has its slot, or is queued."""
        queued, started = len(self.queue.queued), len(self.started)
        future = self.pool.submit(self._hash, number)
        until(lambda: len(self.queue.queued) > queued or len(self.started) > started)
        return future

    def _hash(self, number: int) -> None:
        with self.queue.slot():
            self.started.append(number)
            self.finish[number].wait(PATIENCE)

    def finish_all(self, futures: list[Future[None]]) -> None:
        for event in self.finish:
            event.set()
        for future in futures:
            future.result(PATIENCE)


def test_queued_requests_start_in_order_of_arrival() -> None:
    hashers = Hashers(HashQueue(slots=1, size=10, wait=PATIENCE))
    futures = [hashers.start(number) for number in range(8)]

    assert hashers.started == [0]
    for number, future in enumerate(futures):
        hashers.finish[number].set()
        future.result(PATIENCE)

    assert hashers.started == list(range(8))
    assert not hashers.queue.queued


def test_no_more_than_slots_run_at_once() -> None:
    hashers = Hashers(HashQueue(slots=3, size=10, wait=PATIENCE))
    futures = [hashers.start(number) for number in range(5)]

    assert hashers.started == [0, 1, 2]
    assert len(hashers.queue.queued) == 2
    hashers.finish_all(futures)


def test_a_full_queue_refuses_until_there_is_room() -> None:
    hashers = Hashers(HashQueue(slots=1, size=2, wait=PATIENCE))
    futures = [hashers.start(number) for number in range(3)]

    with pytest.raises(HashingBusy):
        hashers.queue.require_room()
    with pytest.raises(HashingBusy), hashers.queue.slot():
        pass

    hashers.finish_all(futures)
    hashers.queue.require_room()
    with hashers.queue.slot():
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority")
def test_hashing_has_a_lower_priority_than_other_threads() -> None:
    """Its thread keeps that, so it must not be one that handles requests."""

    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = priority()

    assert HashQueue(slots=1, size=0, wait=0).run(priority) == before + NICE
    assert priority() == before


def test_a_system_that_forbids_another_priority_hashes_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbid(*_arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbid)

    assert HashQueue(slots=1, size=0, wait=0).run(len, "hashed") == 6


def test_an_error_in_a_hash_is_raised_and_frees_the_slot() -> None:
    queue = HashQueue(slots=1, size=0, wait=0)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            queue.run(broken)


def broken() -> bool:
    raise ValueError("broken")


@pytest.mark.parametrize(
    ("wait", "client_left", "error"),
    [(0.05, lambda: False, HashingBusy), (PATIENCE, lambda: True, HashingBusy),
     (PATIENCE, broken, ValueError)],
    ids=["waited long enough", "client left", "hook failed"],
)  # fmt: skip
def test_a_request_that_leaves_the_queue_makes_room(
    wait: float, client_left: Callable[[], bool], error: type[Exception]
) -> None:
    queue = HashQueue(slots=1, size=1, wait=wait, client_left=client_left)
    hashers = Hashers(queue)
    first = hashers.start(0)

    with pytest.raises(error), queue.slot():
        pass

    assert not queue.queued
    hashers.finish_all([first])
    with queue.slot():
        pass


def test_a_failed_hash_releases_its_slot() -> None:
    queue = HashQueue(slots=1, size=0, wait=0)

    with pytest.raises(ValueError, match="broken"), queue.slot():
        raise ValueError("broken")

    with queue.slot():
        pass


def test_many_threads_neither_exceed_the_slots_nor_lose_one() -> None:
    queue = HashQueue(slots=2, size=100, wait=PATIENCE)
    both, counts = threading.Barrier(2), []
    lock, running = threading.Lock(), 0

    def hash_briefly(_number: int) -> None:
        nonlocal running
        with queue.slot():
            with lock:
                running += 1
                counts.append(running)
            both.wait(PATIENCE)  # for the thread in the other slot
            with lock:
                running -= 1

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(hash_briefly, range(200)))

    assert max(counts) == 2
    assert not queue.queued
    with queue.slot(), queue.slot():  # both slots are free
        pass


PASSWORD_ROUTES = [
    ("POST", "/auth", CREDENTIALS),
    ("POST", "/auth", {"username": "nobody", "password": "x"}),
    ("POST", "/auth/token", CREDENTIALS | {"grant_type": "password"}),
    ("POST", "/auth/reauth", {"password": "mypassword"}),
    ("POST", "/users", {"username": "ada", "password": "correct horse"}),
    ("DELETE", "/me", {"password": "mypassword"}),
    ("PUT", "/me/password", {"current_password": "mypassword", "new_password": "correct horse"}),
    ("POST", "/admin/users", {"username": "ada"}),
    ("POST", "/admin/users", {"username": "ada", "password": "correct horse"}),
    ("PUT", "/admin/users/{user_id}/password", {}),
    ("PUT", "/admin/users/{user_id}/password", {"password": "correct horse"}),
]


@pytest.mark.parametrize(("method", "path", "body"), PASSWORD_ROUTES)
def test_every_route_that_hashes_uses_the_queue(
    make_app: MakeApp,
    db: Connection,
    travis: dict[str, str],
    method: str,
    path: str,
    body: dict[str, str],
) -> None:
    users.set_admin(db, 1, admin=path.startswith("/admin"), actor=OPERATOR)
    app = make_app(hash_queue=0, signup="open")
    queue = app.extensions["jwt-server"].hasher.queue
    send = partial(app.test_client().open, fill_path(path), method=method, json=body)

    with queue.slot():
        refused = send(headers=travis)
    done = send(headers=travis)

    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "5"
    message = "Too many people are signing in right now. Try again in a few seconds."
    assert message in refused.text
    assert done.status_code in {200, 201, 204, 401}


def test_every_route_with_a_password_is_listed_here(client: FlaskClient) -> None:
    description = client.get("/openapi.json").get_json()

    tried = {f"{method} {path}" for method, path, _ in PASSWORD_ROUTES}
    assert tried == set(password_operations(description))


def test_an_invalid_body_is_refused_without_a_slot(make_app: MakeApp) -> None:
    app = make_app(hash_queue=0)

    with app.extensions["jwt-server"].hasher.queue.slot():
        response = app.test_client().post("/auth", json={"username": "travis"})

    assert response.status_code == 422


def test_a_queued_request_holds_no_database_connection(
    make_app: MakeApp, database: object, travis: dict[str, str]
) -> None:
    app = make_app(hash_queue=1)
    service = app.extensions["jwt-server"]
    with ThreadPoolExecutor(1) as pool, service.hasher.queue.slot():
        client = app.test_client()
        waiting = pool.submit(
            client.post, "/auth/reauth", json={"password": "mypassword"}, headers=travis
        )
        until(lambda: len(service.hasher.queue.queued) == 1)

        assert len(service.database._idle) == 1  # the only one, back in the pool

    assert waiting.result(PATIENCE).status_code == 204


def test_reads_are_served_while_the_queue_is_full(
    make_app: MakeApp, database: object, travis: dict[str, str]
) -> None:
    app = make_app(hash_queue=1)
    queue = app.extensions["jwt-server"].hasher.queue
    with ThreadPoolExecutor(1) as pool, queue.slot():
        queued = pool.submit(app.test_client().post, "/auth", data=CREDENTIALS)
        until(lambda: len(queue.queued) == 1)

        refused = app.test_client().post("/auth", data=CREDENTIALS)
        read = app.test_client().get("/my-pets", headers=travis)

    assert (refused.status_code, read.status_code) == (503, 200)
    assert queued.result(PATIENCE).status_code == 200


Send = Callable[[FlaskClient], TestResponse]


def sign_in_as(username: str, password: str, address: str = "203.0.113.1") -> Send:
    body = {"username": username, "password": password}
    origin = {"REMOTE_ADDR": address}
    return lambda client: client.post("/auth", json=body, environ_overrides=origin)


def reauthenticate(user_id: int, number: int) -> Send:
    headers = bearer(token(NOW, sub=str(user_id), sid=f"session-{number}-of-user-{user_id:04}"))
    body = {"password": "mypassword"}
    return lambda client: client.post("/auth/reauth", json=body, headers=headers)


@pytest.mark.parametrize(
    ("checks", "others"),
    [
        ([sign_in_as("travis", "mypassword")] * 3,
         [sign_in_as("ada", "mypassword"), sign_in_as("travis", "mypassword", "203.0.113.2")]),
        ([sign_in_as(name, "x", f"2001:db8:0:{number}::1")
          for number, name in enumerate(("SS", "ß", "ẞ"))],
         [sign_in_as("ss", "x", "2001:db8:1::1")]),
        ([reauthenticate(1, number) for number in range(3)], [reauthenticate(2, 1)]),
    ],
    ids=["right password", "unknown name", "sessions of a user"],
)  # fmt: skip
def test_two_checks_of_a_password_are_queued_and_the_third_is_refused(
    make_app: MakeApp, settings: Settings, db: Connection, clock: Clock,
    checks: list[Send], others: list[Send],
) -> None:  # fmt: skip
    clock.time = NOW
    add_user(db, "ada", "mypassword")
    for user_id in (1, 2):
        for number in range(3):
            open_session(db, NOW, user_id, f"session-{number}-of-user-{user_id:04}")
    app = make_app()
    queue = app.extensions["jwt-server"].hasher.queue
    with ThreadPoolExecutor(4) as pool:
        with queue.slot():
            queued = [pool.submit(check, app.test_client()) for check in checks[:2]]
            until(lambda: len(queue.queued) == 2)
            before = data_version(db)

            refused = checks[2](app.test_client())

            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
            assert refused.text == "Too many attempts. Try again in 1 second."
            assert data_version(db) == before
            queued += [pool.submit(other, app.test_client()) for other in others]
            until(lambda: len(queue.queued) == 2 + len(others))
        statuses = {response.result(PATIENCE).status_code for response in queued}

    assert statuses == {checks[2](app.test_client()).status_code}
    assert statuses <= {200, 204, 401}
    assert not queue.checks._counts


def test_a_failed_check_makes_room_for_another() -> None:
    queue = HashQueue(slots=1, size=0, wait=0)

    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), queue.checks.hold("x"):
            raise ValueError("broken")

    with queue.checks.hold("x"), queue.checks.hold("x"):
        with pytest.raises(TooManyAttempts), queue.checks.hold("x"):
            pass
        with queue.checks.hold("y"):
            pass


def test_gunicorn_has_threads_for_a_full_queue_and_other_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**BASE_ENVIRONMENT, "HASH_QUEUE": "100", "HASH_CONCURRENCY": "2"}.items():
        monkeypatch.setenv(name, value)

    assert (
        runpy.run_path(str(ROOT / "jwt_server" / "gunicorn" / "conf.py"))["threads"] == 2 + 100 + 32
    )


FULL = """\
from jwt_server.wsgi import app

slot = app.extensions["jwt-server"].hasher.queue.slot()
slot.__enter__()
"""
"""The application with its only slot taken, as by a hash that never ends."""


@pytest.mark.slow
def test_clients_that_disconnect_leave_the_queue_and_reads_go_on(tmp_path: Path) -> None:
    (tmp_path / "wsgi.py").write_text(FULL)  # gunicorn finds it before that of the checkout
    environment = BASE_ENVIRONMENT | {
        "HASH_CONCURRENCY": "1", "HASH_QUEUE": "3", "HASH_WAIT": "300", "TRUSTED_PROXIES": "1",
    }  # fmt: skip
    with running(tmp_path, environment) as server:
        connections = [post_credentials(server, f"192.0.2.{number}") for number in range(3)]
        assert send_to_server(server, "GET", "/my-pets", bearer(token())).status == 200
        for connection in connections:
            connection.close()
        waiting.until(lambda: server.log().count('"status": 503') == 3, 60)


def post_credentials(server: Server, address: str) -> socket.socket:
    """Send a sign-in without waiting for the response."""
    body = urlencode(CREDENTIALS).encode()
    connection = socket.create_connection((server.host, server.port))
    connection.sendall(
        b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"X-Forwarded-For: %s\r\nContent-Length: %d\r\n\r\n%s" % (address.encode(), len(body), body)
    )
    return connection
