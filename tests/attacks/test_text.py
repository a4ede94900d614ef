"""Text and numbers that a database or its driver stumbles over, in each field of each request: NUL,
lone surrogates, invalid UTF-8, numbers beyond 64 bits, SQL and placeholders; and names in an order
that differs between locales.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from jwt_server.security.passwords import hash_password
from jwt_server.security.primitives import base64url_encode
from jwt_server.users.names import username_key
from tests.attacks.target import FORM, JSON, Target, attacked, send_json
from tests.attacks.users import PASSWORD, run_sql
from tests.helpers.description import VARIABLES, described, fill_path
from tests.helpers.factories import CREDENTIALS, SESSION, bearer, token
from tests.helpers.http import Response

SQL = (
    "%s", "%(id)s", "%(", "%", "%%", "%b%n%d", "$1", "$$", "$1::int", ":id", "?", "?1", "@id", "'",
    "''", "\\'", '"', "\\", "\\x00", "`", "{}", "{0}", "'; DROP TABLE users; --", "x' OR '1'='1",
    "1); DELETE FROM pets; --", "') ON CONFLICT DO NOTHING --", "$q$; SELECT pg_sleep(9); $q$",
    "U&'\\0000'", "NULL", "DEFAULT", "/*", "--",
)  # fmt: skip
TEXTS = (
    *SQL, "\0", "a\0b", "\\u0000", "\ud800", "a\udfff", "\udcff", "\udfff\ud800", "\U0010ffff",
    "\ufffe", "\x01", "\x1a", "\x7f", "\x85", "\u202e", "\u2028", "İ", "ﷺ" * 60, "x" * 9000,
    "a" + "\u0301" * 200, "0", "-1", "00", "1e400", "1_0", "٣", "9" * 18, "9" * 19, "9" * 400,
    str(2**63 - 1), str(2**63), str(2**64), str(-(2**63) - 1), "Infinity", "NaN", "0001-01-01",
    "9999-12-31T23:59:59Z", "2026-01-31T12:00:00+23:59", "infinity", "epoch",
)  # fmt: skip
RAW_JSON = (
    b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\0"', b"null", b"true", b"[]", b"{}",
    b'["\\u0000"]', b'{"a":"\\u0000"}', b'{"\\u0000":1}', b'{"a":"\\ud800"}', b'{"%s":"$1"}',
    b'{"a":1e308}', b'{"a":-0.0}', b"9" * 400, b"-1", b"1.5", b"1e308", b"1e400", b"-0.0",
    *(str(number).encode() for number in (2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**18 - 1)),
)  # fmt: skip
JSON_VALUES = (*(json.dumps(text).encode() for text in TEXTS), *RAW_JSON)
ENCODED = (
    *(quote(text, safe="", errors="surrogatepass") for text in TEXTS),
    "%ff", "%c0%80", "%ed%a0%80", "%zz", "%", "%u0000", "+",
)  # fmt: skip
"""Percent-encoded, as in paths, queries and forms."""

GOOD: dict[str, Any] = CREDENTIALS | {
    "current_password": CREDENTIALS["password"], "new_password": PASSWORD, "name": "Rex",
    "refresh_token": "r1.Fq3nUWlMzT8dPoVhGyWb2g.1.1cF2ZkTn0PqD", "grant_type": "password",
    "admin": True,
}  # fmt: skip
"""What the other fields of a body have, for the request to get as far as possible."""

HASH = hash_password(CREDENTIALS["password"], 4)

SAMPLE = 6
"""Of this many requests one is sent, as all take ten seconds of CPU; other paths get the others."""


def cursors() -> Iterator[str]:
    """Return cursors of one column and of two."""
    for value in JSON_VALUES:
        for row in (value, value + b",1", b"1," + value):
            yield base64url_encode(b"[" + row + b"]")


def fields(operation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Return the names of the fields of an operation's body, and the body's type."""
    schemas = described()[1].schema["components"]["schemas"]
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content["schema"]
        for name in schemas[schema["$ref"].rpartition("/")[2]]["properties"]:
            yield name, media_type


def in_paths(path: str) -> Iterator[str]:
    for name in VARIABLES:
        if f"{{{name}}}" in path:
            yield from (fill_path(path, **{name: value}) for value in ENCODED)


def in_queries(path: str, operation: dict[str, Any]) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        name = parameter["name"]
        for value in (*ENCODED, *(cursors() if name == "after" else ())):
            yield f"{fill_path(path)}?{name}={value}"


def in_bodies(operation: dict[str, Any]) -> Iterator[tuple[bytes, str]]:
    for name, media_type in fields(operation):
        others = {other: GOOD[other] for other, _ in fields(operation) if other in GOOD}
        others.pop(name, None)
        start = json.dumps(others)[:-1] + (", " if others else "") + json.dumps(name)
        for value in JSON_VALUES if media_type == JSON else ():
            yield b"%b:%b}" % (start.encode(), value), JSON
        for encoded in ENCODED:
            yield f"{urlencode(others)}&{name}={encoded}".encode(), FORM


