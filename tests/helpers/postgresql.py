"""Private PostgreSQL clusters for tests."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from tests.helpers.postgresql_programs import (
    STOP_SECONDS,
    children,
    command,
    environment,
    kill_at_once,
    new_folder,
    require,
    run,
    user,
)
from tests.helpers.waiting import free_port, until

START_SECONDS = 60
SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

PASSWORD = secrets.token_hex(16)
"""That of the role `jwt_server` in all clusters of this process."""

INITDB = (
    "--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync",
    # Text is ordered as in English, which most servers do, and not by bytes as in SQLite.
    "--encoding=UTF8", "--locale=C", "--locale-provider=icu", "--icu-locale=en-US",
)  # fmt: skip
SETUP = f"""
CREATE ROLE jwt_server LOGIN PASSWORD '{PASSWORD}'
CREATE DATABASE jwt_server OWNER jwt_server
"""

OPTIONS = {
    "listen_addresses": "127.0.0.1",
    # In the data folder, as it would outlast a kill in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "min_wal_size": "32MB",
}
FAST_OPTIONS = {"autovacuum": "off", "fsync": "off", "full_page_writes": "off"}
"""A commit survives a kill all the same, as the system has it; with `synchronous_commit = off` it
would be in the killed process only.
"""


@cache
def template() -> Path:
    """Create the data folder that clusters begin with: with the role and its database."""
    folder = new_folder()
    run(folder, *command("initdb", *INITDB, "data"))
    run(folder, *command("postgres", "--single", "-F", "-D", "data", "postgres"), stdin=SETUP)
    return folder / "data"


class Cluster:
    """A primary or a standby, on a port of 127.0.0.1 and on a socket in its folder.

    It starts with its context and is deleted at the end of it, with its standbys. `options` are
    those of postgresql.conf; changed ones take effect with `reload` or `restart`. A cluster that
    is not `durable` survives kills, but no power cut. The test is skipped without PostgreSQL.
    """

    def __init__(self, options: Mapping[str, str] | None = None, *, durable: bool = False) -> None:
        require("initdb")
        self.options = OPTIONS | ({} if durable else FAST_OPTIONS) | dict(options or {})
        self.durable = durable
        self.port = free_port()
        self.folder = new_folder()
        self.data = self.folder / "data"
        self.log_file = self.folder / "postgresql.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.standbys: list[Cluster] = []

    def __enter__(self) -> Self:
        run(self.folder, "cp", "-a", str(template()), str(self.data))
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the database `jwt_server`, for its owner."""
        return self.url_of("jwt_server")

    @property
    def admin_url(self) -> str:
        """The URL of the database `postgres` for the superuser, over the socket."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.folder))}&port={self.port}"

    def url_of(self, database: str) -> str:
        """Return the URL of a database, for its owner."""
        return f"postgresql://jwt_server:{PASSWORD}@{self.address}/{database}"

    def execute(self, statement: sql.SQL | sql.Composed) -> None:
        """Execute a statement as the superuser, outside of a transaction."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(statement)

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create an empty database, or copy one without connections; return its URL."""
        statement = sql.SQL("CREATE DATABASE {} OWNER jwt_server TEMPLATE {}")
        self.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Delete a database, and end its connections."""
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        self.launch()
        until(self._is_ready, START_SECONDS)

    def launch(self) -> None:
        """Start it; it recovers before it accepts connections."""
        self._write_options()
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                command("postgres", "-D", str(self.data)), cwd=self.folder, **user(),
                env=environment(self.folder), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop it: smart waits for clients, fast does not, immediate needs a recovery."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(SIGNALS[mode])
            self.process.wait(STOP_SECONDS)

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        self.stop(mode)
        self.start()

    def reload(self) -> None:
        """Have it read the options again."""
        self._write_options()
        self.execute(sql.SQL("SELECT pg_reload_conf()"))

    def kill(self) -> None:
        """Kill all of its processes at once with SIGKILL."""
        if self.process and self.process.poll() is None:
            kill_at_once(self.process)
            self._remove_shared_memory(self.process.pid)

    def hang(self) -> None:
        """Stop all of its processes with SIGSTOP: its connections stay open, but nothing comes."""
        assert self.process
        for pid in (self.process.pid, *children(self.process.pid)):
            os.kill(pid, signal.SIGSTOP)

    def wake(self) -> None:
        """End that."""
        assert self.process
        for pid in (self.process.pid, *children(self.process.pid)):
            os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop it and its standbys, and delete their folders."""
        for standby in self.standbys:
            standby.close()
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def standby(self, name: str = "standby", port: int | None = None) -> Cluster:
        """Start a standby that streams through a slot of its name, on a free port unless given.

        The primary's `synchronous_standby_names` may list that name.
        """
        standby = Cluster(self.options | {"cluster_name": name}, durable=self.durable)
        standby.options.pop("synchronous_standby_names", None)
        standby.port = port or standby.port
        self.standbys.append(standby)
        run(
            standby.folder, *command("pg_basebackup", "--pgdata=data", "--write-recovery-conf"),
            "--create-slot", f"--slot={name}", "--checkpoint=fast", "--no-sync",
            f"--host={self.folder}", f"--port={self.port}", "--username=postgres",
        )  # fmt: skip
        standby.start()
        return standby

    def promote(self) -> None:
        """Make a standby a primary, and wait until it is one."""
        self.execute(sql.SQL("SELECT pg_promote()"))

    def log(self) -> str:
        return self.log_file.read_text()

    def _write_options(self) -> None:
        own = {"port": str(self.port), "unix_socket_directories": str(self.folder)}
        lines = [f"{name} = '{value}'\n" for name, value in (self.options | own).items()]
        (self.data / "postgresql.conf").write_text("".join(lines))

    def _lock(self) -> list[str]:
        """Return the lines of the lock file: its process, its shared memory, its state and more."""
        file = self.data / "postmaster.pid"
        return file.read_text().splitlines() if file.exists() else []

    def _is_ready(self) -> bool:
        assert self.process
        assert self.process.poll() is None, f"PostgreSQL has ended:\n{self.log()}"
        lines = self._lock()
        return len(lines) == 8 and int(lines[0]) == self.process.pid and "ready" in lines[7]

    def _remove_shared_memory(self, pid: int) -> None:
        """Remove what would outlast the processes if it is never started again."""
        lines = self._lock()
        if len(lines) > 6 and int(lines[0]) == pid:  # else it was killed before it had any
            _key, identifier = lines[6].split()
            run(self.folder, "ipcrm", "--shmem-id", identifier)


def failover_url(*clusters: Cluster) -> str:
    """Return a URL with several clusters, that connects to the one that is a primary."""
    addresses = ",".join(cluster.address for cluster in clusters)
    return (
        f"postgresql://jwt_server:{PASSWORD}@{addresses}/jwt_server?target_session_attrs=read-write"
    )
