"""`flask doctor`: check whether the service would start, and what is unsafe."""

import json

import click

from jwt_server.cli.base import json_option, top
from jwt_server.doctor import UNSAFE, run_checks
from jwt_server.web.service import current_service


@top.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Check whether the service would start, and what is unsafe.

    Example: doctor && systemctl restart jwt-server

    Checks the database, users, secrets, file modes, disk, audit log and settings. Run it as
    the service's user, in its folder. Exit code 1: something is UNSAFE. Wrong settings or keys end
    it, like every command, with 3.
    """
    levels = set()
    for check, (level, text, advice) in run_checks(current_service()):
        levels.add(level)
        if as_json:
            click.echo(json.dumps({"check": check, "level": level, "what": text, "advice": advice}))
        else:
            click.echo(f"{level:<8} {check:<9} {text}".rstrip())
            if advice:
                click.echo(f"{'':<18} {advice}")
    if UNSAFE in levels:
        raise SystemExit(1)
