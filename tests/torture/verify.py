"""Compares a client's record with the service over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final, TypeVar

from tests.torture.client import Client
from tests.torture.record import Account, Session
from tests.torture.wire import NoResponse, Response

SAMPLE_SIZE: Final = 12
"""Deleted things that are queried each time; at the end, all are."""

Thing = TypeVar("Thing")


def verify(client: Client, *, everything: bool = False) -> None:
    """Compare; `everything` queries all that was deleted, not a sample."""
    with suppress(NoResponse):  # recorded already: nothing is killed meanwhile
        if client.account.user_id:
            _verify_account(client, everything=everything)
            _verify_ended(client, client.account, everything=everything)
        for account in _sample(client, client.deleted, everything=everything):
            _verify_deleted(client, account)
            _verify_ended(client, account, everything=everything)
    client.wire.close()


def _verify_account(client: Client, *, everything: bool) -> None:
    account = client.account
    fresh = client.try_password(account.password)
    if fresh is None:
        client.add_loss("the password does not sign in")
        return
    me = client.query("/me", fresh).body
    client.expect("account", (me["id"], me["username"]), (account.user_id, account.username))
    client.expect(
        "active sessions", client.list_sessions(fresh), {each.id for each in account.active()}
    )
    pets = client.query("/pets?limit=100", fresh).body
    expected = [account.pets[pet_id].__dict__ for pet_id in sorted(account.pets)]
    client.expect("pets", pets, expected)
    for pet_id in _sample(client, sorted(account.removed_pets), everything=everything):
        client.expect(f"removed pet {pet_id}", client.query(f"/pets/{pet_id}", fresh).status, 404)
    for password in _sample(client, account.old_passwords, everything=everything):
        client.expect(
            "an old password works", client.try_password(password) is not None, expected=False
        )
    for session in account.usable():
        client.expect(f"session {session.id}", client.query("/me", session).status, 200)
        if everything:
            _verify_newest(client, session)


def _verify_newest(client: Client, session: Session) -> None:
    response = _refresh(client, session, session.refresh_tokens[-1])
    if response.status == 200:
        session.rotate(response.body)
    client.expect("the newest refresh token", response.status in {200, 429}, expected=True)


def _verify_ended(client: Client, account: Account, *, everything: bool) -> None:
    """Check that ended sessions refuse access token, first and newest refresh token."""
    ended_sessions = [each for each in account.ended_sessions() if each.access_token]
    for session in _sample(client, ended_sessions, everything=everything):
        who = f"ended session {session.id}"
        client.expect(f"{who}: access", client.query("/me", session).status, 401)
        for refresh_token in {session.refresh_tokens[0], session.refresh_tokens[-1]}:
            client.expect(f"{who}: refresh", _refresh(client, session, refresh_token).status, 401)


def _verify_deleted(client: Client, account: Account) -> None:
    """Check that a deleted user can't sign in; the name may have a new user and password."""
    client.wire.address = next(client.addresses)  # 10 failures an hour from each, for a name
    body = {"username": account.username, "password": account.password}
    response = client.send("POST", "/auth", body)
    client.expect(f"deleted {account.username} signs in", response.status, 401)


def _refresh(client: Client, session: Session, refresh_token: str) -> Response:
    return client.query(
        "/auth/refresh", session, method="POST", body={"refresh_token": refresh_token}
    )


def _sample(client: Client, things: Sequence[Thing], *, everything: bool) -> Sequence[Thing]:
    if everything or len(things) <= SAMPLE_SIZE:
        return things
    latest = things[-SAMPLE_SIZE // 2 :]
    return [*client.rng.sample(things, SAMPLE_SIZE // 2), *latest]
