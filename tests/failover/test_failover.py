"""A short `make failover`, and checks that it finds every kind of loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from jwt_server.database import Database
from tests.failover.__main__ import table
from tests.failover.record import Account, Ledger, Session
from tests.failover.run import Failover, Plan, compare
from tests.helpers.postgresql import Cluster

pytestmark = pytest.mark.hosts


@pytest.mark.parametrize("hangs", [False, True], ids=["killed", "hangs"])
def test_a_failover_loses_no_acknowledged_write(tmp_path: Path, *, hangs: bool) -> None:
    result = Failover(Plan(1, 6, seed=7, hangs=hangs), tmp_path, lambda _: None).run()

    assert result.problems() == []
    assert result.acknowledged > 100
    assert f"1 failovers, 0 acknowledged writes lost of {result.acknowledged:,}" in table(result)


def test_losses_are_found() -> None:
    account, ledger = Account("ada"), Ledger()
    account.pets[7] = "Rex"
    account.sessions["lost"] = Session("lost", "access", "rt1.lost.3.mac")
    with Cluster() as cluster:
        Database(cluster.url).engine.create()
        compare(cluster, [account], ledger)

    assert [line.partition(":")[0] for line in ledger.lost] == ["user", "pet 7", "session lost"]
