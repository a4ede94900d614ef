"""What `make run` does: make what is missing below instance/, then become gunicorn.

Only here are secrets made up; a server started any other way must be told them, or finds
those that were made here.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from pathlib import Path

from environs import Env

from jwt_server import sqlite
from jwt_server.accounts import demo
from jwt_server.config import DEFAULT_DATABASE, INSTANCE, SECRETS, Settings, load_settings
from jwt_server.database import Database
from jwt_server.errors import ConfigurationError, DatabaseUnavailable

SIGN_IN = f"""\

Sign in, and read the pets (paste both into another terminal):

  token=$(curl -sS -d 'username={demo.USERNAME}&password={demo.PASSWORD}' http://{{address}}/auth)
  curl -sS -H "Authorization: Bearer $token" http://{{address}}/my-pets; echo

Ctrl+C stops the server.
"""


def main() -> None:
    """Prepare, say what can be done now, and start the server in this process's place."""
    try:
        make_secrets()
        settings = load_settings()
        prepare_database(settings)
    except (ConfigurationError, OSError) as error:
        raise SystemExit(str(error)) from error
    except DatabaseUnavailable as error:
        raise SystemExit(error.cause) from error
    sys.stdout.flush()
    os.execv(  # noqa: S606 - no shell is wanted
        sys.executable, [sys.executable, "-m", "gunicorn", "wsgi:app"]
    )


def make_secrets() -> None:
    """Write each secret that is not set anywhere to a file of its own, once.

    Directory 0700, files 0600. A file appears whole or not at all, whenever we are killed.
    """
    env = Env()
    env.read_env(Path(".env"), recurse=False)
    INSTANCE.mkdir(mode=0o700, exist_ok=True)
    for name in SECRETS:
        path = INSTANCE / name.lower()
        told = env.str(name, None) is not None or env.str(f"{name}_FILE", None) is not None
        if told or path.exists():
            continue
        unfinished = path.with_suffix(f".{os.getpid()}")
        with os.fdopen(
            os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w"
        ) as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        print(f"Made {path}")


def prepare_database(settings: Settings) -> None:
    """Create the default database where there is none, with demo data if only this machine
    can connect; then tell how to sign in, or warn of demo data that others could use.
    """
    database = Database(settings.database)
    if settings.database == DEFAULT_DATABASE.absolute() and sqlite.create(settings.database):
        print(f"Made {DEFAULT_DATABASE}")
        if settings.loopback:
            with database.connection() as db:
                demo.add_demo_user(db, settings.salt_rounds, int(time.time()))
    with database.connection() as db:
        demo_is_open = demo.demo_user_can_sign_in(db, settings.salt_rounds)
    if demo_is_open and settings.loopback:
        print(SIGN_IN.format(address=settings.bind))
    elif demo_is_open:
        print(
            f"WARNING: others can reach {settings.bind}, and anyone can sign in there as"
            f" {demo.USERNAME} with the demo password.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
