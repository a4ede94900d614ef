"""What a client does with pets."""

from __future__ import annotations

from typing import Any

from tests.torture.client import Client
from tests.torture.record import Pet

MOST = 60
"""So many pets are kept; they fit on one page."""


def add_pet(client: Client) -> None:
    """Add one; where the answer is lost it is there whole, or not at all."""
    session, account = client.signed_in(), client.account
    if len(account.pets) >= MOST:
        remove_pet(client)
        return
    wanted = _fields(client)

    def done(body: dict[str, Any]) -> None:
        pet = Pet(**body)
        client.expect("a new pet", (pet.name, pet.species), (wanted["name"], wanted["species"]))
        client.ledger.take_id("pets", pet.id)
        account.pets[pet.id] = pet

    def was_done() -> bool:
        pets = client.look("/pets?limit=100", session).body
        new = [pet for pet in pets if pet["id"] not in account.pets]
        if len(new) > 1:
            client.lose(f"pets that nobody added: {new!r:.300}")
        for body in new:
            done(body)
        return bool(new)

    client.operate(
        "pet added", 201, lambda: client.ask("POST", "/pets", wanted, session), done, was_done
    )


def replace_pet(client: Client) -> None:
    """Replace one; where the answer is lost it is the old one or the new one."""
    session, account = client.signed_in(), client.account
    if not account.pets:
        add_pet(client)
        return
    old = client.rng.choice(list(account.pets.values()))
    wanted = _fields(client)
    new = Pet(old.id, wanted["name"], wanted["species"], old.created_at)

    def done(body: dict[str, Any]) -> None:
        client.expect("a replaced pet", Pet(**body), new)
        account.pets[old.id] = new

    def was_done() -> bool:
        found = Pet(**client.look(f"/pets/{old.id}", session).body)
        if found != old:
            done(found.__dict__)
        return found != old

    client.operate(
        "pet replaced", 200,
        lambda: client.ask("PUT", f"/pets/{old.id}", wanted, session), done, was_done,
    )  # fmt: skip


def remove_pet(client: Client) -> None:
    """Remove one; where the answer is lost it is there as it was, or gone."""
    session, account = client.signed_in(), client.account
    if not account.pets:
        add_pet(client)
        return
    pet = client.rng.choice(list(account.pets.values()))

    def done(_body: object) -> None:
        del account.pets[pet.id]
        account.gone_pets.add(pet.id)

    def was_done() -> bool:
        answer = client.look(f"/pets/{pet.id}", session)
        if answer.status == 404:
            done(None)
            return True
        client.expect("a pet not removed", answer.body, pet.__dict__)
        return False

    client.operate(
        "pet removed", 204,
        lambda: client.ask("DELETE", f"/pets/{pet.id}", None, session), done, was_done,
    )  # fmt: skip


def _fields(client: Client) -> dict[str, Any]:
    number = next(client.numbers)
    length = client.rng.randrange(80)
    return {
        "name": f"{client.name}-{number} {'é' * length}"[:100],
        "species": client.rng.choice([None, "dog", f"cat {number}"]),
    }
