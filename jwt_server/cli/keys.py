"""`flask keys`: the key pairs that sign access tokens."""

from __future__ import annotations

import click
from tabulate import tabulate

from jwt_server import audit
from jwt_server.audit import Action
from jwt_server.cli.base import Group, opened, operator_actor
from jwt_server.errors import DatabaseUnavailable
from jwt_server.security import key_files
from jwt_server.security.key_files import KeyFiles
from jwt_server.web.schemas import iso
from jwt_server.web.service import current_service

top = Group()

EPILOG = """\b
To change keys without signing anybody out:
  keys rotate   # published now, signs after two JWKS_MAX_AGE
  keys prune    # a day later: removes what no token needs

\b
A key was stolen:
  keys revoke KID"""


@top.group(cls=Group, epilog=EPILOG)
def keys() -> None:
    """Rotate the keys that sign access tokens.

    For JWT_ALGORITHM EdDSA, ES256 and RS256; running servers follow at once, without a restart.
    Under HS256 there is a secret instead: swap it with JWT_SECRET_PREVIOUS.
    """


@keys.command("list")
def list_keys() -> None:
    """List the keys, and which of them signs."""
    ring, now = _ring(), current_service().now()
    files = ring.files()
    signing = key_files.signing_file(files, now)
    rows = [
        {
            "kid": file.pair.kid,
            "signs from": iso(file.activation),
            "state": _state(file, signing),
        }
        for file in files
    ]
    click.echo(tabulate(rows, headers="keys", disable_numparse=True))


@keys.command()
def rotate() -> None:
    """Add a key, which takes over later.

    It is published at once, and signs after two JWKS_MAX_AGE, when all who verify have seen it. A
    first key signs at once.
    """
    service = current_service()
    now = service.now()
    new = key_files.rotate(_ring(), now, 2 * service.settings.jwks_max_age)
    when = "now" if new.activation <= now else iso(new.activation)
    click.echo(f"Added: {new.pair.kid} signs from {when} on")
    _note(Action.KEY_ADDED, kid=new.pair.kid)


@keys.command()
@click.argument("kid")
def revoke(kid: str) -> None:
    """Take the stolen key KID away now.

    Every token that it signed is refused from now on. Where it was the one that signs, a new one
    takes over at once; services that verify by themselves find it when they next ask for the keys.
    """
    new = key_files.revoke(_ring(), kid, current_service().now())
    click.echo(f"Revoked: {kid}")
    _note(Action.KEY_REVOKED, kid=kid)
    if new is not None:
        click.echo(f"Added: {new.pair.kid} signs from now on")
        _note(Action.KEY_ADDED, kid=new.pair.kid)


@keys.command()
def prune() -> None:
    """Remove the keys that no live token can need."""
    service = current_service()
    gone = key_files.prune(_ring(), service.now(), service.settings.longest_token_ttl)
    for file in gone:
        click.echo(f"Removed: {file.pair.kid}")
        _note(Action.KEY_REMOVED, kid=file.pair.kid)
    if not gone:
        click.echo("Every key is still needed.")


def _note(action: Action, kid: str) -> None:
    """Write down in the audit log what was done; the keys need no database, so a line where there
    is none.
    """
    try:
        with opened() as db:
            audit.record(db, operator_actor(), action, kid=kid)
    except DatabaseUnavailable as error:
        click.echo(f"This is not in the audit log: {error.cause}", err=True)


def _ring() -> KeyFiles:
    ring = current_service().tokens.keys
    if not isinstance(ring, KeyFiles):
        raise click.ClickException(
            "JWT_ALGORITHM is HS256, which has a secret and no keys: set EdDSA, ES256 or RS256."
        )
    return ring


def _state(file: key_files.KeyFile, signing: key_files.KeyFile) -> str:
    if file == signing:
        return "signs"
    return "will sign" if file.activation > signing.activation else "verifies"
