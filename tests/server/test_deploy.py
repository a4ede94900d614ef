"""What stands in deploy/ fits the service: its settings, its commands, its times."""

from __future__ import annotations

import re
import runpy

import pytest

from tests.helpers.factories import SETTINGS
from tests.helpers.server import BASE_ENVIRONMENT, ROOT

DEPLOY = {path.name: path.read_text() for path in (ROOT / "deploy").iterdir()}
WALK = "".join((ROOT / "docs" / f"{page}.md").read_text() for page in ("deployment", "operations"))
UNIT = DEPLOY["jwt-server.service"]


@pytest.mark.parametrize("text", [*DEPLOY.values(), WALK], ids=[*DEPLOY, "deployment.md"])
def test_it_sets_what_is_a_setting(text: str) -> None:
    of_others = {"PATH", "PYTHONDONTWRITEBYTECODE", "END", "CREDENTIALS_DIRECTORY"}
    told = re.findall(r"\b([A-Z][A-Z_]{3,})(?:=|: )[\w/\"]", text)

    assert {name for name in told if "_" in name} - of_others <= set(SETTINGS)


def test_every_file_has_its_place_in_the_walk() -> None:
    for name in DEPLOY:
        assert name in WALK or name == "nginx-auth-request.conf", name


def test_a_file_that_is_named_is_there() -> None:
    for path in re.findall(r"\.\./deploy/([\w.-]+)", WALK):
        assert path in DEPLOY
    for source in re.findall(r"^COPY (?!--)(\S+)", DEPLOY["Dockerfile"], re.MULTILINE):
        assert (ROOT / source).exists()
    assert (ROOT / "deploy" / "../deploy/Dockerfile").exists()


def test_the_times_of_systemd_nginx_and_gunicorn_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BASE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    gunicorn = runpy.run_path(str(ROOT / "gunicorn.conf.py"))

    stop = int(re.findall(r"TimeoutStopSec=(\d+)", UNIT)[0])
    read = int(re.findall(r"proxy_read_timeout (\d+)s", DEPLOY["jwt-server-proxy.conf"])[0])
    assert stop > gunicorn["graceful_timeout"]
    assert gunicorn["graceful_timeout"] >= read > gunicorn["settings"].hash_wait
    assert gunicorn["keepalive"] > 60  # nginx's own for an upstream, where nothing is said
    assert "keepalive_timeout" not in DEPLOY["nginx.conf"].split("server {")[0]


def test_the_unit_lets_the_service_do_what_it_does() -> None:
    allowed = UNIT.rindex("SystemCallFilter=@chown sched_setaffinity")  # its socket, its cores
    assert allowed > UNIT.index("SystemCallFilter=~@privileged")
    assert "AF_UNIX" in UNIT
    assert "WorkingDirectory=/var/lib/jwt-server" in UNIT  # where the walk puts .env
    assert "/var/lib/jwt-server/.env" in WALK
    assert "ExecStart=/opt/jwt-server/bin/jwt-server\n" in UNIT


def test_nobody_runs_as_root_and_no_secret_is_in_the_image() -> None:
    assert "User=jwt-server" in UNIT
    assert "USER jwt-server" in DEPLOY["Dockerfile"]
    for text in DEPLOY.values():
        assert not re.search(r"(JWT_SECRET|SECRET_KEY)[=:] ?[\"\w]", text)
    for name in ("jwt_secret", "secret_key"):
        for ignored in (".gitignore", ".dockerignore"):
            assert f"deploy/{name}" in (ROOT / ignored).read_text().splitlines()
