"""Linters and generators read `/openapi.json`; the generated clients compile and work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.clients.conftest import CLIENTS, TYPESCRIPT, run
from tests.helpers.server import Server

pytestmark = pytest.mark.slow

TOURS = CLIENTS / "tours"
# The JVM runs for a few seconds only: compile little of its code.
JAVA_OPTIONS = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}


@pytest.fixture
def description(client: FlaskClient, tmp_path: Path) -> Path:
    """A folder with the document."""
    path = tmp_path / "openapi.json"
    path.write_bytes(client.get("/openapi.json").data)
    return path


def test_spectral_finds_nothing(npm: Path, description: Path) -> None:
    folder = description.parent
    (folder / "rules.yaml").write_text("extends: ['spectral:oas']")

    said = run(npm / "spectral", "lint", "--fail-severity=hint", "--ruleset=rules.yaml",
               description, cwd=folder)  # fmt: skip

    assert "No results" in said


def test_redocly_finds_nothing(npm: Path, description: Path) -> None:
    said = run(npm / "redocly", "lint", description, cwd=description.parent)

    assert "Your API description is valid" in said
    assert "warning" not in said.lower().replace("deprecation warning", "")


def test_openapi_python_client_generates_a_working_client(
    venv: Path, description: Path, service: Server
) -> None:
    folder = description.parent
    (folder / "config.yaml").write_text("post_hooks: []")
    said = run(venv / "openapi-python-client", "generate", "--path", description, "--meta=none",
               "--config=config.yaml", "--output-path=generated", cwd=folder)  # fmt: skip
    assert "WARNING" not in said
    every = [each.relative_to(folder) for each in folder.glob("generated/api/*/*.py")]
    assert len(every) > 25
    imports = "\n".join(f"import {'.'.join(each.with_suffix('').parts)}" for each in every)

    (folder / "tour.py").write_text(imports + "\n" + (TOURS / "tour.py").read_text())
    run(venv / "python", "tour.py", service.url, cwd=folder)


def compile_and_run(tour: str, folder: Path, url: str) -> None:
    """Compile a tour strictly, and run it."""
    (folder / "node_modules").symlink_to(CLIENTS / "node_modules")
    (folder / "package.json").write_text('{"type": "module"}')
    shutil.copy(TOURS / tour, folder / "tour.ts")
    run("node", TYPESCRIPT, "--strict", "--skipLibCheck", "--types", "node", "--module", "nodenext",
        "--target", "es2022", "tour.ts", cwd=folder)  # fmt: skip
    run("node", "tour.js", url, cwd=folder)


def test_openapi_typescript_and_openapi_fetch_make_a_working_client(
    npm: Path, description: Path, service: Server
) -> None:
    folder = description.parent
    run(npm / "openapi-typescript", description, "--output=schema.d.ts", cwd=folder)

    compile_and_run("openapi-fetch.ts", folder, service.url)


@pytest.mark.skipif(shutil.which("java") is None, reason="openapi-generator needs Java")
def test_openapi_generators_typescript_fetch_makes_a_working_client(
    npm: Path, venv: Path, description: Path, service: Server
) -> None:
    folder = description.parent
    run(venv / "openapi-generator-cli", "generate", "-g", "typescript-fetch", "-i", description,
        "-o", "generated", "--additional-properties=importFileExtension=.js",
        cwd=folder, **JAVA_OPTIONS)  # fmt: skip

    compile_and_run("typescript-fetch.ts", folder, service.url)
