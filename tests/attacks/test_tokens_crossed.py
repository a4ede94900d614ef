"""Good tokens in the place of others: one kind taken for the other, another's session, and places
in a request that no token belongs into.
"""

from __future__ import annotations

import json

import pytest

from tests.attacks.target import MALFORMED, OF_NOBODY, REVOKED, Target, send_json, tokens_of
from tests.attacks.users import check_refused, is_accepted, refresh, refusal_code, run_sql, sign_up
from tests.helpers.factories import token
from tests.helpers.server import Server


def test_a_refresh_token_is_no_access_token(strict: Target) -> None:
    """GoTrue, Keycloak and others sign both alike, and tell them apart by a claim, if at all."""
    tokens = tokens_of(strict)

    check_refused(strict, tokens["refresh_token"], MALFORMED)
    check_refused(strict, f"{tokens['access_token']}.{tokens['refresh_token']}", MALFORMED)
    dressed = tokens["refresh_token"].removeprefix("r1.")  # three parts, as a JWT has
    check_refused(strict, dressed, MALFORMED)
    assert refresh(strict, tokens["refresh_token"]).status == 200


def test_an_access_token_is_no_refresh_token(strict: Target) -> None:
    tokens = tokens_of(strict)
    access = tokens["access_token"]

    for shown in (access, access[:200], access.split(".")[2], strict.good):
        answer = refresh(strict, shown)
        assert answer.status in {401, 422}  # 422 for what is longer than any of ours
        assert "access_token" not in answer.text
    with_bearer = send_json(strict, "POST", "/auth/refresh", {}, access)
    assert with_bearer.status == 422
    assert is_accepted(strict, access)


def test_an_access_token_in_a_refresh_tokens_place_signs_nobody_out(strict: Target) -> None:
    access = tokens_of(strict)["access_token"]

    answer = send_json(strict, "POST", "/auth/logout", {"refresh_token": access})

    assert answer.status == 204
    assert is_accepted(strict, access)


def test_a_refresh_token_is_made_of_nothing_that_an_access_token_tells(strict: Target) -> None:
    """The session's id is known to whoever has an access token; the MAC is not."""
    tokens = tokens_of(strict)
    version, session, generation, mac = tokens["refresh_token"].split(".")
    signature = tokens["access_token"].split(".")[2]

    for forged in (
        f"{version}.{session}.{generation}.{'A' * 43}",
        f"{version}.{session}.{generation}.{(signature * 2)[:43]}",
        f"{version}.{session}.2.{mac}",
        f"{version}.{session}.0.{mac}",
        f"{version}.{session}.01.{mac}",
        f"r2.{session}.{generation}.{mac}",
        f"{version}.{session}.{generation}.",
        f"{version}.{session}.{generation}.{mac}=",
    ):
        assert refusal_code(refresh(strict, forged)) == "refresh_token_invalid"
    assert refresh(strict, tokens["refresh_token"]).status == 200


def test_the_text_forms_session_has_no_refresh_token(strict: Target) -> None:
    """Not even one with a good MAC for another session on it."""
    session = json.loads(send_json(strict, "GET", "/auth/sessions", None, strict.good).body)
    own = next(each["id"] for each in session if each["current"])
    other = tokens_of(strict)["refresh_token"].split(".")

    forged = ".".join([other[0], own, *other[2:]])

    assert refusal_code(refresh(strict, forged)) == "refresh_token_invalid"


def test_cve_2025_12390_anothers_session_in_a_well_signed_token(strict: Target) -> None:
    """Keycloak: the id of a session is used again, so that one gets what is another's."""
    user_id, tokens = sign_up(strict, "victim")
    theirs = tokens["refresh_token"].split(".")[1]

    check_refused(strict, strict.sign(sid=theirs), REVOKED)
    check_refused(strict, strict.sign(sub=str(user_id)), REVOKED)
    check_refused(strict, strict.sign(sub=str(user_id + 1), sid=theirs), OF_NOBODY)
    mine = tokens_of(strict)["refresh_token"].split(".")
    crossed = ".".join([mine[0], theirs, *mine[2:]])
    assert refusal_code(refresh(strict, crossed)) == "refresh_token_invalid"
    ended = send_json(strict, "DELETE", f"/auth/sessions/{theirs}", None, strict.good)
    assert ended.status == 404
    assert is_accepted(strict, tokens["access_token"])


def test_cve_2019_3868_a_token_counts_in_its_header_alone(strict: Target) -> None:
    """Keycloak: an access token is a session's cookie. RFC 6750 section 2 has two more places."""
    good = strict.good
    form = "application/x-www-form-urlencoded"

    for answer in (
        strict.send("GET", f"/pets?access_token={good}"),
        strict.send("GET", f"/pets?token={good}", {"Authorization": "Bearer"}),
        strict.send("GET", "/pets", {"Cookie": f"access_token={good}; session={good}"}),
        strict.send("GET", "/pets", {"X-Access-Token": good}),
        strict.send("GET", "/pets", {"Proxy-Authorization": f"Bearer {good}"}),
        strict.send("GET", "/pets", {"Authorization": f"Token {good}"}),
        strict.send("GET", "/pets", {"Authorization": good}),
        strict.send("GET", "/pets", {}, f"access_token={good}", form),
        strict.send("POST", "/pets", {}, f"access_token={good}&name=x", form),
    ):
        assert (answer.status, answer.text) == (401, "No token.")
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "first_last", [(True, False), (False, True)], ids=["good-first", "good-last"]
)
def test_of_two_authorization_headers_none_is_accepted(
    server: Server, first_last: tuple[bool, bool]
) -> None:
    """Two readers may differ in which of two headers counts."""
    tokens = [token() if good else "x.y.z" for good in first_last]
    lines = "".join(f"Authorization: Bearer {each}\r\n" for each in tokens)

    answer = server.raw(f"GET /pets HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())

    assert answer.split()[1] in {b"400", b"401"}
    assert b"Bunny" not in answer


@pytest.mark.parametrize(
    "climb", ["../..", "..%2f..", "%2e%2e/%2e%2e", "..%5c..", "%252e%252e", "."]
)
def test_cve_2025_48370_an_id_that_climbs_reaches_nothing_else(strict: Target, climb: str) -> None:
    """auth-js, GoTrue's client: an id with `../` in it makes a request another one."""
    before = run_sql(strict, "SELECT count(*) FROM users")

    for path in (f"/auth/sessions/{climb}/me", f"/pets/{climb}/me", f"/auth/sessions/{climb}"):
        answer = send_json(strict, "DELETE", path, None, strict.good)
        assert answer.status in {404, 405}

    assert run_sql(strict, "SELECT count(*) FROM users") == before
