"""A client's operations on pets."""

from __future__ import annotations

from typing import Any

from tests.torture.client import Client
from tests.torture.record import Pet

MAX_PETS = 60
"""Pets of an account; they fit on one page."""


def add_pet(client: Client) -> None:
    """Add a pet; without a response, it exists or not."""
    session, account = client.signed_in(), client.account
    if len(account.pets) >= MAX_PETS:
        remove_pet(client)
        return
    expected = _fields(client)

    def record(body: dict[str, Any]) -> None:
        pet = Pet(**body)
        client.expect("a new pet", (pet.name, pet.species), (expected["name"], expected["species"]))
        client.ledger.add_id("pets", pet.id)
        account.pets[pet.id] = pet

    def was_done() -> bool:
        pets = client.query("/pets?limit=100", session).body
        new = [pet for pet in pets if pet["id"] not in account.pets]
        if len(new) > 1:
            client.add_loss(f"unknown pets: {new!r:.300}")
        for body in new:
            record(body)
        return bool(new)

    client.operate(
        "pet added", 201, lambda: client.send("POST", "/pets", expected, session), record, was_done
    )


def replace_pet(client: Client) -> None:
    """Replace a pet; without a response, it is the old or the new one."""
    session, account = client.signed_in(), client.account
    if not account.pets:
        add_pet(client)
        return
    old = client.rng.choice(list(account.pets.values()))
    expected = _fields(client)
    new = Pet(old.id, expected["name"], expected["species"], old.created_at)

    def record(body: dict[str, Any]) -> None:
        client.expect("a replaced pet", Pet(**body), new)
        account.pets[old.id] = new

    def was_done() -> bool:
        found = Pet(**client.query(f"/pets/{old.id}", session).body)
        if found != old:
            record(found.__dict__)
        return found != old

    client.operate(
        "pet replaced", 200,
        lambda: client.send("PUT", f"/pets/{old.id}", expected, session), record, was_done,
    )  # fmt: skip


def remove_pet(client: Client) -> None:
    """Remove a pet; without a response, it is unchanged or gone."""
    session, account = client.signed_in(), client.account
    if not account.pets:
        add_pet(client)
        return
    pet = client.rng.choice(list(account.pets.values()))

    def record(_body: object) -> None:
        del account.pets[pet.id]
        account.removed_pets.add(pet.id)

    def was_done() -> bool:
        response = client.query(f"/pets/{pet.id}", session)
        if response.status == 404:
            record(None)
            return True
        client.expect("a pet not removed", response.body, pet.__dict__)
        return False

    client.operate(
        "pet removed", 204,
        lambda: client.send("DELETE", f"/pets/{pet.id}", None, session), record, was_done,
    )  # fmt: skip


def _fields(client: Client) -> dict[str, Any]:
    number = next(client.numbers)
    length = client.rng.randrange(80)
    return {
        "name": f"{client.name}-{number} {'é' * length}"[:100],
        "species": client.rng.choice([None, "dog", f"cat {number}"]),
    }
