"""The service below a path: SCRIPT_NAME, with proxies that pass the path on and that remove it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from jwt_server.database import Database
from tests.helpers.app import MakeApp
from tests.helpers.factories import bearer, token
from tests.helpers.http import send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, running

FORM = "application/x-www-form-urlencoded"
SIGN_UP = {"username": "ada", "password": "correct horse battery"}

SAME_WITH_AND_WITHOUT = [
    ("/healthz", 200), ("/readyz", 200), ("/my-pets", 403), ("/auth/verify", 401),
    ("/docs/docs.js", 200), ("/admin", 200), ("/admin/", 200), ("/admin/app.js", 200),
    ("/nowhere", 404), ("/", 404), ("//healthz", 404),
]  # fmt: skip


@pytest.fixture
def prefixed(make_app: MakeApp, database: Database) -> FlaskClient:
    return make_app(script_name="/my/login", signup="open").test_client()


@pytest.mark.parametrize("prefix", ["", "/my/login"])
@pytest.mark.parametrize(("path", "status"), SAME_WITH_AND_WITHOUT)
def test_routes_work_with_and_without_the_prefix(
    prefixed: FlaskClient, prefix: str, path: str, status: int
) -> None:
    with prefixed.get(environ_overrides={"PATH_INFO": prefix + path}) as response:
        assert response.status_code == status


@pytest.mark.parametrize("path", ["/my/login", "/my", "/my/loginhealthz", "/my/login/my/login/me"])
def test_other_paths_return_404(prefixed: FlaskClient, path: str) -> None:
    assert prefixed.get(path).status_code == 404


@pytest.mark.parametrize("prefix", ["", "/my/login"])
def test_location_and_link_have_the_prefix(
    prefixed: FlaskClient, travis: dict[str, str], prefix: str
) -> None:
    account = prefixed.post(f"{prefix}/users", json=SIGN_UP)
    pet = prefixed.post(f"{prefix}/pets", json={"name": "Rex"}, headers=travis)
    page = prefixed.get(f"{prefix}/pets?limit=1", headers=travis)

    assert account.headers["Location"] == "/my/login/me"
    assert pet.headers["Location"] == "/my/login/pets/3"
    assert page.headers["Link"] == '</my/login/pets?limit=1&after=WzFd>; rel="next"'
    assert prefixed.get(pet.headers["Location"], headers=travis).status_code == 200


@pytest.mark.parametrize("prefix", ["", "/my/login"])
def test_pages_and_description_have_the_prefix(prefixed: FlaskClient, prefix: str) -> None:
    page, description = prefixed.get(f"{prefix}/docs"), prefixed.get(f"{prefix}/openapi.json")

    assert 'src="/my/login/docs/docs.js"' in page.text
    assert '"/docs' not in page.text
    panel = prefixed.get(f"{prefix}/admin/")
    assert 'src="/my/login/admin/app.js"' in panel.text
    assert '"/admin' not in panel.text
    assert description.get_json()["servers"] == [{"url": "/my/login"}]


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("prefix")
    with running(folder, {**BASE_ENVIRONMENT, "SCRIPT_NAME": "/login"}) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "/login", "//", "/login/", "/%6Cogin", "/x"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/my-pets", "/nowhere", ""])
def test_no_path_is_a_500(below: Server, prefix: str, path: str) -> None:
    status = send_to_server(below, "GET", f"{prefix}{path}" or "/").status

    known = {"/healthz": 200, "/readyz": 200, "/my-pets": 403}
    is_ours = prefix in {"", "/login", "/%6Cogin"}
    assert status == (known.get(path, 404) if is_ours else 404)


@pytest.mark.slow
def test_location_has_the_prefix(below: Server) -> None:
    for path in ("/login/pets", "/pets"):
        pet = send_to_server(below, "POST", path, bearer(token()), b"name=Rex", FORM)
        assert pet.headers["Location"].startswith("/login/pets/")


@pytest.mark.slow
def test_no_header_changes_the_prefix(below: Server) -> None:
    evil = {"Script-Name": "/evil", "X-Forwarded-Prefix": "/evil", "X-Script-Name": "/evil"}
    page = send_to_server(below, "GET", "/login/pets?limit=1", bearer(token()) | evil)

    assert page.headers["Link"].startswith("</login/pets?")
