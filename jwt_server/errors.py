"""Every error that the service raises on purpose: what a client is told has one root, an HTTP
status, a stable code for programs and a sentence for people.

Nothing here knows HTTP beyond the number; `web.problems` turns them into responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

MAX_BODY_BYTES: Final = 64 * 1024
"""The largest body that any route takes."""

FieldErrors = Mapping[str, Sequence[str]]


class ConfigurationError(Exception):
    """The settings can't be used. `mistakes` holds one line for each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class ServiceError(Exception):
    """Root of what a client is told. Subclasses set the three attributes.

    `errors` holds messages per field where there are any; `retry_after` is in seconds.
    """

    status = 500
    code = "internal_error"
    message = "Something went wrong on our side. Try again later."
    errors: FieldErrors = MappingProxyType({})
    retry_after: int | None = None

    def __init__(self, message: str | None = None) -> None:
        self.message = message or self.message
        super().__init__(self.message)


class DatabaseUnavailable(ServiceError):
    """The database is missing, locked, full, not writable, or of another schema version.

    `cause` is for the log and the operator; the client only learns that it may try again.
    """

    status = 503
    code = "database_unavailable"
    message = "The database is unavailable. Try again in a moment."
    retry_after = 2

    def __init__(self, cause: str) -> None:
        super().__init__()
        self.cause = cause


class KeysUnavailable(ServiceError):
    """No token can be signed or verified, for want of a usable key.

    `cause` is for the log and the operator.
    """

    status = 503
    code = "keys_unavailable"
    message = "Tokens can't be signed or verified now. Try again in a moment."
    retry_after = 2

    def __init__(self, cause: str) -> None:
        super().__init__()
        self.cause = cause


class HashingBusy(ServiceError):
    """More passwords are to be checked than this process can check in time."""

    status = 503
    code = "hashing_busy"
    message = "Too many people are signing in right now. Try again in a few seconds."
    retry_after = 5


class TooManyAttempts(ServiceError):
    """Too many tries at passwords, sign-ups or refreshes; it tells not whether a name exists.

    `seconds` is how long to wait.
    """

    status = 429
    code = "too_many_tries"
    message = "Too many tries. Wait for as long as Retry-After says, then try again."
    retry_after = 1

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many tries. Try again in {in_words(seconds)}.")
        self.retry_after = seconds


def in_words(seconds: int) -> str:
    """A time to wait, as people say it; rounded up."""
    for unit, size in (("hour", 60 * 60), ("minute", 60)):
        if seconds > 2 * size:
            return f"{-(-seconds // size)} {unit}s"
    return f"{seconds} second{'s' if seconds != 1 else ''}"


class NotFound(ServiceError):
    """There is no such thing, or it is somebody else's."""

    status = 404
    code = "not_found"
    message = "There is nothing here."


class MalformedBody(ServiceError):
    """The body can't be read as what its content type says it is."""

    status = 400
    code = "malformed_body"
    message = "The body can't be read. Send a JSON object, or a form in UTF-8."


class BodyTooLarge(ServiceError):
    """The body is over MAX_BODY_BYTES."""

    status = 413
    code = "body_too_large"
    message = f"The body is too large: {MAX_BODY_BYTES // 1024} KiB is the limit."


class UnsupportedBody(ServiceError):
    """The body is of a content type that no route takes."""

    status = 415
    code = "unsupported_media_type"
    message = "Send the fields as application/json or application/x-www-form-urlencoded."


class InvalidFields(ServiceError):
    """One or more fields don't hold what they must; the message names each."""

    status = 422
    code = "invalid_fields"

    def __init__(self, errors: FieldErrors) -> None:
        self.errors = errors
        super().__init__(" ".join(f"{name}: {' '.join(texts)}" for name, texts in errors.items()))


class CredentialRequired(ServiceError):
    """`POST /auth` without a username or a password."""

    status = 422
    code = "credential_required"

    def __init__(self, field: str) -> None:
        super().__init__(f"{field.capitalize()} required.")
        self.errors = {field: [self.message]}


class UsernameTaken(ServiceError):
    """Another user has that name, however either is spelled."""

    status = 409
    code = "username_taken"
    message = "That name is taken. Choose another."


class LastAdmin(ServiceError):
    """The last enabled admin stays one: else nobody could make another."""

    status = 409
    code = "last_admin"
    message = "This is the last enabled admin. Make another one first."


class NotSignedIn(ServiceError):
    """Root of the refusals that carry a challenge (RFC 6750 section 3).

    Status 401, or the 403 that the original's clients expect where a route says so.
    """

    status = 401
    challenge = "Bearer"


class WrongCredentials(NotSignedIn):
    """Unknown user or wrong password: one answer, so that neither can be told apart."""

    code = "wrong_credentials"
    message = "Incorrect username and/or password."


class TokenMissing(NotSignedIn):
    """No Bearer token came with the request."""

    code = "token_missing"
    message = "No token."


class InvalidToken(NotSignedIn):
    """Root of the refusals of a token that did come."""

    code = "token_invalid"
    challenge = 'Bearer error="invalid_token"'


class TokenMalformed(InvalidToken):
    """Not three parts of canonical base64url, or not the claims that it must hold."""

    code = "token_malformed"
    message = "Malformed token."


class TokenForged(InvalidToken):
    """Not signed by this service, or not for it."""

    code = "token_forged"
    message = "Forged token."


class TokenExpired(InvalidToken):
    """Its time has passed."""

    code = "token_expired"
    message = "Expired token. Sign in again."


class TokenOfNobody(InvalidToken):
    """The user it was made for has been deleted."""

    code = "token_user_gone"
    message = "Token of a user who is gone."


class TokenOfDisabled(InvalidToken):
    """The user it was made for has been shut out."""

    code = "token_user_disabled"
    message = "Token of a disabled user."


class TokenRevoked(InvalidToken):
    """Its session has ended: signed out, or ended by the user, an admin, or a theft."""

    code = "token_revoked"
    message = "Revoked token. Sign in again."


class PasswordTooOld(NotSignedIn):
    """What was asked for needs a password given a short while ago (RFC 9470 section 3)."""

    code = "insufficient_user_authentication"
    message = "Give your password again: POST /auth/reauth, then repeat this request."
    max_age = 900
    challenge = f'Bearer error="insufficient_user_authentication", max_age={max_age}'


class RefreshRefused(NotSignedIn):
    """Root of the refusals of a refresh token."""

    code = "refresh_token_invalid"


class RefreshTokenInvalid(RefreshRefused):
    """Not a refresh token of this service, or of a session that is long over."""

    message = "This is no refresh token of ours. Sign in again."


class RefreshTokenReused(RefreshRefused):
    """The token was replaced a while ago, so two have it: the session ends for both."""

    code = "refresh_token_reused"
    message = "This refresh token was used before, so the session has ended. Sign in again."


class SessionExpired(RefreshRefused):
    """The session was not refreshed in time, or has reached its greatest age."""

    code = "session_expired"
    message = "The session has expired. Sign in again."


class SessionEnded(RefreshRefused):
    """The session was signed out, or ended by the user, an admin, or a theft."""

    code = "session_ended"
    message = "The session has ended. Sign in again."


class WrongPassword(ServiceError):
    """A signed-in user's password is not the one that was sent along."""

    status = 403
    code = "wrong_password"
    message = "Wrong password."


class SignupClosed(ServiceError):
    """New users are made by an admin here."""

    status = 403
    code = "signup_closed"
    message = "Sign-up is closed here. Ask the people who run this service for an account."
