"""The caller's pets: `/pets`, the full resource, and `/my-pets`, the original's list."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, url_for
from marshmallow import Schema, fields, post_load
from marshmallow.validate import Length

from jwt_server.auth.guard import CurrentUser, login_required
from jwt_server.database import Row
from jwt_server.errors import NotFound, TokenUserDeleted
from jwt_server.web.fields import Text, Timestamp
from jwt_server.web.openapi import refuses
from jwt_server.web.paging import Page, PageSchema, page_of
from jwt_server.web.parsing import BodySchema
from jwt_server.web.responses import json_response
from jwt_server.web.routing import Blueprint
from jwt_server.web.service import current_service, get_db

bp = Blueprint("pets", __name__, description="The caller's own pets.")


class PetFieldsSchema(BodySchema):
    """What a client may set."""

    name = Text(required=True, validate=Length(1, 100, error="Send 1 to 100 characters."))
    species = Text(
        load_default=None,
        allow_none=True,
        validate=Length(max=100, error="Send 100 characters at the most."),
    )

    @post_load
    def empty_is_null(self, data: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
        """A form can't send null."""
        return data | {"species": data["species"] or None}


class MyPetSchema(Schema):
    """A pet as the original shows it."""

    name = fields.String(required=True)
    species = fields.String(required=True, allow_none=True)


class PetSchema(MyPetSchema):
    """A pet, whole."""

    class Meta:
        fields = ("id", "name", "species", "created_at")

    id = fields.Integer(required=True)
    created_at = Timestamp(required=True)


@bp.route("/my-pets")
@login_required(refuse_with=403)
@bp.response(200, MyPetSchema(many=True))
def list_my_pets(caller: CurrentUser) -> Response:
    """All of the caller's pets, names and species."""
    # As the rows come: they have just the two fields, and this is the route that is asked most.
    return json_response(get_db().queries.pets.names_of_user(user_id=caller.id))


@bp.route("/pets")
@login_required
@bp.arguments(PageSchema, query=True)
@bp.response(200, PetSchema(many=True), headers=["Link"])
def list_pets(caller: CurrentUser, page: Page) -> tuple[list[Row], dict[str, str]]:
    """A page of the caller's pets, oldest first."""
    pets = get_db().queries.pets.page_of_user(
        user_id=caller.id, after=page.after, most=page.limit + 1
    )
    return page_of(pets, page)


@bp.route("/pets", methods=["POST"])
@login_required
@bp.arguments(PetFieldsSchema)
@bp.response(201, PetSchema, headers=["Location"])
def add_pet(caller: CurrentUser, pet: dict[str, Any]) -> tuple[Row, dict[str, str]]:
    """Add a pet."""
    db = get_db()
    with db.transaction():
        row = db.queries.pets.insert(user_id=caller.id, now=current_service().now(), **pet)
    if row is None:
        raise TokenUserDeleted
    return row, {"Location": url_for("pets.show_pet", pet_id=row["id"])}


@bp.route("/pets/<id:pet_id>")
@login_required
@refuses(NotFound)
@bp.response(200, PetSchema)
def show_pet(caller: CurrentUser, pet_id: int) -> Row:
    """One pet."""
    return _found(get_db().queries.pets.find(user_id=caller.id, id=pet_id))


@bp.route("/pets/<id:pet_id>", methods=["PUT"])
@login_required
@refuses(NotFound)
@bp.arguments(PetFieldsSchema)
@bp.response(200, PetSchema)
def replace_pet(caller: CurrentUser, pet: dict[str, Any], pet_id: int) -> Row:
    """Replace a pet's name and species."""
    db = get_db()
    with db.transaction():
        row = db.queries.pets.replace(user_id=caller.id, id=pet_id, **pet)
    return _found(row)


@bp.route("/pets/<id:pet_id>", methods=["DELETE"])
@login_required
@refuses(NotFound)
@bp.response(204)
def remove_pet(caller: CurrentUser, pet_id: int) -> Response:
    """Remove a pet."""
    db = get_db()
    with db.transaction():
        removed = db.queries.pets.remove(user_id=caller.id, id=pet_id)
    if not removed:
        raise NotFound
    return current_app.response_class(status=204)


def _found(row: Row | None) -> Row:
    if row is None:
        raise NotFound
    return row
