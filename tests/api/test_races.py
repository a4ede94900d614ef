"""Races and kills on a gunicorn with two workers."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.app import MakeApp
from tests.helpers.auth import run_at_once
from tests.helpers.databases import database_in, run_sql
from tests.helpers.factories import CREDENTIALS, bearer
from tests.helpers.http import Response, send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, running, started
from tests.helpers.waiting import until

pytestmark = pytest.mark.slow  # several servers, and sign-ins at the full cost of a hash

THREADS = 50
KEY, OTHER_KEY = "k" * 22, "o" * 22
HOME, ELSEWHERE = "198.51.100.7", "203.0.113.1"
FORM = "username=travis&password=mypassword"
FORM_TYPE = "application/x-www-form-urlencoded"

Tokens = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("races")


@pytest.fixture(scope="module")
def two_workers(folder: Path) -> Iterator[Server]:
    settings = {"WORKERS": "2", "HASH_QUEUE": "100", "HASH_WAIT": "60", "TRUSTED_PROXIES": "1"}
    with running(folder, BASE_ENVIRONMENT | settings) as server:
        yield server


def post_json(server: Server, path: str, body: dict[str, str], **headers: str) -> Response:
    return send_to_server(
        server, "POST", path, {"Accept": "application/json"} | headers,
        json.dumps(body), "application/json",
    )  # fmt: skip


def sign_in(server: Server) -> Tokens:
    tokens: Tokens = json.loads(post_json(server, "/auth", CREDENTIALS).body)
    return tokens


def refresh(server: Server, tokens: Tokens, key: str | None = None, **headers: str) -> Response:
    body = {"refresh_token": tokens["refresh_token"]} | ({"retry_key": key} if key else {})
    return post_json(server, "/auth/refresh", body, **headers)


def query(folder: Path, statement: str) -> list[Any]:
    return run_sql(database_in(folder), statement)


def session_of(tokens: Tokens) -> str:
    return str(tokens["refresh_token"].split(".")[1])


@pytest.mark.parametrize("keys", [[None], [KEY], [KEY, OTHER_KEY, None]], ids=len)
def test_concurrent_refreshes_get_the_same_successor(
    two_workers: Server, folder: Path, keys: list[str | None]
) -> None:
    tokens = sign_in(two_workers)
    shown = cycle(keys)

    responses = run_at_once(lambda: refresh(two_workers, tokens, next(shown)), THREADS)

    assert {response.status for response in responses} == {200}
    successors = {json.loads(response.body)["refresh_token"] for response in responses}
    assert len(successors) == 1
    rows = query(folder, f"SELECT generation FROM sessions WHERE id = '{session_of(tokens)}'")  # noqa: S608 - constants
    assert rows == [(2,)]
    [successor] = successors
    assert refresh(two_workers, {"refresh_token": successor}).status == 200


@pytest.mark.parametrize(
    ("first", "seconds", "key", "address", "code"),
    [
        (HOME, 24 * 60 * 60, KEY, ELSEWHERE, None),
        (HOME, 5, OTHER_KEY, HOME, None),
        (HOME, 5, None, HOME, None),
        (HOME, 5, OTHER_KEY, ELSEWHERE, "refresh_token_invalid"),
        (HOME, 5, None, ELSEWHERE, "refresh_token_invalid"),
        (HOME, 30, OTHER_KEY, ELSEWHERE, "refresh_token_reused"),
        (HOME, 30, None, ELSEWHERE, "refresh_token_reused"),
        (HOME, 30, None, HOME, "refresh_token_reused"),
        (ELSEWHERE, 5, OTHER_KEY, HOME, "refresh_token_invalid"),  # a thief was first
        (ELSEWHERE, 5, None, HOME, "refresh_token_invalid"),
        (ELSEWHERE, 30, OTHER_KEY, HOME, "refresh_token_reused"),
        (ELSEWHERE, 30, None, HOME, "refresh_token_reused"),
    ],
)
def test_a_replaced_token_is_the_same_case_in_every_worker(
    two_workers: Server, folder: Path, first: str, seconds: int, key: str | None,
    address: str, code: str | None,
) -> None:  # fmt: skip
    tokens = sign_in(two_workers)
    second = json.loads(refresh(two_workers, tokens, KEY, **{"X-Forwarded-For": first}).body)
    query(folder, f"UPDATE sessions SET rotated_at = rotated_at - {seconds}")  # noqa: S608 - a number

    for _ in range(1 if code == "refresh_token_reused" else 4):  # whichever worker responds
        again = json.loads(refresh(two_workers, tokens, key, **{"X-Forwarded-For": address}).body)
        assert again.get("code") == code
        assert again.get("refresh_token") == (None if code else second["refresh_token"])

    status = 401 if code == "refresh_token_reused" else 200
    assert refresh(two_workers, second).status == status


def test_concurrent_reuse_ends_the_session_once(two_workers: Server, folder: Path) -> None:
    stolen = sign_in(two_workers)
    current = json.loads(refresh(two_workers, stolen).body)
    query(folder, "UPDATE sessions SET rotated_at = rotated_at - 60")
    before = two_workers.log().count("audit: refresh_token_reused")

    responses = run_at_once(lambda: refresh(two_workers, stolen), THREADS)

    codes = [json.loads(response.body)["code"] for response in responses]
    assert codes.count("refresh_token_reused") == 1
    assert codes.count("session_ended") == THREADS - 1
    assert {response.status for response in responses} == {401}
    assert two_workers.log().count("audit: refresh_token_reused") == before + 1
    reused = "SELECT count(*) FROM audit WHERE action = 'refresh_token_reused'"
    assert query(folder, f"{reused} AND details LIKE '%{session_of(stolen)}%'") == [(1,)]
    assert refresh(two_workers, current).status == 401
    for _ in range(4):  # whichever worker responds
        headers = bearer(current["access_token"])
        assert send_to_server(two_workers, "GET", "/pets", headers).status == 401


def test_logout_applies_in_all_workers(two_workers: Server) -> None:
    tokens = sign_in(two_workers)
    headers = bearer(tokens["access_token"])
    assert send_to_server(two_workers, "GET", "/pets", headers).status == 200

    assert send_to_server(two_workers, "POST", "/auth/logout", headers).status == 204

    responses = run_at_once(lambda: send_to_server(two_workers, "GET", "/pets", headers), THREADS)
    assert {response.status for response in responses} == {401}


def test_demotion_applies_in_all_workers(two_workers: Server, folder: Path) -> None:
    query(folder, "UPDATE users SET admin = 1")
    headers = bearer(sign_in(two_workers)["access_token"])
    responses = []
    for admin in (1, 0):
        query(folder, f"UPDATE users SET admin = {admin}")  # noqa: S608 - a number
        get = partial(send_to_server, two_workers, "GET", "/admin/users", headers)
        responses += run_at_once(get, 20)

    assert [response.status for response in responses] == [200] * 20 + [403] * 20


def test_disabling_a_user_during_sign_ins_leaves_no_session(
    two_workers: Server, folder: Path, make_app: MakeApp
) -> None:
    """`users disable` runs while twenty sign-ins are in progress."""
    commands = make_app(database=database_in(folder)).test_cli_runner()
    over = threading.Event()
    responses: list[Response] = []
    sites = count(1)  # each attempt from another, or some would be refused

    def sign_in_often() -> None:
        while not over.is_set():
            headers = {"X-Forwarded-For": f"2001:db8:{next(sites):x}::1"}
            responses.append(send_to_server(two_workers, "POST", "/auth", headers, FORM, FORM_TYPE))

    with ThreadPoolExecutor(20) as pool:
        clients = [pool.submit(sign_in_often) for _ in range(20)]
        try:
            until(lambda: len(responses) > 20, 60)
            done = commands.invoke(args=["users", "disable", "travis"])
            until(lambda: 401 in {response.status for response in responses}, 60)
        finally:
            over.set()
    for client in clients:
        client.result()
    assert done.exit_code == 0, done.output
    assert query(folder, "UPDATE users SET disabled = 0 RETURNING disabled") == [(0,)]

    statuses = {response.status for response in responses}
    assert statuses - {503} == {200, 401}  # 503 if the database is busy for long
    for response in responses:
        if response.status == 200:
            assert send_to_server(two_workers, "GET", "/pets", bearer(response.text)).status == 401
    assert query(folder, "SELECT count(*) FROM sessions WHERE ended_at IS NULL") == [(0,)]


def kill(server: Server) -> None:
    """Kill all processes, as a power failure would."""
    for pid in [*server.workers(), server.process.pid]:
        os.kill(pid, signal.SIGKILL)
    server.process.wait(timeout=120)


def test_rotation_survives_a_kill(tmp_path: Path) -> None:
    """The tokens of three sessions are used again: within the grace, after it, with their key."""
    settings = BASE_ENVIRONMENT | {"REFRESH_GRACE": "300"}
    with running(tmp_path, settings) as server:
        used = [sign_in(server) for _ in range(3)]
        within, after, keyed = (json.loads(refresh(server, each, KEY).body) for each in used)
        kill(server)
    early = session_of(within)
    query(tmp_path, f"UPDATE sessions SET rotated_at = rotated_at - 301 WHERE id <> '{early}'")  # noqa: S608 - constants

    with started(tmp_path, settings) as server:
        again, reused, retried = (
            json.loads(refresh(server, each, key).body)
            for each, key in zip(used, (None, None, KEY), strict=True)
        )
        kill(server)
    assert again["refresh_token"] == within["refresh_token"]
    assert reused["code"] == "refresh_token_reused"
    assert retried["refresh_token"] == keyed["refresh_token"]

    with started(tmp_path, settings) as server:
        for tokens, status in ((within, 200), (after, 401), (keyed, 200)):
            assert refresh(server, tokens).status == status
            read = send_to_server(server, "GET", "/pets", bearer(tokens["access_token"]))
            assert read.status == status


def test_no_refresh_is_lost_under_load(two_workers: Server, folder: Path) -> None:
    """Ten clients refresh their own sessions as fast as they can."""

    def refresh_often(tokens: dict[str, str]) -> tuple[str, int]:
        for _ in range(10):
            response = refresh(two_workers, tokens)
            assert response.status == 200, response.text
            tokens = json.loads(response.body)
        return session_of(tokens), int(tokens["refresh_token"].split(".")[2])

    with ThreadPoolExecutor(10) as pool:
        signed_in = [sign_in(two_workers) for _ in range(10)]
        generations = dict(pool.map(refresh_often, signed_in))

    rows = dict(query(folder, "SELECT id, generation FROM sessions"))
    assert {session: rows[session] for session in generations} == generations
    assert set(generations.values()) == {11}
