"""`flask reload`: new code and settings for the service that runs."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

import click

from jwt_server.cli.base import Group
from jwt_server.gunicorn import running
from jwt_server.gunicorn.reload import BOOT_SECONDS, TRIAL_SECONDS
from jwt_server.gunicorn.running import Note
from jwt_server.web.service import current_service

PATIENCE: Final = TRIAL_SECONDS + BOOT_SECONDS + 10
"""For so many seconds it is waited; it takes one or two."""

top = Group()


@top.command()
def reload() -> None:
    """Have the service that runs take new code and settings.

    No request is lost meanwhile. The new code is tried first, in a process of its own: where it
    would not start, the service goes on as it was, and this ends with 1 and the reason. Addresses,
    ports and the database stay as they are until a restart, and so does what is in the service's
    environment itself rather than in .env.
    """
    database = current_service().settings.database
    before = _find(database)
    os.kill(before.pid, signal.SIGHUP)
    after = _wait(database, before)
    if after.refusal:
        raise click.ClickException(f"{after.refusal}\nThe service goes on as it was.")
    click.echo(f"Reloaded: process {after.pid} runs the code and the settings that are there now.")


def _find(database: Path) -> Note:
    note = running.find(database)
    if note is None:
        raise click.ClickException(
            f"No service runs with {database}. One whose DATABASE_URL has changed wants a restart."
        )
    return note


def _wait(database: Path, before: Note) -> Note:
    """The note, once there has been one more reload."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(0.1)
        note = running.find(database)
        if note is None:
            raise click.ClickException("The service has stopped: see its log for the reason.")
        if note.reloads > before.reloads:
            return note
    raise click.ClickException("The service does not say what has become of it: see its log.")
