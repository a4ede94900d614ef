"""PostgreSQL: connections with limits of time, and what its errors mean.

A transaction is READ COMMITTED, and locks the rows on which its decision depends, or the lock of
their kind (`lock` in the queries), before it reads them; docs/architecture.md has a list. What can
conflict all the same fails, and is run again as a whole.
"""

import os
import re
import select
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from shlex import quote
from threading import Lock
from time import monotonic
from typing import Any, Final

import psycopg
from aiosql.adapters.pyformat import PyFormatAdapter
from psycopg.abc import RV, PQGen
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from jwt_server.errors import ConfigurationError, DatabaseUnavailable, TransactionConflict
from jwt_server.files import bundled
from jwt_server.sqlite import SCHEMA_VERSION, Row

DEFAULT_POOL: Final = "8"
POOL: Final = re.compile("[1-9][0-9]{0,2}", re.ASCII)

PREPARE_AFTER: Final = 5
"""How often a statement is sent before the server keeps it."""

PREPARED: Final = ("auto", "true", "false")
"""Values of `prepared_statements`: auto keeps statements on the server if no pooler is between."""

NOT_PREPARED: Final = {
    "26000",  # invalid_sql_statement_name
    "42P05",  # duplicate_prepared_statement
}
"""Errors behind a pooler that mixes up its clients' prepared statements."""

TIMEOUTS: Final = {
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
}
"""Of each session, which the server enforces: no request waits longer, no lock stays."""

ANSWER_SECONDS: Final = 6
"""After which a statement is cancelled from here. The server's limits don't end a commit that waits
for a standby, and a server that hangs ends nothing.
"""

CANCEL_SECONDS: Final = 1
"""For the server to take the request to cancel, and to answer it."""

DEFAULTS: Final = {
    "application_name": "jwt-server",
    "connect_timeout": "2",  # seconds, for each host
    "tcp_user_timeout": "5000",  # ms until data that nobody acknowledges means a dead server
    "keepalives_idle": "5",  # seconds, and likewise for a server from which nothing comes
    "keepalives_interval": "1",
    "keepalives_count": "5",
    "target_session_attrs": "read-write",  # of several hosts the primary
}
"""Parameters of the connection (libpq's), unless the URL or VARIABLES have them."""

VARIABLES: Final = {"PGAPPNAME": "application_name", "PGCONNECT_TIMEOUT": "connect_timeout"}
"""Environment variables of libpq, which count less than parameters."""

_SECRETS: Final = "password sslpassword oauth_client_secret scram_client_key scram_server_key"
SECRETS: Final = frozenset(_SECRETS.split())
"""Parameters that are not shown."""

CONFLICTS: Final = {
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "23505",  # unique_violation, which each query excludes but for what others insert meanwhile
    "23503",  # foreign_key_violation, likewise for what others delete
}

OldPlan = psycopg.errors.FeatureNotSupported
"""Of a statement that was prepared before another program changed a column's type."""

MAX_SECONDS: Final = 5 * 60
"""Age of a connection after which it is replaced, so that moved servers and new roles count."""

FIND_SCHEMA_VERSION: Final = (
    "SELECT 1 FROM pg_tables"
    " WHERE tablename = 'schema_version' AND schemaname = ANY (current_schemas(false))"
)
"""`to_regclass` would still say no after a wait for the lock, as each session caches names."""

INIT_LOCK: Final = int.from_bytes(b"jwt-init")
"""The advisory lock of those who create or upgrade the tables."""


class FlagDumper(Dumper):
    """Passes a bool as 0 or 1, as the columns hold it in both databases."""

    oid = psycopg.adapters.types["int2"].oid

    def dump(self, obj: bool) -> bytes:  # noqa: FBT001 - psycopg's signature
        """Return the text of a flag."""
        return b"1" if obj else b"0"


ADAPTERS: Final = AdaptersMap(psycopg.adapters)
ADAPTERS.register_dumper(bool, FlagDumper)


