"""`/pets`: the resource that people copy."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server.database import Connection
from tests.helpers.app import Clock
from tests.helpers.factories import add_user, bearer_of

Headers = dict[str, str]

BUNNY = {"id": 1, "name": "Bunny", "species": "dog", "created_at": "2023-11-14T22:13:20Z"}
RU = {"id": 2, "name": "Ru", "species": "cat", "created_at": "2023-11-14T22:13:20Z"}


@pytest.fixture
def stranger(db: Connection, clock: Clock) -> Headers:
    """Another user, who has no pets."""
    return bearer_of(db, add_user(db, "stranger"), int(clock()))


def test_the_list_holds_whole_pets(client: FlaskClient, travis: Headers) -> None:
    answer = client.get("/pets", headers=travis)

    assert answer.status_code == 200
    assert answer.get_json() == [BUNNY, RU]
    assert "Link" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("as_form", [False, True])
def test_adding_a_pet_gives_it_back_with_its_place(
    client: FlaskClient, travis: Headers, clock: Clock, as_form: bool
) -> None:
    clock.advance(60)
    fields = {"name": "Zoë", "species": "犬"}

    answer = client.post("/pets", headers=travis, **{"data" if as_form else "json": fields})

    pet = {"id": 3, **fields, "created_at": "2023-11-14T22:14:20Z"}
    assert (answer.status_code, answer.get_json()) == (201, pet)
    assert answer.headers["Location"] == "/pets/3"
    assert client.get("/pets/3", headers=travis).get_json() == pet
    assert client.get("/pets", headers=travis).get_json() == [BUNNY, RU, pet]


@pytest.mark.parametrize("species", [{}, {"species": None}, {"species": ""}])
def test_a_pet_may_be_of_no_species(
    client: FlaskClient, travis: Headers, species: dict[str, Any]
) -> None:
    answer = client.post("/pets", headers=travis, json={"name": "Blob"} | species)

    assert answer.get_json()["species"] is None


def test_a_name_may_have_a_hundred_characters(client: FlaskClient, travis: Headers) -> None:
    longest = {"name": "🐕" * 100, "species": "犬" * 100}

    assert client.post("/pets", headers=travis, json=longest).status_code == 201


def test_replacing_a_pet_replaces_all_that_may_be_set(
    client: FlaskClient, travis: Headers, clock: Clock
) -> None:
    clock.advance(60)

    answer = client.put("/pets/1", headers=travis, json={"name": "Bun"})

    replaced = BUNNY | {"name": "Bun", "species": None}
    assert (answer.status_code, answer.get_json()) == (200, replaced)
    assert client.get("/pets", headers=travis).get_json() == [replaced, RU]


def test_removing_a_pet_removes_just_it(client: FlaskClient, travis: Headers) -> None:
    answer = client.delete("/pets/1", headers=travis)

    assert (answer.status_code, answer.data) == (204, b"")
    assert "Content-Type" not in answer.headers
    assert client.delete("/pets/1", headers=travis).status_code == 404
    assert client.get("/pets", headers=travis).get_json() == [RU]


def test_an_id_is_never_handed_out_again(client: FlaskClient, travis: Headers) -> None:
    client.delete("/pets/2", headers=travis)

    assert client.post("/pets", headers=travis, json={"name": "New"}).get_json()["id"] == 3


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "pet_id",
    ["1", "99", str(2**63 - 1), str(2**63), "9" * 20, "9" * 5000, "0", "01", "-1", "1.0", "x",
     "%D9%A1"],
)  # fmt: skip
def test_what_is_not_ones_own_is_not_there(
    client: FlaskClient, travis: Headers, stranger: Headers, method: str, pet_id: str
) -> None:
    answer = client.open(
        f"/pets/{pet_id}", method=method, headers=stranger, data={"name": "stolen"}
    )

    assert (answer.status_code, answer.text) == (404, "There is nothing here.")
    assert client.get("/pets", headers=travis).get_json() == [BUNNY, RU]
    assert client.get("/pets", headers=stranger).get_json() == []


def test_pages_follow_each_other_by_the_link_header(client: FlaskClient, travis: Headers) -> None:
    for number in range(3):
        client.post("/pets", headers=travis, json={"name": f"pet {number}"})
    pages = []
    path = "/pets?limit=2"
    while path:
        answer = client.get(path, headers=travis)
        pages.append([pet["id"] for pet in answer.get_json()])
        link = re.fullmatch('<(.*)>; rel="next"', answer.headers.get("Link", ""))
        path = link[1] if link else ""

    assert pages == [[1, 2], [3, 4], [5]]


def test_a_full_last_page_has_no_next(client: FlaskClient, travis: Headers) -> None:
    answer = client.get("/pets?limit=2", headers=travis)

    assert len(answer.get_json()) == 2
    assert "Link" not in answer.headers


def test_a_page_is_of_fifty_unless_told(
    client: FlaskClient, travis: Headers, db: Connection
) -> None:
    db.driver.executemany(
        "INSERT INTO pets (user_id, name, created_at) VALUES (1, ?, 0)",
        [(f"pet {number}",) for number in range(150)],
    )

    assert len(client.get("/pets", headers=travis).get_json()) == 50
    assert len(client.get("/pets?limit=100", headers=travis).get_json()) == 100
    assert len(client.get("/my-pets", headers=travis).get_json()) == 152


@pytest.mark.parametrize(
    ("query", "named"),
    [
        *((f"limit={value}", "limit") for value in
          ("0", "101", "-1", "x", "", "1.0", "1e1", "+5", "%205", "1_0", "%D9%A5", "05",
           "9" * 5000)),
        ("limit=1&limit=2", "limit"),
        *((f"after={value}", "after") for value in
          ("", "x", "!!", "MQ==", "MR", "LTE", "MDE", "%ff", "%00", "%C3%A9",
           "OTk5OTk5OTk5OTk5OTk5OTk5OQ")),
        ("after=MQ&after=MQ", "after"),
    ],
)  # fmt: skip
def test_a_bad_page_is_422_and_named(
    client: FlaskClient, travis: Headers, query: str, named: str
) -> None:
    answer = client.get(f"/pets?{query}", headers=travis)

    assert answer.status_code == 422
    assert answer.text.startswith(f"{named}: ")


def test_the_link_holds_nothing_that_the_client_made_up(
    client: FlaskClient, travis: Headers
) -> None:
    answer = client.get("/pets?limit=1&x=%3E&_external=1&endpoint=x", headers=travis)

    assert answer.headers["Link"] == '</pets?limit=1&after=MQ>; rel="next"'


def test_the_next_page_is_found_behind_a_prefix(client: FlaskClient, travis: Headers) -> None:
    answer = client.get("/pets?limit=1", headers=travis, base_url="http://localhost/api/")

    assert answer.headers["Link"] == '</api/pets?limit=1&after=MQ>; rel="next"'


def test_a_pet_of_nobody_is_not_added(db: Connection) -> None:
    assert db.queries.pets.insert(user_id=99, name="late", species=None, now=0) is None


def test_a_pet_of_a_user_deleted_meanwhile_is_not_added(
    app: Flask, db: Connection, travis: Headers
) -> None:
    """Between the guard's look and the insert: the write waits for the deletion's lock."""
    answers = []
    with db.transaction():
        db.driver.execute("DELETE FROM users WHERE id = 1")
        adding = threading.Thread(
            target=lambda: answers.append(
                app.test_client().post("/pets", headers=travis, json={"name": "late"})
            )
        )
        adding.start()
        adding.join(0.3)  # the guard has read the old user; the insert waits
        assert not answers
    adding.join()

    assert (answers[0].status_code, answers[0].text) == (401, "Token of a user who is gone.")
