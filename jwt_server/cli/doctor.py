"""`flask doctor`: what an operator should know, found before others find it."""

from __future__ import annotations

import json
from contextlib import ExitStack

import click

from jwt_server import doctor as found_by
from jwt_server import sqlite
from jwt_server.cli.base import Group
from jwt_server.doctor import Finding, Level, Patient
from jwt_server.errors import DatabaseUnavailable
from jwt_server.web.service import current_service

top = Group()


@top.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def doctor(*, as_json: bool) -> None:
    """Look for what is unsafe.

    The database, the demo user, secrets, file modes, disk, clock, proxies, origins, SQLite: what
    the service can't refuse at its start. Run it as the service's user, in its folder, after each
    change. Ends with 1 where something is UNSAFE. Wrong settings end it before, with 3, as they do
    any command.
    """
    levels = set()
    with ExitStack() as stack:
        for check, finding in found_by.examine(_patient(stack)):
            levels.add(finding.level)
            click.echo(_object(check, finding) if as_json else _lines(check, finding))
    if Level.UNSAFE in levels:
        raise SystemExit(1)


def _patient(stack: ExitStack) -> Patient:
    service = current_service()
    settings, now = service.settings, service.now()
    try:
        sqlite.check(settings.database)
        db = stack.enter_context(service.database.connection())
    except DatabaseUnavailable as error:
        return Patient(settings, None, error.cause, now)
    return Patient(settings, db, "", now)


def _object(check: str, finding: Finding) -> str:
    return json.dumps({"check": check, **vars(finding)})


def _lines(check: str, finding: Finding) -> str:
    line = f"{finding.level:<8} {check:<10} {finding.what}".rstrip()
    return f"{line}\n{'':<19} {finding.advice}" if finding.advice else line
