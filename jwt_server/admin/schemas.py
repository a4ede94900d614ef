"""Request and response schemas of the administration routes."""

from typing import Final

from marshmallow import Schema, fields, validate

from jwt_server.admin.stats import COUNTED
from jwt_server.audit import Action
from jwt_server.security.primitives import MAX_ID
from jwt_server.web.paging import Cursor, Number, PageSchema
from jwt_server.web.schemas import (
    NEW_PASSWORD,
    NEW_USERNAME,
    AccountSchema,
    Claims,
    Flag,
    Text,
    Timestamp,
)

ANY_USER: Final = {"description": "An ID, also of a deleted user.", "examples": [1]}
COUNT: Final = {"examples": [2]}


class UsersQuerySchema(PageSchema):
    """Users whose names begin with `search`, in the order of their names."""

    search = fields.String(attribute="prefix", load_default="")
    admin = Flag()
    disabled = Flag()
    after = Cursor(username_key=str)


class UserChangesSchema(Schema):
    """The fields of a user that admins may change."""

    username = Text(metadata=NEW_USERNAME)
    admin = Flag()
    disabled = Flag()
    claims = Claims()


class NewPasswordSchema(Schema):
    """A temporary password; without one it is generated."""

    password = Text(metadata=NEW_PASSWORD)


class NewUserSchema(NewPasswordSchema):
    """A user to create."""

    username = Text(required=True, metadata=NEW_USERNAME)
    admin = Flag(load_default=False)
    claims = Claims(load_default="{}")


class UserSchema(AccountSchema):
    """A user, as admins see it."""

    disabled = Flag(required=True)
    locked_until = Timestamp(required=True, allow_none=True)
    last_sign_in_at = Timestamp(required=True, allow_none=True)
    sessions = fields.Integer(required=True, metadata=COUNT)
    password_expires_at = Timestamp(required=True, allow_none=True)


class UserWithPasswordSchema(UserSchema):
    """A user, with a generated password, which is shown this once."""

    temporary_password = fields.String()


class AuditQuerySchema(PageSchema):
    """Rows of the audit log, newest first, from `since` up to, but not including, `until`."""

    user = Number(MAX_ID, attribute="user_id", metadata=ANY_USER)
    actor = Number(MAX_ID, attribute="actor_id", metadata=ANY_USER)
    action = fields.String(validate=validate.OneOf([each.value for each in Action]))
    since = Timestamp()
    until = Timestamp()
    after = Cursor(at=int, id=int)


USERS_QUERY: Final = UsersQuerySchema()
AUDIT_QUERY: Final = AuditQuerySchema()


class AuditRowSchema(Schema):
    """A row of the audit log; names are the current ones, null for a deleted user."""

    id = fields.Integer(required=True)
    at = Timestamp(required=True)
    action = fields.String(required=True)
    actor_id = fields.Integer(required=True, allow_none=True)
    actor = fields.String(required=True, allow_none=True)
    user_id = fields.Integer(required=True, allow_none=True)
    username = fields.String(required=True, allow_none=True)
    address = fields.String(required=True, allow_none=True)
    details = fields.Dict(required=True)


class DaysSchema(Schema):
    """The number of days, with today."""

    days = Number(365, load_default=7)


SeriesSchema = Schema.from_dict(
    {each.value: fields.List(fields.Integer(), required=True) for each in COUNTED},
    name="SeriesSchema",
)
"""Numbers of rows in the audit log, one for each hour or day."""


class TotalsSchema(Schema):
    """Numbers of now: admins and disabled users are among the users; sessions are active."""

    users = fields.Integer(required=True, metadata=COUNT)
    admins = fields.Integer(required=True, metadata=COUNT)
    disabled = fields.Integer(required=True, metadata=COUNT)
    sessions = fields.Integer(required=True, metadata=COUNT)


class StatsSchema(Schema):
    """Statistics from `since` up to `until`; the last bucket is not over."""

    since = Timestamp(required=True)
    until = Timestamp(required=True)
    bucket_seconds = fields.Integer(required=True)
    series = fields.Nested(SeriesSchema, required=True)
    totals = fields.Nested(TotalsSchema, required=True)


class KeySchema(Schema):
    """A key pair: it `signs`, is `next`, or only `verifies`."""

    kid = fields.String(required=True)
    created_at = Timestamp(required=True)
    signs_from = Timestamp(required=True)
    state = fields.String(required=True, validate=validate.OneOf(("signs", "next", "verifies")))


class KeysSchema(Schema):
    """The keys by the time from which on they sign; none under HS256."""

    algorithm = fields.String(required=True)
    now = Timestamp(required=True)
    keys = fields.List(fields.Nested(KeySchema), required=True, metadata={"examples": [[]]})
