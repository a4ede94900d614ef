"""Load generators: wrk for cheap requests, threads for slow ones."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import re
import shutil
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlencode

import bcrypt

from bench.services import CORES, PASSWORD, ROUNDS, SECRET_KEY, Running
from jwt_server.auth.sessions import MAX_SESSIONS_PER_USER, NewSession, open_session
from jwt_server.database import Database
from jwt_server.security.refresh_tokens import RefreshTokens

UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Reads:
    """The results of wrk; times in milliseconds."""

    rate: float
    median: float
    p99: float
    requests: int
    errors: int


@dataclass(frozen=True)
class SignIns:
    """The results of sign-ins."""

    rate: float
    statuses: dict[str, int]


def require_wrk() -> str:
    """Return the path of wrk; exits with a hint if it is missing."""
    found = shutil.which("wrk")
    if found is None:
        raise SystemExit("wrk is missing: sudo apt install wrk")
    return found


# The script of wrk: each request has the next token.
SCRIPT = """
local file, n = "%s", 0
local headers = {}
for line in io.lines(file) do headers[#headers + 1] = { Authorization = "Bearer " .. line } end
request = function()
  n = n %% #headers + 1
  return wrk.format("GET", "/my-pets", headers[n])
end
"""


def reads(url: str, token: str, connections: int, seconds: int) -> Reads:
    """Send GET /my-pets over kept-alive connections."""
    return _wrk(connections, seconds, "-H", f"Authorization: Bearer {token}", f"{url}/my-pets")


def reads_of_many(running: Running, tokens: Sequence[str], connections: int, seconds: int) -> Reads:
    """Send GET /my-pets with many tokens in turn."""
    file, script = running.folder / "tokens", running.folder / "tokens.lua"
    file.write_text("\n".join(tokens))
    script.write_text(SCRIPT % file)
    return _wrk(connections, seconds, "-s", str(script), running.url)


def _wrk(connections: int, seconds: int, *rest: str) -> Reads:
    done = subprocess.run(
        [require_wrk(), "-t", str(min(2, connections)), "-c", str(connections),
         "-d", str(seconds), "--latency", *rest],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done)
    requests = re.search(r"(\d+) requests in", done)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done)
    lost = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", done)
    errors = int(bad[1]) if bad else 0
    errors += sum(map(int, lost.groups())) if lost else 0
    return Reads(
        float(rate[1]) if rate else 0, _latency(done, 50), _latency(done, 99),
        int(requests[1]) if requests else 0, errors,
    )  # fmt: skip


def _latency(text: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s)\s*$", text, re.MULTILINE)
    return float(found[1]) * UNITS[found[2]] if found else 0.0


def sign_ins(running: Running, clients: int, seconds: float, users: int = 1000) -> SignIns:
    """Sign in again and again with `clients` accounts, spread over all users."""
    statuses: Counter[str] = Counter()
    in_time: list[float] = []
    deadline = time.perf_counter() + seconds
    threads = [
        threading.Thread(
            target=_sign_in_until, args=(running, f"user{number}", deadline, statuses, in_time)
        )
        for number in range(0, users, users // clients)[:clients]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return SignIns(len(in_time) / seconds, dict(statuses))


def _sign_in_until(
    running: Running, name: str, deadline: float, statuses: Counter[str], in_time: list[float]
) -> None:
    form = urlencode({"username": name, "password": PASSWORD})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=120)
    while time.perf_counter() < deadline:
        try:
            connection.request("POST", "/auth", form, headers)
            answer = connection.getresponse()
            answer.read()
        except OSError as error:
            statuses[type(error).__name__] += 1
            connection.close()
            continue
        if answer.status == 200 and time.perf_counter() <= deadline:
            in_time.append(time.perf_counter())
        if answer.status == 503 and "Retry-After" in answer.headers:
            statuses["503 with Retry-After"] += 1
            left = deadline - time.perf_counter()
            time.sleep(max(0, min(float(answer.headers["Retry-After"]), left)))
        else:
            statuses[str(answer.status)] += 1
    connection.close()


def bcrypt_rate(seconds: float) -> float:
    """Return how many hashes per second bcrypt alone checks on all cores."""
    with multiprocessing.Pool(CORES) as pool:
        return sum(pool.map(_bcrypt_alone, [seconds] * CORES))


def _bcrypt_alone(seconds: float) -> float:
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(ROUNDS))
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        bcrypt.checkpw(PASSWORD.encode(), hashed)
        count += 1
    return count / (time.perf_counter() - started)


def refreshes(running: Running, clients: int, seconds: float) -> float:
    """Return the refreshes per second, each client with many sessions of its own.

    A session has a limit of refreshes per minute. The sessions are inserted into the database, as
    signing in for each would take minutes.
    """
    counts: list[int] = []
    tokens = [_refresh_tokens(running, n + 1) for n in range(clients)]
    deadline = time.perf_counter() + seconds
    threads = [
        threading.Thread(target=_refresh_until, args=(running, each, deadline, counts))
        for each in tokens
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def _refresh_tokens(running: Running, user_id: int) -> deque[str]:
    tokens = RefreshTokens((SECRET_KEY.encode(),))
    hour, now = 3600, int(time.time())
    new = NewSession(refreshable=True, idle=hour, absolute=hour, address="", user_agent="", now=now)
    user = {"id": user_id, "admin": False, "password_expires_at": None}
    with (
        closing(Database(running.database)) as database,
        database.connection() as db,
        db.transaction(),
    ):
        opened = [open_session(db, user, new) for _ in range(MAX_SESSIONS_PER_USER)]
    return deque(tokens.issue(each["id"], each["generation"], each["nonce"]) for each in opened)


def _refresh_until(
    running: Running, tokens: deque[str], deadline: float, counts: list[int]
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    count = 0
    while time.perf_counter() < deadline:
        shown = tokens.popleft()
        tokens.append(_post(connection, "/auth/refresh", {"refresh_token": shown}))
        count += 1
    counts.append(count)


def _post(connection: http.client.HTTPConnection, path: str, body: dict[str, str]) -> str:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{path} responds {answer.status}: {text[:200]!r}")
    return str(json.loads(text)["refresh_token"])
