"""Linters and generators read `/openapi.json`; the generated clients compile and work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.clients.conftest import CLIENTS, NODE, TYPESCRIPT, run
from tests.helpers.http import send_to_server
from tests.helpers.server import Server

pytestmark = pytest.mark.slow

TOURS = CLIENTS / "tours"
HAS_JAVA = shutil.which("java") is not None
# The JVM runs for a few seconds only: compile little of its code, and trust it.
JAVA_OPTIONS = {
    "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    " -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
}


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory, service: Server) -> Path:
    """A folder with the document."""
    path = tmp_path_factory.mktemp("description") / "openapi.json"
    path.write_bytes(send_to_server(service, "GET", "/openapi.json", {}).body)
    return path


def test_spectral_finds_nothing(npm: Path, description: Path) -> None:
    folder = description.parent
    (folder / "rules.yaml").write_text("extends: ['spectral:oas']")

    said = run(*NODE, npm / "spectral", "lint", "--fail-severity=hint", "--ruleset=rules.yaml",
               description, cwd=folder)  # fmt: skip

    assert "No results" in said


def test_redocly_finds_nothing(npm: Path, description: Path) -> None:
    said = run(*NODE, npm / "redocly", "lint", description, cwd=description.parent)

    assert "Your API description is valid" in said
    assert "warning" not in said.lower().replace("deprecation warning", "")


def test_openapi_python_client_generates_a_working_client(
    venv: Path, description: Path, service: Server, tmp_path: Path
) -> None:
    folder = tmp_path
    (folder / "config.yaml").write_text("post_hooks: []")
    said = run(venv / "openapi-python-client", "generate", "--path", description, "--meta=none",
               "--config=config.yaml", "--output-path=generated", cwd=folder)  # fmt: skip
    assert "WARNING" not in said
    every = [each.relative_to(folder) for each in folder.glob("generated/api/*/*.py")]
    assert len(every) > 25
    imports = "\n".join(f"import {'.'.join(each.with_suffix('').parts)}" for each in every)

    (folder / "tour.py").write_text(imports + "\n" + (TOURS / "tour.py").read_text())
    run(venv / "python", "tour.py", service.url, cwd=folder)


@pytest.fixture(scope="module")
def compiled(npm: Path, venv: Path, description: Path) -> Path:
    """The folder of the tours in TypeScript, with the clients that are generated for them.

    All are compiled strictly, and at once, as the libraries' types take most of the time.
    """
    folder = description.parent
    run(*NODE, npm / "openapi-typescript", description, "--output=schema.d.ts", cwd=folder)
    tours = ["openapi-fetch.ts"]
    if HAS_JAVA:
        run(venv / "openapi-generator-cli", "generate", "-g", "typescript-fetch", "-i", description,
            "-o", "generated", "--additional-properties=importFileExtension=.js",
            cwd=folder, **JAVA_OPTIONS)  # fmt: skip
        tours.append("typescript-fetch.ts")
    for tour in tours:
        shutil.copy(TOURS / tour, folder)
    (folder / "node_modules").symlink_to(CLIENTS / "node_modules")
    (folder / "package.json").write_text('{"type": "module"}')
    run("node", TYPESCRIPT, "--strict", "--skipLibCheck", "--types", "node", "--module", "nodenext",
        "--target", "es2022", *tours, cwd=folder)  # fmt: skip
    return folder


def test_openapi_typescript_and_openapi_fetch_make_a_working_client(
    compiled: Path, service: Server
) -> None:
    run("node", "openapi-fetch.js", service.url, cwd=compiled)


@pytest.mark.skipif(not HAS_JAVA, reason="openapi-generator needs Java")
def test_openapi_generators_typescript_fetch_makes_a_working_client(
    compiled: Path, service: Server
) -> None:
    run("node", "typescript-fetch.js", service.url, cwd=compiled)
