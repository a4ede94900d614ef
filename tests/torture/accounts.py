"""A client's operations on its account."""

from __future__ import annotations

import time
from typing import Any

from tests.torture.client import Client
from tests.torture.record import Account, Session
from tests.torture.wire import Response

RECENT = 800
"""Seconds for which the service certainly accepts a password as recent."""


def sign_up(client: Client) -> None:
    """Sign up; without a response, the account can either sign in or sign up."""
    account = client.account

    def send() -> Response:
        client.wire.address = next(client.addresses)  # 10 a day from each
        body = {"username": account.username, "password": account.password}
        return client.send("POST", "/users", body)

    def record(body: dict[str, Any]) -> None:
        client.expect("the new account's name", body["username"], account.username)
        client.ledger.add_id("users", body["id"])
        account.user_id = body["id"]

    def was_done() -> bool:
        session = client.try_password(account.password)
        if session is not None:
            record(client.query("/me", session).body)
            client.reconcile()
        account.unanswered_sign_ins = 0
        return session is not None

    client.operate("sign-up", 201, send, record, was_done)


def rename(client: Client) -> None:
    """Change the username."""
    session, account = _recent(client), client.account
    expected = f"{client.name}-{next(client.numbers)}"

    def record(body: dict[str, Any]) -> None:
        client.expect("the new name", (body["id"], body["username"]), (account.user_id, expected))
        account.username = expected

    def was_done() -> bool:
        body = client.query("/me", session).body
        if body.get("username") == account.username:
            return False
        record(body)
        return True

    client.operate(
        "rename", 200,
        lambda: client.send("PATCH", "/me", {"username": expected}, session), record, was_done,
    )  # fmt: skip


def change_password(client: Client) -> None:
    """Change the password, which ends all sessions and opens one: all of it or nothing."""
    session, account = client.signed_in(), client.account
    before, new = account.active(), client.new_password()
    body = {"current_password": account.password, "new_password": new}
    found: list[bool] = []

    def record(tokens: dict[str, Any]) -> None:
        client.expect("sessions ended", tokens["sessions_ended"], len(before))
        _changed(account, before, new)
        fresh = Session.of(tokens)
        account.sessions[fresh.id] = fresh

    def was_done() -> bool:
        if not found:
            works = client.try_password(new) is not None
            old_works = client.try_password(account.password) is not None
            client.expect("old and new password work", (old_works, works), (not works, works))
            found.append(works)
            if works:
                _changed(account, before, new)
        client.reconcile(at_least=int(found[0]))
        return found[0]

    client.operate(
        "password change", 200,
        lambda: client.send("PUT", "/me/password", body, session), record, was_done,
    )  # fmt: skip


def delete_account(client: Client) -> None:
    """Delete the account and continue with a new one, perhaps of the same name."""
    session, account = client.signed_in(), client.account

    def was_done() -> bool:
        response = client.query("/me", session)
        if response.status == 200:
            return False
        client.expect("a deleted user's token", response.code, "token_user_gone")
        account.delete()
        return True

    client.operate(
        "account deletion", 204,
        lambda: client.send("DELETE", "/me", {"password": account.password}, session),
        lambda _: account.delete(), was_done,
    )  # fmt: skip
    if account.deleted:
        client.deleted.append(account)
        client.account = client.new_account()
        if client.rng.random() < 0.5:
            client.account.username = account.username


def _changed(account: Account, before: list[Session], new: str) -> None:
    account.end(*before)
    account.old_passwords.append(account.password)
    account.password = new


def _recent(client: Client) -> Session:
    """Return a session whose password was given recently."""
    since = time.time() - RECENT
    recent = [each for each in client.account.usable() if each.opened_at > since]
    session = client.rng.choice(recent) if recent else client.try_password(client.account.password)
    return session or client.signed_in()
