"""A real pgbouncer for tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.helpers.postgresql import PASSWORD, Cluster
from tests.helpers.postgresql_programs import environment, new_folder, require, user
from tests.helpers.server import wait_until_open
from tests.helpers.waiting import free_port

DATABASES = "[databases]\n* = host=127.0.0.1 port={port}\n[pgbouncer]\n"
OPTIONS = {
    "listen_addr": "127.0.0.1",
    "unix_socket_dir": "",
    "pidfile": "pgbouncer.pid",
    "auth_type": "scram-sha-256",
    "auth_file": "userlist.txt",
    "pool_mode": "transaction",
    "server_login_retry": "1",  # seconds; 15 would be long for a test
    "ignore_startup_parameters": "extra_float_digits,options",
}


@contextmanager
def pgbouncer(cluster: Cluster, options: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run it in front of a cluster, in transaction mode; yield the URL of `jwt_server` there.

    `options` are those of pgbouncer.ini. The test is skipped where pgbouncer is missing.
    """
    program, folder, port = require("pgbouncer"), new_folder(), free_port()
    own = OPTIONS | {"listen_port": str(port)} | dict(options or {})
    lines = [f"{name} = {value}\n" for name, value in own.items()]
    (folder / "pgbouncer.ini").write_text(DATABASES.format(port=cluster.port) + "".join(lines))
    (folder / "userlist.txt").write_text(f'"jwt_server" "{PASSWORD}"\n')
    log_file = folder / "pgbouncer.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [program, "pgbouncer.ini"], cwd=folder, env=environment(folder), **user(),
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until_open(port, process, log_file)
        yield f"postgresql://jwt_server:{PASSWORD}@127.0.0.1:{port}/jwt_server"
    finally:
        process.kill()  # SIGTERM waits for clients since 1.23
        process.wait()
        shutil.rmtree(folder)
