"""Every error that the service raises on purpose.

ServiceError is the root of what clients are told: an HTTP status, a stable code for programs, and a
message for people. `web.problems` turns them into responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

MAX_BODY_BYTES: Final = 64 * 1024

FieldErrors = Mapping[str, Sequence[str]]


class ConfigurationError(Exception):
    """The settings can't be used; `mistakes` has one line for each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class ServiceError(Exception):
    """Root of what clients are told.

    `errors` has messages per field, `retry_after` is in seconds.
    """

    status = 500
    code = "internal_error"
    message = "Something went wrong on our side. Try again later."
    errors: FieldErrors = MappingProxyType({})
    retry_after: int | None = None

    def __init__(self, message: str | None = None) -> None:
        self.message = message or self.message
        super().__init__(self.message)


class Unavailable(ServiceError):
    """Something that requests need is not usable; `cause` is for the log and the operator only."""

    status = 503
    retry_after = 2

    def __init__(self, cause: str) -> None:
        super().__init__()
        self.cause = cause


class DatabaseUnavailable(Unavailable):
    """The database is missing, locked, full, not writable, or of another schema version."""

    code = "database_unavailable"
    message = "The database is unavailable. Try again in a moment."


class KeysUnavailable(Unavailable):
    """There is no usable key to sign or verify tokens with."""

    code = "keys_unavailable"
    message = "Tokens can't be signed or verified now. Try again in a moment."


class HashingBusy(ServiceError):
    """The hash queue is full, or the request has been queued for too long."""

    status, code = 503, "hashing_busy"
    message = "Too many people are signing in right now. Try again in a few seconds."
    retry_after = 5


class TooManyAttempts(ServiceError):
    """A rate limit is reached. Raised alike for names that exist and names that don't."""

    status, code = 429, "too_many_tries"
    message = "Too many attempts. Wait for as long as Retry-After says, then try again."
    retry_after = 1

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many attempts. Try again in {format_duration(seconds)}.")
        self.retry_after = seconds


def format_duration(seconds: int) -> str:
    """Format a time to wait, rounded up."""
    for unit, size in (("hour", 60 * 60), ("minute", 60)):
        if seconds > 2 * size:
            return f"{-(-seconds // size)} {unit}s"
    return f"{seconds} second{'s' if seconds != 1 else ''}"


class NotFound(ServiceError):
    """There is no such thing, or it belongs to another user."""

    status, code = 404, "not_found"
    message = "There is nothing here."


class MalformedBody(ServiceError):
    """The body is not what its content type says."""

    status, code = 400, "malformed_body"
    message = "The body can't be read. Send a JSON object, or a form in UTF-8."


class BodyTooLarge(ServiceError):
    """The body has more than MAX_BODY_BYTES."""

    status, code = 413, "body_too_large"
    message = f"The body is too large: {MAX_BODY_BYTES // 1024} KiB is the limit."


class UnsupportedBody(ServiceError):
    """The content type of the body is not supported."""

    status, code = 415, "unsupported_media_type"
    message = "Send the fields as application/json or application/x-www-form-urlencoded."


class InvalidFields(ServiceError):
    """Fields of the body or query are invalid; the message names each."""

    status, code = 422, "invalid_fields"

    def __init__(self, errors: FieldErrors) -> None:
        self.errors = errors
        super().__init__(" ".join(f"{name}: {' '.join(texts)}" for name, texts in errors.items()))


class CredentialRequired(ServiceError):
    """The username or the password is missing at `POST /auth`."""

    status, code = 422, "credential_required"

    def __init__(self, field: str) -> None:
        super().__init__(f"{field.capitalize()} required.")
        self.errors = {field: [self.message]}


class UsernameTaken(ServiceError):
    """Another user has this name, in some spelling."""

    status, code = 409, "username_taken"
    message = "That name is taken. Choose another."


class LastAdmin(ServiceError):
    """The last enabled admin can't be demoted, disabled or deleted."""

    status, code = 409, "last_admin"
    message = "This is the last enabled admin. Promote another user first."


class WrongPassword(ServiceError):
    """A signed-in user sent a wrong password."""

    status, code = 403, "wrong_password"
    message = "Wrong password."


class SignupClosed(ServiceError):
    """Only operators add users."""

    status, code = 403, "signup_closed"
    message = "Sign-up is closed. Ask the operator of this service for an account."


class NotSignedIn(ServiceError):
    """Root of the errors with a challenge (RFC 6750 section 3): 401, or 403 at `/my-pets`."""

    status = 401
    challenge = "Bearer"


class WrongCredentials(NotSignedIn):
    """Unknown user or wrong password, which must not be told apart."""

    code = "wrong_credentials"
    message = "Incorrect username and/or password."


class TokenMissing(NotSignedIn):
    """The request has no Bearer token."""

    code = "token_missing"
    message = "No token."


class InvalidToken(NotSignedIn):
    """Root of the errors about an access token."""

    code = "token_invalid"
    challenge = 'Bearer error="invalid_token"'


class TokenMalformed(InvalidToken):
    """Not three parts of canonical base64url, or not the required claims."""

    code = "token_malformed"
    message = "Malformed token."


class TokenForged(InvalidToken):
    """Not signed by this service, or for another audience."""

    code = "token_forged"
    message = "Forged token."


class TokenExpired(InvalidToken):
    """The time in `exp` has passed."""

    code = "token_expired"
    message = "Expired token. Sign in again."


class TokenUserDeleted(InvalidToken):
    """The token's user has been deleted."""

    code = "token_user_gone"
    message = "Token of a user who is gone."


class TokenUserDisabled(InvalidToken):
    """The token's user has been disabled."""

    code = "token_user_disabled"
    message = "Token of a disabled user."


class TokenRevoked(InvalidToken):
    """The token's session has ended."""

    code = "token_revoked"
    message = "Revoked token. Sign in again."


class PasswordTooOld(NotSignedIn):
    """The request needs a password given in this session in the last 15 minutes (RFC 9470)."""

    code = "insufficient_user_authentication"
    message = "Give your password again: POST /auth/reauth, then repeat this request."
    max_age = 900
    challenge = f'Bearer error="insufficient_user_authentication", max_age={max_age}'


class RefreshRefused(NotSignedIn):
    """Root of the errors about a refresh token."""

    code = "refresh_token_invalid"


class RefreshTokenInvalid(RefreshRefused):
    """Not a refresh token of this service, or of a session that has been deleted."""

    message = "Invalid refresh token. Sign in again."


class RefreshTokenReused(RefreshRefused):
    """The token was replaced before: somebody else may have it, so the session ends."""

    code = "refresh_token_reused"
    message = "This refresh token was used before, so the session has ended. Sign in again."


class SessionExpired(RefreshRefused):
    """The session was not refreshed in time, or has reached its maximum age."""

    code = "session_expired"
    message = "The session has expired. Sign in again."


class SessionEnded(RefreshRefused):
    """The session was signed out, or ended by the user or an admin."""

    code = "session_ended"
    message = "The session has ended. Sign in again."
