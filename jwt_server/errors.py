"""Every error that the service raises on purpose; `web.problems` turns them into responses."""

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
    """Root of what clients are told: an HTTP status, a stable code for programs, and a message.

    `errors` has messages per field, `headers` are those of the response.
    """

    status = 500
    code = "internal_error"
    message = "Something went wrong on our side. Try again later."
    errors: FieldErrors = MappingProxyType({})
    headers: Sequence[tuple[str, str]] = ()

    def __init_subclass__(cls, *, status: int | None = None, code: str | None = None) -> None:
        cls.status, cls.code = status or cls.status, code or cls.code

    def __init__(self, message: str | None = None) -> None:
        self.message = message or self.message
        super().__init__(self.message)


class Unavailable(ServiceError, status=503):
    """Something that requests need is not usable; `cause`, its `str`, is for the operator only."""

    headers = (("Retry-After", "2"),)

    def __init__(self, cause: str) -> None:
        super().__init__()
        self.args, self.cause = (cause,), cause


class DatabaseUnavailable(Unavailable, code="database_unavailable"):
    """The database is missing, locked, full, not writable, or of another schema version."""

    message = "The database is unavailable. Try again in a moment."


class TransactionConflict(DatabaseUnavailable):
    """Another transaction came between: nothing was written, and the same again may succeed."""


class KeysUnavailable(Unavailable, code="keys_unavailable"):
    """There is no usable key to sign or verify tokens with."""

    message = "Tokens can't be signed or verified now. Try again in a moment."


class HashingBusy(ServiceError, status=503, code="hashing_busy"):
    """The hash queue is full, or the request has been queued for too long."""

    message = "Too many people are signing in right now. Try again in a few seconds."
    headers = (("Retry-After", "5"),)


class TooManyAttempts(ServiceError, status=429, code="too_many_tries"):
    """A rate limit is reached; alike whether the name exists. An instance says how long to wait."""

    message = "Too many attempts. Wait for as long as Retry-After says, then try again."
    headers = (("Retry-After", "1"),)  # both stand in the API description only

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many attempts. Try again in {format_duration(seconds)}.")
        self.headers = (("Retry-After", str(seconds)),)


def format_duration(seconds: int) -> str:
    """Format a time to wait, rounded up."""
    for unit, size in (("hour", 60 * 60), ("minute", 60)):
        if seconds > 2 * size:
            return f"{-(-seconds // size)} {unit}s"
    return f"{seconds} second{'s' if seconds != 1 else ''}"


class NotFound(ServiceError, status=404, code="not_found"):
    """There is no such thing, or it belongs to another user."""

    message = "There is nothing here."


class MalformedBody(ServiceError, status=400, code="malformed_body"):
    """The body is not what its content type says."""

    message = "The body can't be read. Send a JSON object, or a form in UTF-8."


class BodyTooLarge(ServiceError, status=413, code="body_too_large"):
    """The body has more than MAX_BODY_BYTES."""

    message = f"The body is too large: {MAX_BODY_BYTES // 1024} KiB is the limit."


class UnsupportedBody(ServiceError, status=415, code="unsupported_media_type"):
    """The content type of the body, its charset or its content coding is not supported."""

    message = "Send the fields as application/json or application/x-www-form-urlencoded in UTF-8."


class EncodedBody(UnsupportedBody):
    """The body has a content coding (RFC 9110 section 15.5.16)."""

    message = "Send the body without a Content-Encoding."
    headers = (("Accept-Encoding", "identity"),)


class InvalidFields(ServiceError, status=422, code="invalid_fields"):
    """Fields of the body or query are invalid; the message names each."""

    def __init__(self, errors: FieldErrors) -> None:
        self.errors = errors
        super().__init__(" ".join(f"{name}: {' '.join(texts)}" for name, texts in errors.items()))


