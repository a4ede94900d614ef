"""The user's pets: `/pets`, the full resource, and `/my-pets`, the list of the original API."""

from typing import Any, Final

from flask import Blueprint, Response, url_for
from marshmallow import Schema, fields, post_load
from marshmallow.validate import Length

from jwt_server.auth.guard import CurrentUser, login_required, require_still_signed_in
from jwt_server.database import PAGE_SIZE, Row
from jwt_server.errors import NotFound, TooManyPets
from jwt_server.web.operations import accepts, accepts_query, raises, returns
from jwt_server.web.paging import PageSchema, page_of
from jwt_server.web.responses import json_array, json_response, stream_json
from jwt_server.web.schemas import Text, Timestamp
from jwt_server.web.service import current_service, get_db, release_connection

bp = Blueprint("pets", __name__)

MAX_PETS: Final = 10_000
"""Pets per user."""


class PetFieldsSchema(Schema):
    """The fields that a client sets."""

    name = Text(required=True, validate=Length(1, 100, error="Send 1 to 100 characters."))
    species = Text(
        load_default=None,
        allow_none=True,
        validate=Length(max=100, error="Send at most 100 characters."),
    )

    @post_load
    def empty_species_is_null(self, data: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
        """Replace an empty species with null, which a form can't send."""
        return data | {"species": data["species"] or None}


class MyPetSchema(Schema):
    """A pet in the original API."""

    name = fields.String(required=True)
    species = fields.String(required=True, allow_none=True)


class PetSchema(Schema):
    """A pet."""

    id = fields.Integer(required=True)
    name = fields.String(required=True)
    species = fields.String(required=True, allow_none=True)
    created_at = Timestamp(required=True)


@bp.get("/my-pets")
@login_required(refuse_with=403)
@returns(200, MyPetSchema(many=True))
def list_my_pets(caller: CurrentUser) -> Response:
    """List the name and species of all of the user's pets."""
    # Not serialized by the schema: the rows have just these fields, and speed matters here.
    names = get_db().queries.pets.names_of_user(user_id=caller.id, limit=PAGE_SIZE)
    if len(names) < PAGE_SIZE:
        return json_response(names)
    service = current_service()
    release_connection()  # each page takes one
    pages = service.database.pages("pets.page_of_user", {"id": 0}, user_id=caller.id)
    names_of_pages = map(MyPetSchema(many=True).dump, pages)
    return stream_json(json_array(names_of_pages), service.streams.hold(caller.id))


@bp.get("/pets")
@login_required
@accepts_query(PageSchema)
@returns(200, PetSchema(many=True), headers=["Link"])
def list_pets(caller: CurrentUser, page: dict[str, Any]) -> tuple[list[Row], dict[str, str]]:
    """List a page of the user's pets, oldest first."""
    queries = get_db().queries.pets
    limit, [after] = page["limit"], page.get("after", [0])
    return page_of(queries.page_of_user(user_id=caller.id, id=after, limit=limit + 1), limit)


@bp.post("/pets")
@login_required
@raises(TooManyPets)
@accepts(PetFieldsSchema)
@returns(201, PetSchema, headers=["Location"])
def add_pet(caller: CurrentUser, pet: dict[str, Any]) -> tuple[Row, dict[str, str]]:
    """Add a pet."""
    db, now = get_db(), current_service().now()
    with db.transaction():
        require_still_signed_in(db, caller)  # locks: the limit holds for simultaneous requests, too
        row = db.queries.pets.insert(user_id=caller.id, now=now, max_pets=MAX_PETS, **pet)
    if row is None:
        raise TooManyPets
    return row, {"Location": url_for("pets.show_pet", pet_id=row["id"])}


@bp.get("/pets/<id:pet_id>")
@login_required
@raises(NotFound)
@returns(200, PetSchema)
def show_pet(caller: CurrentUser, pet_id: int) -> Row:
    """Return a pet."""
    return _found(get_db().queries.pets.find(user_id=caller.id, id=pet_id))


@bp.put("/pets/<id:pet_id>")
@login_required
@raises(NotFound)
@accepts(PetFieldsSchema)
@returns(200, PetSchema)
def replace_pet(caller: CurrentUser, pet: dict[str, Any], pet_id: int) -> Row:
    """Replace a pet's name and species."""
    db = get_db()
    with db.transaction():
        return _found(db.queries.pets.replace(user_id=caller.id, id=pet_id, **pet))


@bp.delete("/pets/<id:pet_id>")
@login_required
@raises(NotFound)
@returns(204)
def remove_pet(caller: CurrentUser, pet_id: int) -> None:
    """Delete a pet."""
    db = get_db()
    with db.transaction():
        if not db.queries.pets.remove(user_id=caller.id, id=pet_id):
            raise NotFound


def _found(row: Row | None) -> Row:
    if row is None:
        raise NotFound
    return row
