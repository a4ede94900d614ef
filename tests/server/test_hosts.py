"""Two hosts of the service over one PostgreSQL, behind the nginx of deploy/."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jwt_server.database import Database
from tests.helpers.hosts import Host, load_on, new_database, two_hosts, wait_until
from tests.helpers.nginx import needs_nginx
from tests.helpers.site import site

pytestmark = [pytest.mark.slow, needs_nginx]

Hosts = tuple[Host, Host]


@pytest.fixture
def database() -> Iterator[Database]:
    """A new database of PostgreSQL, with the demo user."""
    with closing(Database(new_database())) as database:
        yield database


def test_a_secret_is_replaced_host_by_host_without_a_failed_request(
    database: Database, tmp_path: Path
) -> None:
    old, new = "an old JWT secret of 32 bytes or more", "a new JWT secret of 32 bytes or more"
    with (
        two_hosts(tmp_path, str(database.where), JWT_SECRET=old) as hosts,
        site(tmp_path, [host.port for host in hosts], limits=False) as front,
        load_on(front, database) as load,
    ):
        for secret, previous in ((old, new), (new, old), (new, "")):
            for host in hosts:
                host.restart(JWT_SECRET=secret, JWT_SECRET_PREVIOUS=previous)
                wait_until(host.has_signed_in)

    assert load.failures == []
