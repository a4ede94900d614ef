"""What a client does with sessions: opened, kept up, ended."""

from __future__ import annotations

import time
from typing import Any

from tests.torture.client import Client
from tests.torture.record import Session
from tests.torture.target import GRACE, generation
from tests.torture.wire import Answer

MARGIN = 2
"""Seconds of doubt, as the service counts whole ones."""


def sign_in(client: Client) -> None:
    """Open a session."""
    account = client.account
    body = {"username": account.username, "password": account.password}

    def ask() -> Answer:
        account.unseen += 1
        answer = client.ask("POST", "/auth", body)
        account.unseen -= 1
        return answer

    def done(tokens: dict[str, Any]) -> None:
        session = Session.of(tokens)
        account.sessions[session.id] = session

    client.operate("sign-in", 200, ask, done, lambda: client.settle() > 0)


def refresh(client: Client) -> None:
    """Use a refresh token up. Where the answer is lost it gets its successor within the grace."""
    session = client.signed_in()
    shown, number, sent = session.refresh_tokens[-1], session.generation, time.time()
    first_look: list[int | None] = []

    def was_done() -> bool:
        if not first_look:
            first_look.append(generation(client.database, session.id))
            client.expect("generation", first_look[0] in {number, number + 1}, wanted=True)
        rotated = first_look[0] == number + 1
        answer = client.look("/auth/refresh", session, method="POST", body={"refresh_token": shown})
        if answer.status == 200:
            done(answer.body)
        elif answer.code == "refresh_token_reused" and time.time() - sent > GRACE - MARGIN:
            client.account.end(session)  # it was down for longer than the grace
        elif answer.status != 429 or rotated:  # so many a minute
            client.lose(f"no successor of a refresh token: {answer.status} {answer.body!r:.200}")
            client.account.end(session)
        return rotated

    def done(tokens: dict[str, Any]) -> None:
        session.rotate(tokens)
        client.expect("the successor's generation", _number(tokens), number + 1)

    client.operate("refresh", 200, lambda: _refresh(client, shown), done, was_done)


def reuse(client: Client) -> None:
    """Show a refresh token that was used up long ago: it ends the session, for good."""
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
        ended = client.look("/me", session).status == 401
        if ended:
            client.account.end(session)
        return ended

    def done(body: dict[str, Any]) -> None:
        client.expect("a refresh token used twice", body["code"], "refresh_token_reused")
        client.account.end(session)

    client.operate(
        "reuse of a refresh token", 401, lambda: _refresh(client, session.refresh_tokens[0]),
        done, was_done,
    )  # fmt: skip


def sign_out(client: Client) -> None:
    """End a session: by its access token, by its refresh token, or from another session."""
    session, account = client.signed_in(), client.account
    way = client.rng.choice(["local", "refresh token", "deletion"])
    other = client.rng.choice(account.live()) if way == "deletion" else session
    if way == "deletion" and time.time() - session.opened_at > 800:  # wants a recent password
        other = session

    def ask() -> Answer:
        if way == "local":
            return client.ask("POST", "/auth/logout", None, session)
        if way == "deletion":
            return client.ask("DELETE", f"/auth/sessions/{other.id}", None, session)
        return client.ask("POST", "/auth/logout", {"refresh_token": session.refresh_tokens[-1]})

    def was_done() -> bool:
        seen = client.seen_live(session)
        ended = seen is None or other.id not in seen
        if ended:
            account.end(other)
        return ended

    client.operate(f"sign-out: {way}", 204, ask, lambda _: account.end(other), was_done)


def sign_out_many(client: Client) -> None:
    """End all the other sessions, or all; where the answer is lost, every one of them or none."""
    session, account = client.signed_in(), client.account
    scope = client.rng.choice(["others", "others", "global"])
    ending = [each for each in account.live() if scope == "global" or each is not session]

    def was_done() -> bool:
        seen = client.seen_live(session)
        left = {each.id for each in ending} & (seen or set())
        if seen is None and scope == "others":
            client.lose("signing out the others has ended this session")
        if left:
            client.expect("sessions left by a sign-out", left, {each.id for each in ending})
            return False
        account.end(*ending)
        return bool(ending)

    client.operate(
        f"sign-out: {scope}", 204,
        lambda: client.ask("POST", f"/auth/logout?scope={scope}", None, session),
        lambda _: account.end(*ending), was_done,
    )  # fmt: skip


def _refresh(client: Client, shown: str) -> Answer:
    return client.ask("POST", "/auth/refresh", {"refresh_token": shown})


def _number(tokens: dict[str, Any]) -> int:
    return int(tokens["refresh_token"].split(".")[2])