class CredentialRequired(ServiceError, status=422, code="credential_required"):
    """The username or the password is missing at `POST /auth`."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field.capitalize()} required.")
        self.errors = {field: [self.message]}


class UnsupportedGrantType(ServiceError, status=400, code="unsupported_grant_type"):
    """The grant type at `POST /auth/token` is not one of those supported."""

    message = "Send password or refresh_token as grant_type."


class UsernameTaken(ServiceError, status=409, code="username_taken"):
    """Another user has this name, in some spelling."""

    message = "That name is taken. Choose another."


class LastAdmin(ServiceError, status=409, code="last_admin"):
    """The last enabled admin can't be demoted, disabled or deleted."""

    message = "No other enabled admin has chosen a password. Promote a user who has one first."


class TooManyPets(ServiceError, status=409, code="too_many_pets"):
    """The user has as many pets as one may have."""

    message = "You have too many pets. Delete one first."


class WrongPassword(ServiceError, status=403, code="wrong_password"):
    """A signed-in user sent a wrong password."""

    message = "Wrong password."


class AdminRequired(ServiceError, status=403, code="admin_required"):
    """The user is not an admin."""

    message = "Only admins may do this."


class PasswordChangeRequired(ServiceError, status=403, code="password_change_required"):
    """The session was opened with a temporary password."""

    message = "Your password is temporary. Choose another one."


class SignupClosed(ServiceError, status=403, code="signup_closed"):
    """Only operators add users."""

    message = "Sign-up is closed. Ask the operator of this service for an account."


class NotSignedIn(ServiceError, status=401):
    """Root of the errors with a challenge (RFC 6750 section 3): 401, or 403 at `/my-pets`."""

    headers = (("WWW-Authenticate", "Bearer"),)


class WrongCredentials(NotSignedIn, code="wrong_credentials"):
    """Unknown user or wrong password, which must not be told apart."""

    message = "Incorrect username and/or password."


class TokenMissing(NotSignedIn, code="token_missing"):
    """The request has no Bearer token."""

    message = "No token."


class InvalidToken(NotSignedIn):
    """Root of the errors about an access token."""

    headers = (("WWW-Authenticate", 'Bearer error="invalid_token"'),)


class TokenMalformed(InvalidToken, code="token_malformed"):
    """Not three parts of canonical base64url, or not the required claims."""

    message = "Malformed token."


class TokenForged(InvalidToken, code="token_forged"):
    """Not signed by this service, or for another audience."""

    message = "Forged token."


class TokenExpired(InvalidToken, code="token_expired"):
    """The time in `exp` has passed."""

    message = "Expired token. Sign in again."


class TokenUserDeleted(InvalidToken, code="token_user_gone"):
    """The token's user has been deleted."""

    message = "Token of a user who is gone."


class TokenUserDisabled(InvalidToken, code="token_user_disabled"):
    """The token's user has been disabled."""

    message = "Token of a disabled user."


class TokenRevoked(InvalidToken, code="token_revoked"):
    """The token's session has ended."""

    message = "Revoked token. Sign in again."


class PasswordTooOld(NotSignedIn, code="insufficient_user_authentication"):
    """The request needs a password given in this session in the last 15 minutes (RFC 9470)."""

    message = "Give your password again: POST /auth/reauth, then repeat this request."
    max_age = 900
    headers = (
        ("WWW-Authenticate", f'Bearer error="insufficient_user_authentication", max_age={max_age}'),
    )


class RefreshTokenInvalid(NotSignedIn, code="refresh_token_invalid"):
    """Not one of this service, of a deleted session, or just replaced by a client elsewhere."""

    message = "Invalid refresh token. Sign in again."


class RefreshTokenReused(NotSignedIn, code="refresh_token_reused"):
    """The token was replaced before: somebody else may have it, so the session ends."""

    message = "This refresh token was used before, so the session has ended. Sign in again."


class SessionExpired(NotSignedIn, code="session_expired"):
    """The session was not refreshed in time, or has reached its maximum age."""

    message = "The session has expired. Sign in again."


class SessionEnded(NotSignedIn, code="session_ended"):
    """The session was signed out, or ended by the user or an admin."""

    message = "The session has ended. Sign in again."
