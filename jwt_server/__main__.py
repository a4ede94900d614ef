"""What `make run` does, `python -m jwt_server`: make what is missing below instance/, then become
gunicorn. The command `jwt-server` of a wheel just becomes gunicorn.

Only here are secrets made up; a server started any other way must be told them, or finds
those that were made here.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from jwt_server import sqlite
from jwt_server.config import (
    DEFAULT_DATABASE,
    INSTANCE,
    SECRETS,
    Settings,
    generated_secret,
    load_settings,
    read_environment,
)
from jwt_server.database import Connection, Database
from jwt_server.errors import ConfigurationError, DatabaseUnavailable, KeysUnavailable
from jwt_server.files import sync
from jwt_server.security import key_files
from jwt_server.security.key_files import KeyFolder
from jwt_server.users import demo
from jwt_server.web.service import load_keys

DRAFT = ".draft-"

# By its path, as gunicorn finds it in a checkout.
CONFIGURATION = Path(__file__).parent / "gunicorn" / "conf.py"

SIGN_IN = f"""\

Sign in, and read the pets (paste both into another terminal):

  token=$(curl -sS -d 'username={demo.USERNAME}&password={demo.PASSWORD}' http://{{address}}/auth)
  curl -sS -H "Authorization: Bearer $token" http://{{address}}/my-pets; echo

Ctrl+C stops the server.
"""


NO_DEMO = """
Nobody can sign in with the demo password; `make seed` creates the demo user.
"""


def main() -> None:
    """Prepare, say what can be done now, and start the server in this process's place."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)  # so that drafts are cleared away
    try:
        make_secrets()
        settings = load_settings()
        make_key(settings)
        make_database(settings)
        tell_how_to_sign_in(settings)
    except (ConfigurationError, OSError) as error:
        raise SystemExit(str(error)) from error
    except (DatabaseUnavailable, KeysUnavailable) as error:
        raise SystemExit(error.cause) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    sys.stdout.flush()
    serve()


def serve() -> NoReturn:
    """Become gunicorn with the house's configuration; what was typed behind goes to gunicorn."""
    command = [sys.executable, "-m", "gunicorn", "-c", str(CONFIGURATION), *sys.argv[1:]]
    os.execv(sys.executable, [*command, "jwt_server.wsgi:app"])  # noqa: S606 - no shell is wanted


def _leave(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def make_secrets() -> None:
    """Write each secret that is not set anywhere to a file of its own, once.

    The directory gets mode 0700, the files 0600.
    """
    env = read_environment()
    INSTANCE.mkdir(exist_ok=True)
    INSTANCE.chmod(0o700)
    clear_away_drafts()
    for name in SECRETS:
        path = generated_secret(name)
        told = env.str(name, None) is not None or env.str(f"{name}_FILE", None) is not None
        if told or path.exists():
            continue
        with made_once(path) as draft:
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(48))


def make_key(settings: Settings) -> None:
    """Make the first key pair, where the algorithm wants one and there is none."""
    keys = load_keys(settings)
    if isinstance(keys, KeyFolder) and not (keys.path.exists() and keys.names()):
        print(f"Made {key_files.rotate(keys, int(time.time()), lead=0).path}")


def make_database(settings: Settings) -> None:
    """Make the default database where there is none, with the demo data in it if only this
    machine can connect.
    """
    if settings.database != DEFAULT_DATABASE.absolute() or settings.database.exists():
        return
    with made_once(DEFAULT_DATABASE) as draft:
        sqlite.create(draft.absolute())
        if settings.loopback:
            with opened(draft.absolute()) as db:
                demo.add_demo_user(db, settings.salt_rounds, int(time.time()))


def tell_how_to_sign_in(settings: Settings) -> None:
    """Print what to paste, or warn of a demo user that others could use."""
    with opened(settings.database) as db:
        demo_is_open = demo.demo_user_can_sign_in(db, settings.salt_rounds)
    if settings.loopback:
        print(SIGN_IN.format(address=settings.bind) if demo_is_open else NO_DEMO)
    elif demo_is_open:
        print(
            f"WARNING: others can reach {settings.bind}, and anyone can sign in there as"
            f" {demo.USERNAME} with the demo password.",
            file=sys.stderr,
        )


def clear_away_drafts() -> None:
    """Remove what a killed run left; an hour old, so that it is not one under way."""
    for draft in INSTANCE.glob(f"{DRAFT}*"):
        with suppress(FileNotFoundError):  # another run has cleared it away
            if draft.stat().st_mtime < time.time() - 3600:
                shutil.rmtree(draft)


@contextmanager
def opened(path: Path) -> Iterator[Connection]:
    """A connection to a database, and the end of it, which leaves one file and no log beside it."""
    with closing(Database(path)) as database, database.connection() as db:
        yield db


@contextmanager
def made_once(path: Path) -> Iterator[Path]:
    """Give a place for a draft that then appears at `path`, unless there is something already.

    It appears whole or not at all, whenever we are killed, and one of two processes wins.
    """
    with TemporaryDirectory(dir=path.parent, prefix=DRAFT) as folder:
        draft = Path(folder) / path.name
        yield draft
        sync(draft)
        with suppress(FileExistsError):
            path.hardlink_to(draft)
            print(f"Made {path}")


if __name__ == "__main__":
    main()