class Driver(psycopg.Connection[Row]):
    """A connection of psycopg that knows its age, and whether the server warned of a commit.

    It waits `patience` seconds for the server's answer to a statement, or for ever if that is None.
    """

    patience: float | None = ANSWER_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.opened_at, self.warning = monotonic(), ""
        self.add_notice_handler(self._note)

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server; each method that sends something to it does so."""
        try:
            return super().wait(gen, interval, timeout or self.patience)
        except psycopg.errors._WaitTimeout:
            pass
        try:
            self.cancel_safe(timeout=CANCEL_SECONDS)
            return super().wait(gen, interval, CANCEL_SECONDS)
        except (psycopg.errors._WaitTimeout, psycopg.errors.CancellationTimeout) as error:
            raise psycopg.OperationalError("the server does not answer") from error

    def _note(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.source_function == "SyncRepWaitForLSN":
            self.warning = diagnostic.message_primary or ""


class Engine:
    """A PostgreSQL database for `Database`.

    `url` is one of libpq, and has two more parameters: `pool`, the connections of a process, and
    `prepared_statements`, one of PREPARED. Raises ConfigurationError.
    """

    dialect = "postgresql"
    adapter = PyFormatAdapter
    begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
    error: type[Exception] = psycopg.Error
    reads_wait = True
    timeouts = TIMEOUTS
    secrets = SECRETS

    def __init__(self, url: str) -> None:
        base, _, query = url.partition("?")
        own = dict(re.findall("(?:^|&)(pool|prepared_statements)=([^&]*)", query))
        pool, prepared = own.get("pool", DEFAULT_POOL), own.get("prepared_statements", "auto")
        if not POOL.fullmatch(pool) or prepared not in PREPARED:
            advice = f"pool is 1 to 999, and prepared_statements is one of {', '.join(PREPARED)}"
            raise ConfigurationError([f"DATABASE_URL: {advice}."])
        self.pool_size, self._prepared = int(pool), prepared
        others = [each for each in query.split("&") if each.partition("=")[0] not in own]
        try:
            given = conninfo_to_dict(f"{base}?{'&'.join(others)}")
        except psycopg.ProgrammingError as error:
            raise ConfigurationError(["DATABASE_URL: It is not a URL of PostgreSQL."]) from error
        public = {name: str(value) for name, value in given.items() if name not in SECRETS}
        self.address = quote(make_conninfo(**public))
        set_outside = {VARIABLES[name] for name in VARIABLES.keys() & os.environ.keys()}
        defaults = {name: DEFAULTS[name] for name in DEFAULTS.keys() - set_outside}
        self.parameters: dict[str, Any] = defaults | given
        ours = " ".join(f"-c {name}={value}" for name, value in TIMEOUTS.items())
        theirs = given.get("options", os.environ.get("PGOPTIONS", ""))
        self.parameters["options"] = f"{ours} {theirs}".rstrip()
        places = (f"{host}:{port}" if port else host for host, port in self._hosts())
        self.name = f"postgresql://{','.join(places)}/{self.parameters.get('dbname', '')}"
        self._connecting, self._failed_at, self._is_down = Lock(), 0.0, False
        self._finding_out, self._lacks_standby, self._lost_at = Lock(), False, 0.0

    def _hosts(self) -> list[tuple[str, str]]:
        """Return each host with its port, which is empty unless it is set."""
        hosts, ports = (str(self.parameters.get(name, "")).split(",") for name in ("host", "port"))
        return list(zip(hosts, ports * len(hosts), strict=False))  # one port is for all

    def connect(self) -> Driver:
        """Connect to a database of this release. Raises DatabaseUnavailable.

        One thread connects at a time. While the server is down the others are refused, because
        each could wait for `connect_timeout`.
        """
        began = monotonic()
        is_next = self._connecting.acquire(blocking=not self._is_down)
        try:
            if is_next and began >= self._failed_at:  # no other failed while this thread waited
                return self._try_to_open()
        finally:
            if is_next:
                self._connecting.release()
        raise DatabaseUnavailable(f"{self.name} can't be reached.")

    def _try_to_open(self) -> Driver:
        try:
            driver = self.open()
        except DatabaseUnavailable:
            self._is_down, self._failed_at = True, monotonic()
            raise
        self._is_down = False
        return driver

    def open(self, oldest: int = SCHEMA_VERSION) -> Driver:
        """Connect to a database with the schema version `oldest` or a newer one, 0 for none.

        Raises DatabaseUnavailable.
        """
        driver = None
        try:
            driver = Driver.connect(
                **self.parameters,
                autocommit=True,  # BEGIN is explicit
                prepare_threshold=None,
                row_factory=dict_row,
                context=ADAPTERS,
            )
            self._check_version(driver, oldest)
            if self._prepared == "true" or (self._prepared == "auto" and is_direct(driver)):
                driver.prepare_threshold = PREPARE_AFTER
        except BaseException as error:
            if driver:
                driver.close()
            if not isinstance(error, psycopg.Error):
                raise
            cause = " ".join(str(error).split())
            advice = "check DATABASE_URL and the server"
            raise DatabaseUnavailable(f"{self.name} can't be opened: {cause}: {advice}.") from error
        self._prefer_host_of(driver)
        return driver

    def _prefer_host_of(self, driver: Driver) -> None:
        """Try this one of several hosts first from now on, as each dead one takes seconds."""
        if "hostaddr" in self.parameters or "," not in self.parameters.get("host", ""):
            return
        places = [(host, port or "5432") for host, port in self._hosts()]
        used = (driver.info.host, str(driver.info.port))
        if used in places[1:]:
            first = places.index(used)
            hosts, ports = zip(*places[first:], *places[:first], strict=True)
            self.parameters |= {"host": ",".join(hosts), "port": ",".join(ports)}

    def _check_version(self, driver: Driver, oldest: int) -> None:
        version = schema_version(driver)
        if version == 0 < oldest:
            raise DatabaseUnavailable(
                f"{self.name} has no tables: the command `init-db` makes them."
            )
        if version > SCHEMA_VERSION:
            raise DatabaseUnavailable(
                f"{self.name} has schema version {version}, this release knows {SCHEMA_VERSION} and"
                " no newer one: run the release that made it."
            )
        if version < oldest:
            raise DatabaseUnavailable(
                f"{self.name} has schema version {version}, this release needs {SCHEMA_VERSION}:"
                " make a copy with pg_dump, and run the command `db upgrade`."
            )

    def is_writable(self) -> bool:
        """Return true: `target_session_attrs` excludes standbys."""
        return True

    def is_usable(self, driver: Driver) -> bool:
        """Return whether the connection is open and not too old, without asking the server.

        An idle connection has something to read only if the server has closed it, or is about to.
        From a dead host nothing comes: so the first lost connection counts for those before it.
        """
        if driver.closed or driver.opened_at < max(self._lost_at, monotonic() - MAX_SECONDS):
            return False
        poll = select.poll()
        poll.register(driver.fileno(), select.POLLIN)
        return not poll.poll(0)

    def in_transaction(self, driver: Driver) -> bool:
        """Return whether a transaction has begun, also one that has failed."""
        status = driver.info.transaction_status
        return status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    @contextmanager
    def writing(self, driver: Driver) -> Iterator[None]:
        """Raise DatabaseUnavailable after a commit that may be lost when the standby takes over.

        The server warns of it when its wait for a synchronous standby is cancelled. From then on
        one transaction at a time finds out whether there is one again. The others are refused, as
        they would wait with all connections that reads need.
        """
        finds_out = self._lacks_standby
        if finds_out and not self._finding_out.acquire(blocking=False):
            raise DatabaseUnavailable("Another commit waits for the synchronous standby.")
        driver.warning = ""
        try:
            yield
            self._lacks_standby = bool(driver.warning)
        finally:
            if finds_out:
                self._finding_out.release()
        if driver.warning:
            raise DatabaseUnavailable(f"The database warns: {driver.warning}.")

    def raise_failure(self, error: psycopg.Error) -> None:
        """Raise TransactionConflict, or DatabaseUnavailable for an error of the server's state."""
        # The details of a conflict name what is in the rows.
        cause = f"The database fails: {error.diag.message_primary or ' '.join(str(error).split())}."
        if error.sqlstate in CONFLICTS:
            raise TransactionConflict(cause) from error
        if error.sqlstate in NOT_PREPARED:
            advice = "Set prepared_statements=false in DATABASE_URL."
            raise DatabaseUnavailable(f"{cause} {advice}") from error
        if isinstance(error, psycopg.OperationalError | psycopg.InternalError | OldPlan):
            raise DatabaseUnavailable(cause) from error

    def ends_connection(self, error: psycopg.Error) -> bool:
        """Return whether the connection is lost, outdated, or to a server that became a standby."""
        is_lost = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
        if is_lost:
            self._lost_at = monotonic()
        return is_lost or isinstance(error, psycopg.errors.ReadOnlySqlTransaction | OldPlan)

    def check(self, *, starting: bool = False) -> None:
        """Check that the server can be reached, and can write. Raises DatabaseUnavailable."""
        self.connect().close()

    def create(self) -> bool:
        """Create the tables; return False if they exist. Raises DatabaseUnavailable."""
        with closing(self.open(oldest=0)) as driver:
            try:
                with _initializing(driver):
                    if schema_version(driver):
                        return False
                    driver.execute(bundled("schema.postgresql.sql").read_text("utf-8"))
            except psycopg.Error as error:
                raise DatabaseUnavailable(f"{self.name} can't be set up: {error}.") from error
        self.check()
        return True

    def upgrade(self, steps: Sequence[Path]) -> list[str]:
        """Apply the steps after the schema version, all in one transaction; return their names.

        Of two upgrades at once, the second waits and finds nothing to do. Raises
        DatabaseUnavailable.
        """
        with closing(self.open(oldest=1)) as driver:
            try:
                with _initializing(driver):
                    missing = [step for step in steps if number(step) > schema_version(driver)]
                    for step in missing:
                        driver.execute(step.read_text("utf-8"))
                        driver.execute("UPDATE schema_version SET version = %s", [number(step)])
            except psycopg.Error as error:
                raise DatabaseUnavailable(f"{self.name} can't be upgraded: {error}.") from error
        self.check()
        return [step.stem for step in missing]

    @contextmanager
    def filling(self) -> Iterator[Driver]:
        """Provide a transaction without limits of time, to copy many rows into the tables.

        Raises DatabaseUnavailable.
        """
        with closing(self.open()) as driver:
            try:
                with _initializing(driver):
                    yield driver
            except psycopg.Error as error:
                raise DatabaseUnavailable(f"{self.name} can't be filled: {error}.") from error

    def files(self) -> list[Path]:
        """Return the file of passwords, and the client's key, if one is configured."""
        passwords = os.environ.get("PGPASSFILE", "~/.pgpass")
        key = os.environ.get("PGSSLKEY", "")
        files = (self.parameters.get("passfile", passwords), self.parameters.get("sslkey", key))
        return [Path(file).expanduser() for file in files if file]

    def close(self) -> None:
        """Do nothing: the connections are the pool's."""


@contextmanager
def _initializing(driver: Driver) -> Iterator[None]:
    """Provide a transaction, one at a time in all processes, whose statements may take any time."""
    driver.patience = None
    with driver.transaction():
        for name in ("statement_timeout", "lock_timeout"):  # who has died must not keep the lock
            driver.execute(f"SET LOCAL {name} = 0")
        driver.execute("SELECT pg_advisory_xact_lock(%s)", [INIT_LOCK])
        yield


def is_direct(driver: Driver) -> bool:
    """Return whether no pooler is between: one gives its clients process IDs of its own."""
    [row] = driver.execute("SELECT pg_backend_pid() AS pid").fetchall()
    return bool(row["pid"] == driver.info.backend_pid)


def number(step: Path) -> int:
    """Return the schema version that a step leads to."""
    return int(step.name.partition(".")[0])


def schema_version(driver: Driver) -> int:
    """Return the schema version, 0 without tables of this service."""
    if not driver.execute(FIND_SCHEMA_VERSION).fetchall():
        return 0
    [row] = driver.execute("SELECT version FROM schema_version").fetchall()
    return int(row["version"])
