"""`flask copy-to`: move from SQLite to PostgreSQL."""

import os
import sys
from typing import Any, Final

import click

from jwt_server import backup, copying
from jwt_server.cli.base import Refusal, echo, print_rows, sqlite_file, top
from jwt_server.database import open_engine
from jwt_server.errors import ConfigurationError

TARGET_DATABASE_URL: Final = "TARGET_DATABASE_URL"
POSTGRESQL: Final = ("postgresql://", "postgres://")

DUMP: Final = "  pg_dump --format=custom --dbname={} | pg_restore --no-owner --dbname=TARGET"

VISIBLE: Final = """\
The URL has a password, which other users of this machine can see while the command runs.
Leave it out, and put it into PGPASSWORD or ~/.pgpass; or put the URL into TARGET_DATABASE_URL."""

IN_USE: Final = "WARNING: {} is in use. What the service writes from now on is not copied."

NEXT_STEPS: Final = """
Next steps:
  1. If the service was not stopped before, its newest writes are missing: stop it, make an empty
     database, and copy again.
  2. On each host set DATABASE_URL to the new database, and keep the secrets and key pairs.
  3. Run `doctor` there, and start the service."""


@top.command("copy-to")
@click.argument("url", required=False)
def copy_to(url: str | None) -> None:
    """Copy the SQLite database into an empty PostgreSQL database.

    Example: copy-to 'postgresql://jwt_server@db.example.com/jwt_server?sslmode=verify-full'

    Stop the service first. Missing tables are created. All rows are copied as they are at one
    moment, read again, and compared; otherwise the target stays empty. Ids, passwords, sessions
    and tokens stay valid.

    The password comes from PGPASSWORD or ~/.pgpass. Instead of an argument, the URL may also be
    in TARGET_DATABASE_URL, and may have a password there.
    """
    source = sqlite_file(DUMP)
    target = _target(url)
    if backup.is_in_use(source):
        echo(IN_USE.format(source), err=True)
    counts = copying.copy(source, target, _show_progress)
    rows = [{"table": table, "rows": n, "checksum": "verified"} for table, n in counts.items()]
    print_rows(rows, as_json=False)
    click.echo()
    echo(f"Copied: {source} to {target.name}")
    click.echo(NEXT_STEPS)


def _target(url: str | None) -> Any:
    """Return the engine of the target."""
    where = url or os.environ.get(TARGET_DATABASE_URL, "")
    if not where.startswith(POSTGRESQL):
        raise click.UsageError("Which database? Name it: postgresql://USER@HOST/DATABASE")
    try:
        engine: Any = open_engine(where)
    except ConfigurationError as error:
        raise Refusal(str(error).replace("DATABASE_URL", "URL")) from error
    if url and engine.secrets & engine.parameters.keys():
        raise Refusal(VISIBLE)
    return engine


def _show_progress(label: str, rows: int, batches: copying.Batches) -> copying.Batches:
    """Show a progress bar on a terminal, else the label."""
    with click.progressbar(length=rows, label=f"{label:<25}", file=sys.stderr) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))
