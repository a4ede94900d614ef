"""Good tokens that must not be good any more: signed out, rotated, of a user who has gone or come
again, under a key that was revoked; before and after a restart.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jwt_server.security import key_files
from jwt_server.security.key_files import KeyFiles
from tests.attacks.target import (
    ALGORITHMS,
    FORGED,
    OF_DISABLED,
    OF_NOBODY,
    PAIRS,
    REVOKED,
    Target,
    ask_json,
    attacked,
    sign_in,
    tokens_of,
)
from tests.attacks.users import PASSWORD, asked, code_of, refresh, refused, sign_up, taken
from tests.helpers.factories import INSERT_SESSION, bearer, session_row
from tests.helpers.http import send_to_server
from tests.helpers.server import started


@pytest.mark.parametrize("scope", ["local", "global", "others"])
def test_cve_2026_8922_signing_out_ends_both_tokens(strict: Target, scope: str) -> None:
    """Keycloak: what was revoked stays active, as one of two notes on it is not read."""
    user_id, tokens = sign_up(strict, f"leaver-{scope}")
    other = tokens_of(strict.server, f"leaver-{scope}", PASSWORD)
    current_actor, gone = (other, tokens) if scope == "others" else (tokens, tokens)

    done = ask_json(
        strict.server, "POST", f"/auth/logout?scope={scope}", None, current_actor["access_token"]
    )

    assert done.status == 204
    refused(strict.server, gone["access_token"], REVOKED)
    assert code_of(refresh(strict.server, gone["refresh_token"])) == "session_ended"
    session = gone["refresh_token"].split(".")[1]
    refused(strict.server, strict.sign(sub=str(user_id), sid=session, jti="new"), REVOKED)
    assert taken(strict.server, other["access_token"]) == (scope != "global")


def test_cve_2026_1035_of_many_at_once_one_refreshes(strict: Target) -> None:
    """Keycloak: between the look at a refresh token and the note of its use, others look."""
    tokens = tokens_of(strict.server)

    with ThreadPoolExecutor(10) as pool:
        answers = list(
            pool.map(lambda _: refresh(strict.server, tokens["refresh_token"]), range(10))
        )

    statuses = sorted(answer.status for answer in answers)
    assert statuses == [200] + [401] * 9
    refused(strict.server, tokens["access_token"], REVOKED)  # two have it: theft


def test_a_rotated_refresh_token_ends_the_session(strict: Target) -> None:
    first = tokens_of(strict.server)
    second = json.loads(refresh(strict.server, first["refresh_token"]).body)

    assert code_of(refresh(strict.server, first["refresh_token"])) == "refresh_token_reused"

    assert code_of(refresh(strict.server, second["refresh_token"])) == "session_ended"
    for tokens in (first, second):
        refused(strict.server, tokens["access_token"], REVOKED)


def test_a_user_who_is_deleted_and_comes_again_is_another(strict: Target) -> None:
    """CVE-2025-12390 once more: ids are never handed out twice, those of sessions neither."""
    name = "phoenix"
    first_id, first = sign_up(strict, name)
    gone = ask_json(strict.server, "DELETE", "/me", {"password": PASSWORD}, first["access_token"])
    assert gone.status == 204

    refused(strict.server, first["access_token"], OF_NOBODY)
    second_id, second = sign_up(strict, name)

    assert second_id > first_id
    refused(strict.server, first["access_token"], OF_NOBODY)
    assert code_of(refresh(strict.server, first["refresh_token"])) == "refresh_token_invalid"
    old_session = first["refresh_token"].split(".")[1]
    refused(strict.server, strict.sign(sub=str(second_id), sid=old_session), REVOKED)
    assert taken(strict.server, second["access_token"])


def test_cve_2026_1609_a_disabled_user_is_out_with_every_token(strict: Target) -> None:
    """Keycloak: who is disabled still gets tokens by another grant."""
    user_id, tokens = sign_up(strict, "banned")

    asked(strict, "UPDATE users SET disabled = 1 WHERE id = ?", user_id)

    refused(strict.server, tokens["access_token"], OF_DISABLED)
    assert code_of(refresh(strict.server, tokens["refresh_token"])) == "session_ended"
    body = {"username": "banned", "password": PASSWORD}
    again = ask_json(strict.server, "POST", "/auth", body)
    assert (again.status, json.loads(again.body)["code"]) == (401, "wrong_credentials")


def test_cve_2020_1725_who_is_demoted_is_so_at_once(strict: Target) -> None:
    """Keycloak: a role that was taken away is still in what is refreshed."""
    user_id, _ = sign_up(strict, "boss")
    asked(strict, "UPDATE users SET admin = 1 WHERE id = ?", user_id)
    tokens = tokens_of(strict.server, "boss", PASSWORD)

    def is_admin(token: str) -> str:
        answer = send_to_server(strict.server, "GET", "/auth/verify", bearer(token))
        return answer.headers["X-Auth-Admin"]

    assert is_admin(tokens["access_token"]) == "true"
    asked(strict, "UPDATE users SET admin = 0 WHERE id = ?", user_id)

    assert is_admin(tokens["access_token"]) == "false"
    fresh = json.loads(refresh(strict.server, tokens["refresh_token"]).body)
    assert is_admin(fresh["access_token"]) == "false"


def test_a_new_password_ends_every_token_of_the_old_one(strict: Target) -> None:
    _, tokens = sign_up(strict, "changer")
    other = tokens_of(strict.server, "changer", PASSWORD)
    body = {"current_password": PASSWORD, "new_password": f"{PASSWORD} staple"}

    changed = ask_json(strict.server, "PUT", "/me/password", body, tokens["access_token"])

    assert changed.status == 200
    for gone in (tokens, other):
        refused(strict.server, gone["access_token"], REVOKED)
        assert code_of(refresh(strict.server, gone["refresh_token"])) == "session_ended"
    assert taken(strict.server, json.loads(changed.body)["access_token"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_cve_2026_9802_what_was_ended_stays_so_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory, algorithm: str
) -> None:
    """Keycloak: after a restart a refresh token that was rotated before is good again."""
    folder = tmp_path_factory.mktemp(f"restart-{algorithm}")
    with attacked(folder, algorithm, REFRESH_GRACE="0", SIGNUP="open") as target:
        live, left, rotated = (tokens_of(target.server) for _ in range(3))
        _, gone = sign_up(target, "leaver")
        ask_json(target.server, "POST", "/auth/logout", None, left["access_token"])
        successor = json.loads(refresh(target.server, rotated["refresh_token"]).body)
        ask_json(target.server, "DELETE", "/me", {"password": PASSWORD}, gone["access_token"])

    with started(folder, target.settings) as server:
        assert taken(server, live["access_token"])
        assert taken(server, target.good)
        refused(server, left["access_token"], REVOKED)
        refused(server, gone["access_token"], OF_NOBODY)
        assert code_of(refresh(server, left["refresh_token"])) == "session_ended"
        assert code_of(refresh(server, rotated["refresh_token"])) == "refresh_token_reused"
        assert code_of(refresh(server, successor["refresh_token"])) == "session_ended"
        refused(server, successor["access_token"], REVOKED)
        assert refresh(server, live["refresh_token"]).status == 200


@pytest.mark.parametrize("algorithm", PAIRS)
def test_a_token_of_a_revoked_key_is_forged_at_once(
    tmp_path_factory: pytest.TempPathFactory, algorithm: str
) -> None:
    """By every worker, without a restart; the session lives on, so refreshing gets a good one."""
    folder = tmp_path_factory.mktemp(f"revoked-{algorithm}")
    with attacked(folder, algorithm) as target:
        tokens = tokens_of(target.server)
        for token in (tokens["access_token"], target.good):
            assert all(taken(target.server, token) for _ in range(6))  # both workers remember it
        ring = KeyFiles(folder / "keys", algorithm)  # as `keys revoke` does
        assert key_files.revoke(ring, target.header["kid"], int(time.time()))

        for token in (tokens["access_token"], target.good, target.sign()):
            for _ in range(4):
                refused(target.server, token, FORGED)
        fresh = json.loads(refresh(target.server, tokens["refresh_token"]).body)
        assert taken(target.server, fresh["access_token"])
        assert taken(target.server, sign_in(target.server).text)


def test_a_token_of_a_secret_that_was_taken_away_is_none(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Each of the two secrets makes one of the two tokens."""
    folder = tmp_path_factory.mktemp("secret")
    with attacked(folder, "HS256") as target:
        tokens = tokens_of(target.server)
    new = "a newer secret, which is of 32 bytes and more"

    with started(folder, target.settings | {"JWT_SECRET": new}) as server:
        for token in (tokens["access_token"], target.good, target.sign()):
            refused(server, token, FORGED)
        fresh = json.loads(refresh(server, tokens["refresh_token"]).body)
        assert taken(server, fresh["access_token"])

    with started(folder, target.settings | {"SECRET_KEY": new}) as server:
        assert code_of(refresh(server, fresh["refresh_token"])) == "refresh_token_invalid"
        assert taken(server, tokens["access_token"])


def test_a_session_that_is_over_takes_no_token(strict: Target) -> None:
    """However long the token itself says that it lives."""
    sid = "an-expired-session-123"
    asked(strict, INSERT_SESSION, *session_row(1, sid, 1_000_000))
    asked(strict, "UPDATE sessions SET expires_at = 1000001 WHERE id = ?", sid)

    refused(strict.server, strict.sign(sid=sid, exp=2**33), REVOKED)
