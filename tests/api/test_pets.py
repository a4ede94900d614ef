"""`/pets`, the example resource."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server.database import Connection
from jwt_server.pets.routes import MAX_PETS
from tests.helpers.app import Clock
from tests.helpers.auth import JSON, run_at_once
from tests.helpers.factories import add_user, bearer_of, execute_many

Headers = dict[str, str]

BUNNY = {"id": 1, "name": "Bunny", "species": "dog", "created_at": "2023-11-14T22:13:20Z"}
RU = {"id": 2, "name": "Ru", "species": "cat", "created_at": "2023-11-14T22:13:20Z"}


@pytest.fixture
def other_user(db: Connection, clock: Clock) -> Headers:
    """The Authorization header of a user without pets."""
    return bearer_of(db, add_user(db, "ada"), int(clock()))


def test_list_returns_all_fields(client: FlaskClient, travis: Headers) -> None:
    response = client.get("/pets", headers=travis)

    assert response.status_code == 200
    assert response.get_json() == [BUNNY, RU]
    assert "Link" not in response.headers
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("as_form", [False, True])
def test_add_returns_pet_and_location(
    client: FlaskClient, travis: Headers, clock: Clock, as_form: bool
) -> None:
    clock.advance(60)
    fields = {"name": "Zoë", "species": "犬"}

    response = client.post("/pets", headers=travis, **{"data" if as_form else "json": fields})

    pet = {"id": 3, **fields, "created_at": "2023-11-14T22:14:20Z"}
    assert (response.status_code, response.get_json()) == (201, pet)
    assert response.headers["Location"] == "/pets/3"
    assert client.get("/pets/3", headers=travis).get_json() == pet
    assert client.get("/pets", headers=travis).get_json() == [BUNNY, RU, pet]


@pytest.mark.parametrize("species", [{}, {"species": None}, {"species": ""}])
def test_species_is_optional(client: FlaskClient, travis: Headers, species: dict[str, Any]) -> None:
    response = client.post("/pets", headers=travis, json={"name": "Blob"} | species)

    assert response.get_json()["species"] is None


def test_name_and_species_of_100_characters_are_accepted(
    client: FlaskClient, travis: Headers
) -> None:
    longest = {"name": "🐕" * 100, "species": "犬" * 100}

    assert client.post("/pets", headers=travis, json=longest).status_code == 201


def test_replace_sets_all_fields(client: FlaskClient, travis: Headers, clock: Clock) -> None:
    clock.advance(60)

    response = client.put("/pets/1", headers=travis, json={"name": "Bun"})

    replaced = BUNNY | {"name": "Bun", "species": None}
    assert (response.status_code, response.get_json()) == (200, replaced)
    assert client.get("/pets", headers=travis).get_json() == [replaced, RU]


def test_delete_removes_only_this_pet(client: FlaskClient, travis: Headers) -> None:
    response = client.delete("/pets/1", headers=travis)

    assert (response.status_code, response.data) == (204, b"")
    assert "Content-Type" not in response.headers
    assert client.delete("/pets/1", headers=travis).status_code == 404
    assert client.get("/pets", headers=travis).get_json() == [RU]


def test_ids_are_never_reused(client: FlaskClient, travis: Headers) -> None:
    client.delete("/pets/2", headers=travis)

    assert client.post("/pets", headers=travis, json={"name": "New"}).get_json()["id"] == 3


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "pet_id",
    ["1", "99", str(2**63 - 1), str(2**63), "9" * 20, "9" * 5000, "0", "01", "-1", "1.0", "x",
     "%D9%A1"],
)  # fmt: skip
def test_other_users_or_unknown_pet_returns_404(
    client: FlaskClient, travis: Headers, other_user: Headers, method: str, pet_id: str
) -> None:
    response = client.open(
        f"/pets/{pet_id}", method=method, headers=other_user, data={"name": "stolen"}
    )

    assert (response.status_code, response.text) == (404, "There is nothing here.")
    assert client.get("/pets", headers=travis).get_json() == [BUNNY, RU]
    assert client.get("/pets", headers=other_user).get_json() == []


def test_link_header_leads_through_all_pages(client: FlaskClient, travis: Headers) -> None:
    for number in range(3):
        client.post("/pets", headers=travis, json={"name": f"pet {number}"})
    pages = []
    path = "/pets?limit=2"
    while path:
        response = client.get(path, headers=travis)
        pages.append([pet["id"] for pet in response.get_json()])
        link = re.fullmatch('<(.*)>; rel="next"', response.headers.get("Link", ""))
        path = link[1] if link else ""

    assert pages == [[1, 2], [3, 4], [5]]


def test_full_last_page_has_no_link(client: FlaskClient, travis: Headers) -> None:
    response = client.get("/pets?limit=2", headers=travis)

    assert len(response.get_json()) == 2
    assert "Link" not in response.headers


def test_default_page_size_is_50(client: FlaskClient, travis: Headers, db: Connection) -> None:
    insert_pets(db, 150)

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
def test_invalid_limit_or_cursor_returns_422(
    client: FlaskClient, travis: Headers, query: str, named: str
) -> None:
    response = client.get(f"/pets?{query}", headers=travis)

    assert response.status_code == 422
    assert response.text.startswith(f"{named}: ")


def test_link_ignores_other_query_parameters(client: FlaskClient, travis: Headers) -> None:
    response = client.get("/pets?limit=1&x=%3E&_external=1&endpoint=x", headers=travis)

    assert response.headers["Link"] == '</pets?limit=1&after=WzFd>; rel="next"'


def test_link_has_the_proxy_prefix(client: FlaskClient, travis: Headers) -> None:
    response = client.get("/pets?limit=1", headers=travis, base_url="http://localhost/api/")

    assert response.headers["Link"] == '</api/pets?limit=1&after=WzFd>; rel="next"'


def insert_pets(db: Connection, count: int) -> None:
    """Insert pets of travis, as an import does."""
    execute_many(
        db,
        "INSERT INTO pets (user_id, name, created_at) VALUES (1, ?, 0)",
        [(f"pet {number} ".ljust(100, "🐕"),) for number in range(count)],
    )


@pytest.mark.parametrize("imported", [MAX_PETS - 2, MAX_PETS + 500])
def test_more_than_10000_pets_are_refused(
    client: FlaskClient, travis: Headers, other_user: Headers, db: Connection, imported: int
) -> None:
    insert_pets(db, imported)

    response = client.post("/pets", headers=travis | JSON, json={"name": "one too many"})

    assert (response.status_code, response.get_json()["code"]) == (409, "too_many_pets")
    assert db.driver.execute("SELECT 1 FROM pets WHERE name = 'one too many'").fetchall() == []
    assert client.post("/pets", headers=other_user, json={"name": "x"}).status_code == 201
    assert client.put("/pets/1", headers=travis, json={"name": "x"}).status_code == 200
    client.delete("/pets/1", headers=travis)
    again = client.post("/pets", headers=travis, json={"name": "x"})
    assert again.status_code == (201 if imported < MAX_PETS else 409)


def test_simultaneous_requests_add_10000_pets_at_most(
    app: Flask, travis: Headers, db: Connection
) -> None:
    insert_pets(db, MAX_PETS - 5)

    responses = run_at_once(
        lambda: app.test_client().post("/pets", headers=travis, json={"name": "x"}), 8
    )

    assert sorted(response.status_code for response in responses) == [201] * 3 + [409] * 5
    assert db.driver.execute("SELECT count(*) AS pets FROM pets").fetchone()["pets"] == MAX_PETS


def test_long_list_of_my_pets_is_sent_in_parts(
    client: FlaskClient, travis: Headers, db: Connection
) -> None:
    insert_pets(db, 2500)

    response = client.get("/my-pets", headers=travis)

    assert "Content-Length" not in response.headers
    assert response.headers["Content-Type"] == "application/json"
    assert response.text.startswith(
        '[{"name":"Bunny","species":"dog"},{"name":"Ru","species":"cat"},{"name":"pet 0 🐕'
    )
    names = [pet["name"].partition("🐕")[0] for pet in response.get_json()[2:]]
    assert names == [f"pet {number} " for number in range(2500)]


def test_add_returns_401_if_user_is_deleted_meanwhile(
    app: Flask, db: Connection, travis: Headers
) -> None:
    """The guard has read the user; the insert waits for the deletion's lock."""
    responses = []
    with db.transaction():
        db.driver.execute("DELETE FROM users WHERE id = 1")
        adding = threading.Thread(
            target=lambda: responses.append(
                app.test_client().post("/pets", headers=travis, json={"name": "late"})
            )
        )
        adding.start()
        adding.join(0.3)  # the guard has read the old user; the insert waits
        assert not responses
    adding.join()

    assert (responses[0].status_code, responses[0].text) == (401, "Token of a user who is gone.")
