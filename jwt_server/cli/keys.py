"""`flask keys`: the key pairs that sign access tokens."""

import click

from jwt_server import audit
from jwt_server.cli.base import Group, Refusal, echo, opened, operator_actor, print_rows, top
from jwt_server.errors import DatabaseUnavailable
from jwt_server.security import key_files, keys
from jwt_server.web.schemas import iso
from jwt_server.web.service import current_service

EXAMPLES = """\b
Change keys without signing anyone out:
  keys rotate   # published now, signs after two JWKS_MAX_AGE
  keys prune    # a day later: deletes what no token needs

\b
Replace a stolen key:
  keys revoke KID"""


@top.group("keys", cls=Group, epilog=EXAMPLES)
def commands() -> None:
    """Manage the keys that sign access tokens.

    For JWT_ALGORITHM EdDSA, ES256 and RS256; running servers follow at once, without a restart.
    HS256 has a secret instead: change it with JWT_SECRET_PREVIOUS.
    """


@commands.command("list")
@click.option("--pem", is_flag=True, help="Print the public keys as PEM, for HAProxy and others.")
def list_keys(*, pem: bool) -> None:
    """List the keys, and which of them signs.

    Example: keys list
    """
    files = _folder().files()
    if pem:
        for each in files:
            click.echo(f"# {each.key.kid}\n{keys.dump_public(each.key)}", nl=False)
        return
    signing = key_files.signing_file(files, current_service().now())
    rows = (
        {
            "kid": each.key.kid,
            "signs from": iso(each.activation),
            "state": key_files.state_of(each, signing),
        }
        for each in files
    )
    print_rows(rows, as_json=False)


@commands.command()
def rotate() -> None:
    """Add a key that takes over later.

    Example: keys rotate

    It is published now, and signs after two JWKS_MAX_AGE, when every verifier has seen it. The
    first key signs at once.
    """
    service = current_service()
    new = key_files.rotate(_folder(), service.now(), 2 * service.settings.jwks_max_age)
    when = "now" if new.activation <= service.now() else iso(new.activation)
    _report(f"Added: {new.key.kid} signs from {when} on", audit.Action.KEY_ADDED, new.key.kid)


@commands.command()
@click.argument("kid")
def revoke(kid: str) -> None:
    """Delete the stolen key KID now.

    Example: keys revoke WNc5rUqUxhBMKwxLhVcNqmYNDIHDnrt6R0thWHS4xXk

    Every token that it signed is refused from now on. If it is the one that signs, a new key takes
    over at once; other verifiers learn of it when they next fetch the keys.
    """
    new = key_files.revoke(_folder(), kid, current_service().now())
    _report(f"Revoked: {kid}", audit.Action.KEY_REVOKED, kid)
    if new is not None:
        _report(f"Added: {new.key.kid} signs from now on", audit.Action.KEY_ADDED, new.key.kid)


@commands.command()
def prune() -> None:
    """Delete the keys that no valid token needs.

    Example: keys prune
    """
    service = current_service()
    longest_ttl = max(service.settings.access_token_ttl, service.settings.text_token_ttl)
    deleted = key_files.prune(_folder(), service.now(), longest_ttl)
    for file in deleted:
        _report(f"Removed: {file.key.kid}", audit.Action.KEY_REMOVED, file.key.kid)
    if not deleted:
        echo("Every key is still needed.")


def _report(text: str, action: audit.Action, kid: str) -> None:
    """Print what was done, and record it in the audit log, if there is a database."""
    echo(text)
    try:
        with opened() as db:
            audit.record(db, operator_actor(), action, kid=kid)
    except DatabaseUnavailable as error:
        echo(f"This is not in the audit log: {error.cause}", err=True)


def _folder() -> key_files.KeyFolder:
    folder = current_service().tokens.keys
    if not isinstance(folder, key_files.KeyFolder):
        raise Refusal(
            "JWT_ALGORITHM is HS256, which has a secret and no keys: set EdDSA, ES256 or RS256."
        )
    return folder
