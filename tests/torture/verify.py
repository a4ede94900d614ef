"""What a resting client asks, to see over HTTP that all is as its record says."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final, TypeVar

from tests.torture.client import Client
from tests.torture.record import Account, Session
from tests.torture.wire import Answer, Lost

SOME: Final = 12
"""So many of what is gone are asked for each time; at the end, all."""

Thing = TypeVar("Thing")


def verify(client: Client, *, everything: bool = False) -> None:
    """Compare; `everything` that ever was, or a choice of what is gone."""
    with suppress(Lost):  # noted already: nothing is killed meanwhile
        if client.account.user_id:
            _verify_account(client, everything=everything)
            _verify_dead(client, client.account, everything=everything)
        for account in _some(client, client.deleted, everything=everything):
            _verify_deleted(client, account)
            _verify_dead(client, account, everything=everything)
    client.wire.close()


def _verify_account(client: Client, *, everything: bool) -> None:
    account = client.account
    fresh = client.try_password(account.password)
    if fresh is None:
        client.lose("the password does not sign in")
        return
    me = client.look("/me", fresh).body
    client.expect("account", (me["id"], me["username"]), (account.user_id, account.username))
    client.expect("live sessions", client.seen_live(fresh), {each.id for each in account.live()})
    pets = client.look("/pets?limit=100", fresh).body
    wanted = [account.pets[pet_id].__dict__ for pet_id in sorted(account.pets)]
    client.expect("pets", pets, wanted)
    for pet_id in _some(client, sorted(account.gone_pets), everything=everything):
        client.expect(f"gone pet {pet_id}", client.look(f"/pets/{pet_id}", fresh).status, 404)
    for password in _some(client, account.old_passwords, everything=everything):
        client.expect(
            "an old password works", client.try_password(password) is not None, wanted=False
        )
    for session in account.usable():
        client.expect(f"session {session.id}", client.look("/me", session).status, 200)
        if everything:
            _verify_newest(client, session)


def _verify_newest(client: Client, session: Session) -> None:
    answer = _refresh(client, session, session.refresh_tokens[-1])
    if answer.status == 200:
        session.rotate(answer.body)
    client.expect("the newest refresh token", answer.status in {200, 429}, wanted=True)


def _verify_dead(client: Client, account: Account, *, everything: bool) -> None:
    """What was revoked is refused: the access token, the newest refresh token, and the first."""
    dead = [each for each in account.dead() if each.access_token]
    for session in _some(client, dead, everything=everything):
        who = f"dead session {session.id}"
        client.expect(f"{who}: access", client.look("/me", session).status, 401)
        for shown in {session.refresh_tokens[0], session.refresh_tokens[-1]}:
            client.expect(f"{who}: refresh", _refresh(client, session, shown).status, 401)


def _verify_deleted(client: Client, account: Account) -> None:
    """Who is deleted can't sign in, unless the name has been taken again; with a new password."""
    body = {"username": account.username, "password": account.password}
    answer = client.ask("POST", "/auth", body)
    client.expect(f"deleted {account.username} signs in", answer.status, 401)


def _refresh(client: Client, session: Session, shown: str) -> Answer:
    return client.look("/auth/refresh", session, method="POST", body={"refresh_token": shown})


def _some(client: Client, things: Sequence[Thing], *, everything: bool) -> Sequence[Thing]:
    if everything or len(things) <= SOME:
        return things
    latest = things[-SOME // 2 :]
    return [*client.rng.sample(things, SOME // 2), *latest]
