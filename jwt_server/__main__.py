"""`python -m jwt_server`, which is `make run`: create what is missing under instance/, then run
gunicorn. The command `jwt-server` of a wheel only runs gunicorn.

Nothing else generates secrets.
"""

import os
import secrets
import signal
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NoReturn

from jwt_server import config, listeners, sqlite
from jwt_server.audit import Actor
from jwt_server.database import Connection, Database
from jwt_server.errors import ConfigurationError, Unavailable
from jwt_server.files import write_atomically
from jwt_server.security import key_files, passwords, policy
from jwt_server.users import users

SIGN_IN = f"""\

Sign in, and read the pets (paste both into another terminal):

  token=$(curl -sS -d 'username={users.DEMO_USERNAME}&password={users.DEMO_PASSWORD}' http://{{address}}/auth)
  curl -sS -H "Authorization: Bearer $token" http://{{address}}/my-pets; echo

Ctrl+C stops the server.
"""

FIRST_ADMIN = "admin"

ADMIN = f"""

  Admin panel  {{panel}}
  Username     {FIRST_ADMIN}
  Password     {{password}}   (shown only now)"""

NO_DEMO = "\nNo one can sign in with the demo password; `make seed` creates the demo user.\n"


def main() -> None:
    """Create what is missing, print how to sign in, and run the server."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # SystemExit deletes temporary files.
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        create_secrets()
        settings = config.load_settings()
        listeners.require_listeners(settings)
        create_key(settings)
        create_database(settings)
        print_how_to_sign_in(settings)
        give_up_taken_metrics_port(settings)
    except (ConfigurationError, Unavailable, OSError) as error:
        raise SystemExit(str(error)) from error
    sys.stdout.flush()
    serve()


def serve() -> NoReturn:
    """Replace this process by gunicorn, with the arguments of the command line added."""
    config_module = "python:jwt_server.gunicorn.conf"
    command = [sys.executable, "-m", "gunicorn", "-c", config_module, *sys.argv[1:]]
    os.execv(sys.executable, [*command, "jwt_server.wsgi:app"])  # noqa: S606 - no shell is wanted


def create_secrets() -> None:
    """Generate each secret that is not set, once, into a file of mode 0600 in a folder of 0700."""
    config.read_env_file()
    config.INSTANCE.mkdir(exist_ok=True)
    config.INSTANCE.chmod(0o700)
    for name, path in config.SECRETS.items():
        if path.exists() or os.environ.keys() & {name, f"{name}_FILE"}:
            continue
        with suppress(FileExistsError):  # another process was faster
            write_atomically(path, secrets.token_urlsafe(48).encode(), replace=False)
            print(f"Created {path}")


def create_key(settings: config.Settings) -> None:
    """Create the first key pair if the algorithm needs one."""
    keys = key_files.load_keys(settings)
    if isinstance(keys, key_files.KeyFolder) and not (keys.path.exists() and keys.names()):
        print(f"Created {key_files.rotate(keys, int(time.time()), lead=0).path}")


def create_database(settings: config.Settings) -> None:
    """Create the default database if missing, with the demo user if only this machine connects.

    At a terminal, offer the first admin.
    """
    admin = ""

    def fill(path: Path) -> None:
        nonlocal admin
        with closing(Database(path)) as database, database.connection() as db:
            if listeners.is_loopback(settings.host):
                users.add_demo_user(db, settings.salt_rounds, int(time.time()))
            admin = add_first_admin(db, settings) if wants_admin() else ""

    path = config.DEFAULT_DATABASE.absolute()
    if settings.database == path and not path.exists() and sqlite.create(path, fill):
        print(f"Created {config.DEFAULT_DATABASE}{admin}")


def wants_admin() -> bool:
    """Ask for the first admin; without a terminal, there is none."""
    if not (os.isatty(0) and os.isatty(1)):
        return False
    try:
        answer = input(f"Create the first admin, `{FIRST_ADMIN}`, for the admin panel? [Y/n] ")
    except EOFError:
        answer = "n"
    return answer.strip().lower() in ("", "y", "yes")


def add_first_admin(db: Connection, settings: config.Settings) -> str:
    """Create the first admin with a random password; return what to print of it."""
    password = policy.generate_password(settings.password_min_length)
    hashed = passwords.hash_password(password, settings.salt_rounds)
    actor = Actor(None, None, int(time.time()))
    users.add(db, FIRST_ADMIN, hashed, admin=True, actor=actor)
    panel = f"{settings.script_name}/admin/"
    if listeners.is_loopback(settings.host):
        panel = f"http://{listeners.format_address(settings.host, settings.port)}{panel}"
    return ADMIN.format(password=password, panel=panel)


def print_how_to_sign_in(settings: config.Settings) -> None:
    """Print what to paste, or warn about a demo user that others can use."""
    with closing(Database(settings.database)) as database, database.connection() as db:
        demo_user = users.demo_user_can_sign_in(db, settings.salt_rounds)
    address = listeners.format_address(settings.host, settings.port)
    if listeners.is_loopback(settings.host):
        print(SIGN_IN.format(address=address) if demo_user else NO_DEMO)
    elif demo_user:
        print(
            f"WARNING: Others can reach {address}, and anyone can sign in there as"
            f" {users.DEMO_USERNAME} with the demo password.",
            file=sys.stderr,
        )


def give_up_taken_metrics_port(settings: config.Settings) -> None:
    """Turn the metrics off, with a warning, if their port can't be listened on."""
    try:
        listeners.require_port(settings.metrics_host, settings.metrics_port, prefix="METRICS_")
    except ConfigurationError as error:
        print(f"WARNING: No metrics. {error}", file=sys.stderr)
        os.environ["METRICS_PORT"] = "0"


if __name__ == "__main__":
    main()
