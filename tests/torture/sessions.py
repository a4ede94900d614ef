"""A client's operations on sessions."""

from __future__ import annotations

import time
from typing import Any

from tests.torture.client import Client
from tests.torture.record import Session
from tests.torture.target import GRACE
from tests.torture.wire import Response

MARGIN = 2
"""Tolerance in seconds, as the service counts whole seconds."""


def sign_in(client: Client) -> None:
    """Sign in."""
    account = client.account
    body = {"username": account.username, "password": account.password}

    def send() -> Response:
        account.unanswered_sign_ins += 1
        response = client.send("POST", "/auth", body)
        account.unanswered_sign_ins -= 1
        return response

    def record(tokens: dict[str, Any]) -> None:
        session = Session.of(tokens)
        account.sessions[session.id] = session

    client.operate("sign-in", 200, send, record, lambda: client.reconcile() > 0)


def refresh(client: Client) -> None:
    """Use a refresh token; without a response, the same key gets its successor at any time."""
    session = client.signed_in()
    refresh_token, number = session.refresh_tokens[-1], session.generation
    body = {"refresh_token": refresh_token, "retry_key": f"{client.rng.getrandbits(128):032x}"}
    first_seen: list[int | None] = []

    def was_done() -> bool:
        if not first_seen:
            first_seen.append(client.generation(session))
            client.expect("generation", first_seen[0] in {number, number + 1}, expected=True)
        rotated = first_seen[0] == number + 1
        response = client.query("/auth/refresh", session, method="POST", body=body)
        if response.status == 200:
            record(response.body)
        elif response.status != 429 or rotated:  # the limit of refreshes per minute
            client.add_loss(
                f"no successor of a refresh token: {response.status} {response.body!r:.200}"
            )
            client.account.end(session)
        return rotated

    def record(tokens: dict[str, Any]) -> None:
        session.rotate(tokens)
        client.expect("the successor's generation", _number(tokens), number + 1)

    client.operate(
        "refresh", 200, lambda: client.send("POST", "/auth/refresh", body), record, was_done
    )


def reuse(client: Client) -> None:
    """Use a refresh token a second time after the grace period, which ends the session."""
    now = time.time()
    for session in client.account.usable():
        if session.generation > 2 or (
            session.generation == 2 and now - session.rotated_at > GRACE + MARGIN
        ):
            break
    else:
        refresh(client)
        return

    def was_done() -> bool:
        ended = client.query("/me", session).status == 401
        if ended:
            client.account.end(session)
        return ended

    def record(body: dict[str, Any]) -> None:
        client.expect("a refresh token used twice", body["code"], "refresh_token_reused")
        client.account.end(session)

    client.operate(
        "reuse of a refresh token", 401,
        lambda: client.send("POST", "/auth/refresh", {"refresh_token": session.refresh_tokens[0]}),
        record, was_done,
    )  # fmt: skip


def sign_out(client: Client) -> None:
    """End a session: with its access token, its refresh token, or from another session."""
    session, account = client.signed_in(), client.account
    way = client.rng.choice(["local", "refresh token", "deletion"])
    other = client.rng.choice(account.active()) if way == "deletion" else session
    if way == "deletion" and time.time() - session.opened_at > 800:  # needs a recent password
        other = session

    def send() -> Response:
        if way == "local":
            return client.send("POST", "/auth/logout", None, session)
        if way == "deletion":
            return client.send("DELETE", f"/auth/sessions/{other.id}", None, session)
        return client.send("POST", "/auth/logout", {"refresh_token": session.refresh_tokens[-1]})

    def was_done() -> bool:
        seen = client.list_sessions(session)
        ended = seen is None or other.id not in seen
        if ended:
            account.end(other)
        return ended

    client.operate(f"sign-out: {way}", 204, send, lambda _: account.end(other), was_done)


def sign_out_many(client: Client) -> None:
    """End the other sessions or all; without a response, all of them have ended or none."""
    session, account = client.signed_in(), client.account
    scope = client.rng.choice(["others", "others", "global"])
    ending = [each for each in account.active() if scope == "global" or each is not session]

    def was_done() -> bool:
        seen = client.list_sessions(session)
        left = {each.id for each in ending} & (seen or set())
        if seen is None and scope == "others":
            client.add_loss("signing out the others has ended this session")
        if left:
            client.expect("sessions left by a sign-out", left, {each.id for each in ending})
            return False
        account.end(*ending)
        return bool(ending)

    client.operate(
        f"sign-out: {scope}", 204,
        lambda: client.send("POST", f"/auth/logout?scope={scope}", None, session),
        lambda _: account.end(*ending), was_done,
    )  # fmt: skip


def _number(tokens: dict[str, Any]) -> int:
    return int(tokens["refresh_token"].split(".")[2])
