"""`make postgres`: run a private PostgreSQL cluster for development until Ctrl+C."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

from tests.helpers.postgresql import Cluster
from tests.helpers.postgresql_programs import find

MISSING = "There is no PostgreSQL here: install it, on Debian by sudo apt install postgresql"


def main() -> int:
    """Print how to use it, and wait; returns the exit status."""
    if find("initdb") is None:
        print(MISSING, file=sys.stderr)
        return 1
    with suppress(KeyboardInterrupt), Cluster(durable=True) as cluster:
        print(f"PostgreSQL runs in {cluster.folder}. Ctrl+C stops it and deletes that folder.")
        print("Paste this into the shell where you start the service:\n")
        print(f"export DATABASE_URL={cluster.url}\n", flush=True)
        while True:
            time.sleep(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
