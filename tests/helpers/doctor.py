"""Runs `flask doctor` on a service."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass

from flask import Flask

from jwt_server.web.service import EXTENSION, Service


@dataclass
class Report:
    """What the command printed."""

    exit_code: int
    levels: dict[str, set[str]]
    text: str

    @property
    def problems(self) -> dict[str, set[str]]:
        """The levels of the checks that are not OK."""
        return {check: levels for check, levels in self.levels.items() if levels != {"ok"}}


def examine_service(app: Flask, service: Service) -> Report:
    """Run the command of an app on a service, which is closed afterwards."""
    with closing(service.database):
        app.extensions[EXTENSION] = service
        done = app.test_cli_runner().invoke(args=["doctor", "--json"])
    assert isinstance(done.exception, SystemExit | None)
    levels: dict[str, set[str]] = {}
    for line in done.output.splitlines():
        finding = json.loads(line)
        levels.setdefault(finding["check"], set()).add(finding["level"])
    return Report(done.exit_code, levels, done.output)