@pytest.fixture(scope="module")
def open_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A service where everybody may sign up, and travis is an admin."""
    with attacked(tmp_path_factory.mktemp("text"), "HS256", signup="open") as target:
        yield target


@pytest.fixture
def undone(open_target: Target) -> Target:
    """That service, with one user, who has just signed in."""
    for table in ("throttle", "pets", "known_addresses", "audit"):
        run_sql(open_target, f"DELETE FROM {table}")  # noqa: S608 - ours
    run_sql(open_target, "DELETE FROM users WHERE id <> 1")
    undo(open_target)
    return open_target


def undo(target: Target) -> None:
    """Undo what would bar later requests from getting as far."""
    run_sql(target, "DELETE FROM throttle")
    run_sql(
        target, "UPDATE sessions SET ended_at = NULL, expires_at = ends_at WHERE id = ?", SESSION
    )
    run_sql(
        target,
        "UPDATE users SET username = 'travis', username_key = 'travis', password_hash = ?,"
        " admin = 1, disabled = 0, password_expires_at = NULL WHERE id = 1",
        HASH,
    )


OPERATIONS = [
    (method, path)
    for path, methods in described()[1].schema["paths"].items()
    for method, operation in methods.items()
    if method != "parameters" and ("{" in path or operation.keys() & {"parameters", "requestBody"})
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=map(" ".join, OPERATIONS))
def test_no_text_or_number_in_a_request_fails_the_service(
    undone: Target, method: str, path: str
) -> None:
    operation = described()[1].schema["paths"][path][method]
    requests = [(url, b"", "") for url in (*in_paths(path), *in_queries(path, operation))]
    requests += [(fill_path(path), body, media_type) for body, media_type in in_bodies(operation)]
    assert len(requests) >= len(ENCODED)
    statuses = set()
    for url, body, media_type in requests[len(path) % SAMPLE :: SAMPLE]:
        undo(undone)
        headers = bearer(token()) | {"Accept": JSON}
        response = undone.send(method.upper(), url, headers, body or None, media_type or None)
        assert response.status < 500, (url, body, response.text)
        assert response.status != 401 or path.startswith("/auth"), (url, body, response.text)
        statuses.add(response.status)
    assert statuses != {429}
    undo(undone)
    assert undone.show(token()).status == 200


def as_admin(target: Target, method: str, path: str, body: object = None) -> Response:
    response = send_json(target, method, path, body, token())
    assert response.status < 300, (path, body, response.text)
    return response


@pytest.mark.parametrize("text", SQL)
def test_sql_and_placeholders_are_stored_as_they_are(undone: Target, text: str) -> None:
    pet = as_admin(undone, "POST", "/pets", {"name": text, "species": text}).json
    assert (pet["name"], pet["species"]) == (text, text)
    assert as_admin(undone, "GET", f"/pets/{pet['id']}").json == pet

    body = {"username": f"{text}x", "claims": {text: [text]}, "password": PASSWORD}
    user = as_admin(undone, "POST", "/admin/users", body).json
    assert (user["username"], user["claims"]) == (f"{text}x", {text: [text]})
    [found] = as_admin(undone, "GET", f"/admin/users?search={quote(text, safe='')}").json
    assert found == user

    headers = {"User-Agent": text}
    sent = urlencode({"username": f"{text}x", "password": PASSWORD})
    assert undone.send("POST", "/auth", headers, sent, FORM).status == 200
    [session] = as_admin(undone, "GET", f"/admin/users/{user['id']}/sessions").json
    assert session["user_agent"] == text
    assert as_admin(undone, "GET", "/admin/audit?limit=100").json[-1]["action"] == "user_added"


NAMES = (
    "a", "B1", "b", "z", "Z2", "ä", "Äz", "åa", "ö", "ø", "é", "e", "f", "ch", "cz", "lj", "ñ", "n",
    "o", "ß1", "ss2", "ı", "i1", "-a", "a-b", "ab", "a b", "a_c", "_", "co-op", "coop", "1", "10",
    "2", "9", "!", "~", "ж", "ѣ", "я", "ё", "α", "ω", "名", "한", "あ", "ア1", "ۆ", "😀",
    "😀a", "ﬀ", "ﬄ", "ｚ3", "a\u0328", "a\u0323\u0302", "ệ",
)  # fmt: skip
"""Sorted by bytes they are in another order than in English, Swedish, Czech or Turkish."""


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
@pytest.mark.parametrize("selected", ["", "&admin=false", "&disabled=false", "&search=a"])
def test_each_name_is_on_one_page_whatever_the_locale_of_the_database(
    undone: Target, limit: int, selected: str
) -> None:
    for name in NAMES:
        run_sql(
            undone,
            "INSERT INTO users (username, username_key, password_hash, created_at)"
            " VALUES (?, ?, '', 0)",
            name, username_key(name),
        )  # fmt: skip

    found: list[str] = []
    url = f"/admin/users?limit={limit}{selected}"
    while url:
        response = as_admin(undone, "GET", url)
        found += [username_key(user["username"]) for user in response.json]
        link = response.headers.get("Link", "").partition(">")[0].removeprefix("<")
        url = link and f"{urlsplit(url).path}?{urlsplit(link).query}"

    keys = [username_key(name) for name in (*NAMES, "travis")]
    if "search" in selected:
        keys = [key for key in keys if key.startswith("a")]
    if "admin" in selected:
        keys.remove("travis")
    assert found == sorted(keys)
