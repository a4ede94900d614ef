"""Tokens that were good once: signed out, rotated, of a user who was deleted and came again, of a
revoked key; before and after a restart.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jwt_server.security import key_files
from jwt_server.security.key_files import KeyFolder
from tests.attacks.target import (
    FORGED,
    OF_DISABLED,
    OF_NOBODY,
    REVOKED,
    Target,
    another,
    attacked,
    send_json,
    sign_in,
    tokens_of,
)
from tests.attacks.users import (
    PASSWORD,
    check_refused,
    is_accepted,
    refresh,
    refusal_code,
    run_sql,
    sign_up,
)
from tests.helpers.factories import INSERT_SESSION, bearer, session_row


@pytest.mark.parametrize("scope", ["local", "global", "others"])
def test_cve_2026_8922_signing_out_ends_both_tokens(strict: Target, scope: str) -> None:
    """Keycloak: what was revoked stays active, as one of two notes on it is not read."""
    user_id, tokens = sign_up(strict, f"leaver-{scope}")
    other = tokens_of(strict, f"leaver-{scope}", PASSWORD)
    current_actor, gone = (other, tokens) if scope == "others" else (tokens, tokens)

    done = send_json(
        strict, "POST", f"/auth/logout?scope={scope}", None, current_actor["access_token"]
    )

    assert done.status == 204
    check_refused(strict, gone["access_token"], REVOKED)
    assert refusal_code(refresh(strict, gone["refresh_token"])) == "session_ended"
    session = gone["refresh_token"].split(".")[1]
    check_refused(strict, strict.sign(sub=str(user_id), sid=session, jti="new"), REVOKED)
    assert is_accepted(strict, other["access_token"]) == (scope != "global")


def test_cve_2026_1035_of_ten_concurrent_refreshes_one_succeeds(strict: Target) -> None:
    """Keycloak: between the look at a refresh token and the note of its use, others look."""
    tokens = tokens_of(strict)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: refresh(strict, tokens["refresh_token"]), range(10)))

    statuses = sorted(answer.status for answer in answers)
    assert statuses == [200] + [401] * 9
    check_refused(strict, tokens["access_token"], REVOKED)  # two have it: theft


def test_a_rotated_refresh_token_ends_the_session(strict: Target) -> None:
    first = tokens_of(strict)
    second = json.loads(refresh(strict, first["refresh_token"]).body)

    assert refusal_code(refresh(strict, first["refresh_token"])) == "refresh_token_reused"

    assert refusal_code(refresh(strict, second["refresh_token"])) == "session_ended"
    for tokens in (first, second):
        check_refused(strict, tokens["access_token"], REVOKED)


def test_a_user_who_is_deleted_and_signs_up_again_is_another(strict: Target) -> None:
    """CVE-2025-12390 once more: ids are never handed out twice, those of sessions neither."""
    name = "phoenix"
    first_id, first = sign_up(strict, name)
    gone = send_json(strict, "DELETE", "/me", {"password": PASSWORD}, first["access_token"])
    assert gone.status == 204

    check_refused(strict, first["access_token"], OF_NOBODY)
    second_id, second = sign_up(strict, name)

    assert second_id > first_id
    check_refused(strict, first["access_token"], OF_NOBODY)
    assert refusal_code(refresh(strict, first["refresh_token"])) == "refresh_token_invalid"
    old_session = first["refresh_token"].split(".")[1]
    check_refused(strict, strict.sign(sub=str(second_id), sid=old_session), REVOKED)
    assert is_accepted(strict, second["access_token"])


def test_cve_2026_1609_every_token_of_a_disabled_user_is_refused(strict: Target) -> None:
    """Keycloak: who is disabled still gets tokens by another grant."""
    user_id, tokens = sign_up(strict, "banned")

    run_sql(strict, "UPDATE users SET disabled = 1 WHERE id = ?", user_id)

    check_refused(strict, tokens["access_token"], OF_DISABLED)
    assert refusal_code(refresh(strict, tokens["refresh_token"])) == "session_ended"
    body = {"username": "banned", "password": PASSWORD}
    again = send_json(strict, "POST", "/auth", body)
    assert (again.status, json.loads(again.body)["code"]) == (401, "wrong_credentials")


def test_cve_2020_1725_a_demotion_takes_effect_at_once(strict: Target) -> None:
    """Keycloak: a role that was taken away is still in what is refreshed."""
    user_id, _ = sign_up(strict, "boss")
    run_sql(strict, "UPDATE users SET admin = 1 WHERE id = ?", user_id)
    tokens = tokens_of(strict, "boss", PASSWORD)

    def is_admin(token: str) -> str:
        answer = strict.send("GET", "/auth/verify", bearer(token))
        return answer.headers["X-Auth-Admin"]

    assert is_admin(tokens["access_token"]) == "true"
    run_sql(strict, "UPDATE users SET admin = 0 WHERE id = ?", user_id)

    assert is_admin(tokens["access_token"]) == "false"
    fresh = json.loads(refresh(strict, tokens["refresh_token"]).body)
    assert is_admin(fresh["access_token"]) == "false"


def test_a_new_password_ends_every_token_of_the_old_one(strict: Target) -> None:
    _, tokens = sign_up(strict, "changer")
    other = tokens_of(strict, "changer", PASSWORD)
    body = {"current_password": PASSWORD, "new_password": f"{PASSWORD} staple"}

    changed = send_json(strict, "PUT", "/me/password", body, tokens["access_token"])

    assert changed.status == 200
    for gone in (tokens, other):
        check_refused(strict, gone["access_token"], REVOKED)
        assert refusal_code(refresh(strict, gone["refresh_token"])) == "session_ended"
    assert is_accepted(strict, json.loads(changed.body)["access_token"])


def test_cve_2026_9802_what_was_ended_stays_so_after_a_restart(tmp_path: Path) -> None:
    """Keycloak: after a restart, a refresh token that was rotated before is good again."""
    with attacked(tmp_path, "EdDSA", refresh_grace=0, signup="open") as target:
        live, left, rotated = (tokens_of(target) for _ in range(3))
        _, gone = sign_up(target, "leaver")
        send_json(target, "POST", "/auth/logout", None, left["access_token"])
        successor = json.loads(refresh(target, rotated["refresh_token"]).body)
        send_json(target, "DELETE", "/me", {"password": PASSWORD}, gone["access_token"])

    with another(target) as server:
        assert is_accepted(server, live["access_token"])
        assert is_accepted(server, target.good)
        check_refused(server, left["access_token"], REVOKED)
        check_refused(server, gone["access_token"], OF_NOBODY)
        assert refusal_code(refresh(server, left["refresh_token"])) == "session_ended"
        assert refusal_code(refresh(server, rotated["refresh_token"])) == "refresh_token_reused"
        assert refusal_code(refresh(server, successor["refresh_token"])) == "session_ended"
        check_refused(server, successor["access_token"], REVOKED)
        assert refresh(server, live["refresh_token"]).status == 200


def test_a_token_of_a_revoked_key_is_refused_at_once_in_every_worker(tmp_path: Path) -> None:
    """Without a restart. The session stays active, so refreshing gets a token of the new key."""
    with attacked(tmp_path, "EdDSA") as target, another(target) as worker:
        tokens = tokens_of(target)
        for token in (tokens["access_token"], target.good):
            assert is_accepted(target, token)
            assert is_accepted(worker, token)  # both have cached it
        ring = KeyFolder(tmp_path / "keys", "EdDSA")  # as `keys revoke` does
        assert key_files.revoke(ring, target.header["kid"], int(time.time()))

        for token in (tokens["access_token"], target.good, target.sign()):
            check_refused(target, token, FORGED)
            check_refused(worker, token, FORGED)
        fresh = json.loads(refresh(target, tokens["refresh_token"]).body)
        assert is_accepted(target, fresh["access_token"])
        assert is_accepted(target, sign_in(target).text)


def test_a_token_of_a_removed_secret_is_refused(tmp_path: Path) -> None:
    """Each of the two secrets signs one of the two tokens."""
    with attacked(tmp_path, "HS256") as target:
        tokens = tokens_of(target)
    new = b"a newer secret, which is of 32 bytes and more"

    with another(target, jwt_secrets=(new,)) as server:
        for token in (tokens["access_token"], target.good, target.sign()):
            check_refused(server, token, FORGED)
        fresh = json.loads(refresh(server, tokens["refresh_token"]).body)
        assert is_accepted(server, fresh["access_token"])

    with another(target, secret_keys=(new,)) as server:
        assert refusal_code(refresh(server, fresh["refresh_token"])) == "refresh_token_invalid"
        assert is_accepted(server, tokens["access_token"])


def test_an_expired_session_accepts_no_token(strict: Target) -> None:
    """Whatever `exp` the token itself has."""
    sid = "an-expired-session-123"
    run_sql(strict, INSERT_SESSION, *session_row(1, sid, 1_000_000))
    run_sql(strict, "UPDATE sessions SET expires_at = 1000001 WHERE id = ?", sid)

    check_refused(strict, strict.sign(sid=sid, exp=2**33), REVOKED)
