"""`flask keys`, and the key files: rotated, revoked and pruned without a restart, published."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from click.testing import Result
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from flask import Flask
from flask.testing import FlaskClient

from jwt_server.database import Connection, Database
from jwt_server.errors import ConfigurationError
from jwt_server.security import keys
from jwt_server.web.service import EXTENSION
from tests.helpers.app import Clock, MakeApp
from tests.helpers.factories import CREDENTIALS, bearer

every_algorithm = pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
generate = cache(keys.generate)  # a key pair of RS256 takes a second


@pytest.fixture
def algorithm() -> str:
    return "EdDSA"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def app(make_app: MakeApp, database: Database, algorithm: str, folder: Path) -> Flask:
    """An app with one key."""
    pair = generate(algorithm)
    folder.mkdir(mode=0o700)
    path = folder / f"0-{pair.kid}.pem"
    path.touch(mode=0o600)
    path.write_bytes(keys.dump(pair))
    return make_app(jwt_algorithm=algorithm, jwt_keys_dir=folder)


def run(app: Flask, *command: str) -> Result:
    return app.test_cli_runner().invoke(args=["keys", *command])


def sign_in(client: FlaskClient) -> str:
    response = client.post("/auth", data=CREDENTIALS)
    assert response.status_code == 200
    return response.text


def published(client: FlaskClient) -> dict[str, dict[str, str]]:
    response = client.get("/.well-known/jwks.json")
    assert response.headers["Cache-Control"] == "public, max-age=600"
    keys = {key["kid"]: key for key in response.get_json()["keys"]}
    assert len(keys) == len(response.get_json()["keys"])
    return keys


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


@every_algorithm
def test_a_token_is_verified_by_the_published_key_alone(
    client: FlaskClient, algorithm: str, clock: Clock
) -> None:
    token = sign_in(client)

    assert jwt.get_unverified_header(token) == {
        "alg": algorithm, "kid": kid_of(token), "typ": "JWT"
    }  # fmt: skip
    [key] = published(client).values()
    assert (key["alg"], key["use"], key["kid"]) == (algorithm, "sig", kid_of(token))
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(key)
    claims = jwt.decode(
        token, jwt.PyJWK(key).key, [algorithm], audience="jwt-server", issuer="jwt-server",
        options={"verify_exp": False, "verify_iat": False},
    )  # fmt: skip
    assert claims["sub"] == "1"
    assert client.get("/pets", headers=bearer(token)).status_code == 200


def test_under_hs256_nothing_is_published(make_app: MakeApp, database: Database) -> None:
    client = make_app().test_client()

    assert client.get("/.well-known/jwks.json").get_json() == {"keys": []}
    done = run(make_app(), "rotate")
    assert done.exit_code == 1
    assert "JWT_ALGORITHM is HS256" in done.output


def test_public_keys_are_cacheable_for_jwks_max_age(
    make_app: MakeApp, database: Database, folder: Path
) -> None:
    app = make_app(jwt_algorithm="EdDSA", jwt_keys_dir=folder, jwks_max_age=77)
    run(app, "rotate")

    response = app.test_client().get("/.well-known/jwks.json")

    assert response.headers["Cache-Control"] == "public, max-age=77"


def test_a_new_key_is_published_at_once_and_signs_after_two_max_ages(
    client: FlaskClient, app: Flask, clock: Clock
) -> None:
    old = sign_in(client)
    [first] = published(client)

    done = run(app, "rotate")

    both = published(client)
    [second] = set(both) - {first}
    assert done.output == f"Added: {second} signs from 2023-11-14T22:33:20Z on\n"
    clock.advance(2 * 600 - 1)
    assert kid_of(sign_in(client)) == first
    clock.advance(1)
    new = sign_in(client)
    assert kid_of(new) == second
    for token in (old, new):
        assert client.get("/pets", headers=bearer(token)).status_code == 200


def test_prune_deletes_a_key_when_its_last_token_has_expired(
    client: FlaskClient, app: Flask, clock: Clock
) -> None:
    [first] = published(client)
    run(app, "rotate")
    clock.advance(2 * 600 - 1)
    last = sign_in(client)  # the last one that the first key signs: 12 hours
    clock.advance(12 * 60 * 60)
    assert run(app, "prune").output == "Every key is still needed.\n"
    assert client.get("/pets", headers=bearer(last)).text == "Expired token. Sign in again."
    clock.advance(1)

    assert run(app, "prune").output == f"Removed: {first}\n"

    assert first not in published(client)
    assert run(app, "prune").output == "Every key is still needed.\n"
    assert sign_in(client)


def test_revoke_replaces_the_key_that_signs_at_once(client: FlaskClient, app: Flask) -> None:
    stolen = sign_in(client)
    [first] = published(client)

    done = run(app, "revoke", first)

    [second] = published(client)
    assert done.output == f"Revoked: {first}\nAdded: {second} signs from now on\n"
    assert client.get("/pets", headers=bearer(stolen)).text == "Forged token."
    assert kid_of(sign_in(client)) == second
    assert run(app, "revoke", first).output == f"Error: There is no key {first}.\n"


def test_revoke_of_a_future_key_keeps_the_one_that_signs(client: FlaskClient, app: Flask) -> None:
    token = sign_in(client)
    [first] = published(client)
    run(app, "rotate")
    [second] = set(published(client)) - {first}

    assert run(app, "revoke", second).output == f"Revoked: {second}\n"

    assert set(published(client)) == {first}
    assert client.get("/pets", headers=bearer(token)).status_code == 200


def pem_files(folder: Path, kid: str) -> list[Path]:
    return sorted(folder.glob(f"*-{kid}.pem"))


@pytest.mark.parametrize("seconds", [-60, 60], ids=["an earlier", "a later"])
def test_revoke_deletes_every_copy_of_the_key(
    client: FlaskClient, app: Flask, folder: Path, clock: Clock, seconds: int
) -> None:
    """Under another activation, as an operator may have copied it."""
    stolen = sign_in(client)
    [first] = published(client)
    [path] = pem_files(folder, first)
    shutil.copy2(path, folder / f"{int(clock()) + seconds}-{first}.pem")
    assert set(published(client)) == {first}

    done = run(app, "revoke", first)

    [second] = published(client)
    assert done.output == f"Revoked: {first}\nAdded: {second} signs from now on\n"
    assert pem_files(folder, first) == []
    clock.advance(120)
    assert kid_of(sign_in(client)) == second
    assert client.get("/pets", headers=bearer(stolen)).text == "Forged token."


def test_revoke_replaces_a_copy_that_signs_beside_another_key(
    client: FlaskClient, app: Flask, folder: Path, clock: Clock
) -> None:
    [first] = published(client)
    run(app, "rotate")
    [second] = set(published(client)) - {first}
    clock.advance(2 * 600 + 1)
    [path] = pem_files(folder, first)
    shutil.copy2(path, folder / f"{int(clock())}-{first}.pem")
    assert kid_of(sign_in(client)) == first

    run(app, "revoke", first)

    [third] = set(published(client)) - {second}
    assert kid_of(sign_in(client)) == third


def test_the_new_key_exists_before_the_stolen_one_is_deleted(
    client: FlaskClient, app: Flask, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that there is always a key that signs."""
    [first] = published(client)
    at_deletion: list[set[str]] = []
    unlink = Path.unlink

    def record_and_unlink(path: Path, *, missing_ok: bool = False) -> None:
        at_deletion.append(set(published(client)))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", record_and_unlink)
    run(app, "revoke", first)

    [second] = published(client)
    assert at_deletion == [{first, second}]


def test_list_shows_which_key_signs(client: FlaskClient, app: Flask, clock: Clock) -> None:
    [first] = published(client)
    run(app, "rotate")
    [second] = set(published(client)) - {first}

    def states() -> dict[str, str]:
        lines = [line.split(maxsplit=2) for line in run(app, "list").stdout.splitlines()[2:]]
        return {kid: state for kid, _, state in lines}

    assert states() == {first: "signs", second: "next"}
    clock.advance(2 * 600)
    assert states() == {first: "verifies", second: "signs"}


def test_list_as_pem_prints_public_keys_that_verify_tokens(client: FlaskClient, app: Flask) -> None:
    token = sign_in(client)
    run(app, "rotate")

    printed = run(app, "list", "--pem").stdout

    assert "PRIVATE" not in printed
    by_kid = dict(re.findall(r"^# (\S+)\n(-----BEGIN PUBLIC KEY-----[^#]*)", printed, re.MULTILINE))
    assert by_kid.keys() == published(client).keys()
    algorithm = jwt.get_unverified_header(token)["alg"]
    jwt.decode(
        token,
        by_kid[kid_of(token)],
        [algorithm],
        options={"verify_aud": False, "verify_exp": False},
    )


def test_only_the_owner_can_read_key_files(app: Flask, folder: Path) -> None:
    run(app, "rotate")

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert {path.suffix for path in folder.iterdir()} == {".pem"}


def pem(private: Any, encryption: Any = None) -> bytes:
    written: bytes = private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()
    )
    return written


WEAK_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - quick to generate
ON_A_CURVE_OF_1999 = b"""\
-----BEGIN PRIVATE KEY-----
ME4CAQAwEAYHKoZIzj0CAQYFK4EEAAYENzA1AgEBBA6xCXMMSQKtKBzlgP7OyaEg
Ax4ABECoISH15673YrmbYfquRtmDqVjKjwXF/LTmRB4=
-----END PRIVATE KEY-----
"""

WRONG: dict[str, tuple[bytes, str]] = {
    "a curve that nobody knows": (ON_A_CURVE_OF_1999, "not an unencrypted private key in PEM"),
    "no PEM": (b"x", "not an unencrypted private key in PEM"),
    "encrypted": (
        pem(ed25519.Ed25519PrivateKey.generate(), BestAvailableEncryption(b"x")),
        "not an unencrypted private key in PEM",
    ),
    "RSA for EdDSA": (pem(WEAK_RSA), "EdDSA needs an Ed25519 key."),
    "a curve for EdDSA": (pem(ec.generate_private_key(ec.SECP256R1())), "EdDSA needs an Ed25519"),
    "another kid": (pem(ed25519.Ed25519PrivateKey.generate()), "Its kid is "),
}


@pytest.mark.parametrize("kind", WRONG)
def test_an_unusable_key_is_one_line_and_no_start(
    make_app: MakeApp, database: Database, folder: Path, kind: str
) -> None:
    content, why = WRONG[kind]
    folder.mkdir(mode=0o700)
    path = folder / f"0-{'x' * 43}.pem"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(ConfigurationError) as caught:
        make_app(jwt_algorithm="EdDSA", jwt_keys_dir=folder)

    [mistake] = caught.value.mistakes
    assert mistake.startswith(f"The key {path} can't be used: ")
    assert why in mistake


@pytest.mark.parametrize(
    ("algorithm", "private", "why"),
    [
        ("ES256", ec.generate_private_key(ec.SECP384R1()), "ES256 needs a key on the curve P-256."),
        ("ES256", ed25519.Ed25519PrivateKey.generate(), "ES256 needs a key on the curve P-256."),
        (
            "RS256",
            ed25519.Ed25519PrivateKey.generate(),
            "RS256 needs an RSA key of at least 3072 bits.",
        ),
        (
            "RS256",
            WEAK_RSA,
            "RS256 needs an RSA key of at least 3072 bits.",
        ),
    ],
)
def test_a_key_of_another_type_or_too_weak_is_refused(
    algorithm: str, private: Any, why: str
) -> None:
    with pytest.raises(keys.UnusableKey, match=f"{why} .*JWT_KEYS_DIR"):
        keys.load(algorithm, pem(private))


@pytest.mark.parametrize("mode", [0o604, 0o660, 0o620, 0o601])
def test_a_key_that_others_may_read_or_its_group_may_change_is_refused(
    app: Flask, make_app: MakeApp, folder: Path, algorithm: str, mode: int
) -> None:
    [path] = folder.iterdir()
    path.chmod(mode)

    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        make_app(jwt_algorithm=algorithm, jwt_keys_dir=folder)


@pytest.mark.parametrize("mode", [0o440, 0o640, 0o400])
def test_a_key_that_its_group_may_read_is_used(
    app: Flask, make_app: MakeApp, folder: Path, algorithm: str, mode: int
) -> None:
    [path] = folder.iterdir()
    path.chmod(mode)  # as Kubernetes mounts secrets
    client = make_app(jwt_algorithm=algorithm, jwt_keys_dir=folder).test_client()

    assert sign_in(client)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_not_a_file_is_refused_as_a_key(
    make_app: MakeApp, folder: Path, make: Callable[[Path, int], None]
) -> None:
    folder.mkdir(mode=0o700)
    make(folder / f"0-{'x' * 43}.pem", 0o600)

    with pytest.raises(ConfigurationError, match=r"can't be used: It is not a regular file\."):
        make_app(jwt_algorithm="EdDSA", jwt_keys_dir=folder)


def test_a_key_file_with_another_name_is_refused(
    app: Flask, make_app: MakeApp, folder: Path, algorithm: str
) -> None:
    [path] = folder.iterdir()
    path.rename(folder / "mine.pem")

    with pytest.raises(ConfigurationError, match="Its name is not"):
        make_app(jwt_algorithm=algorithm, jwt_keys_dir=folder)


def test_without_a_key_the_service_is_unavailable_and_logs_what_to_do(
    make_app: MakeApp, database: Database, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_app(jwt_algorithm="EdDSA", jwt_keys_dir=folder).test_client()

    for response in (client.post("/auth", data=CREDENTIALS), client.get("/readyz")):
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "2"
    assert f"The key folder {folder} can't be read: No such file or directory." in caplog.text
    folder.mkdir()
    assert client.get("/.well-known/jwks.json").status_code == 503
    assert f"There is no usable key in {folder}: run `keys rotate`." in caplog.text
    assert run(client.application, "rotate").exit_code == 0
    assert client.get("/readyz").status_code == 200


ATTACKERS: dict[str, Callable[[], Any]] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}


@every_algorithm
def test_a_token_signed_with_another_key_is_forged(client: FlaskClient, algorithm: str) -> None:
    """Also if it is embedded in the token, or of another algorithm."""
    good = sign_in(client)
    payload = jwt.decode(good, options={"verify_signature": False})
    own = ATTACKERS[algorithm]()
    [theirs] = published(client).values()
    public = jwt.PyJWK(theirs).key
    header = jwt.get_unverified_header(good)

    forged = [
        jwt.encode(payload, own, algorithm, header | {"kid": "x" * 43}),
        jwt.encode(payload, own, algorithm, header),
        jwt.encode(payload, own, algorithm, header | {"jwk": theirs}),
        jwt.encode(payload, own, algorithm, {"typ": "JWT"}),
        jwt.encode(payload, "x" * 32, "HS256", {"typ": "JWT"}),
        jwt.encode(payload, "x" * 32, "HS256", header | {"alg": "HS256"}),
        jwt.encode(payload, str(theirs).encode(), "HS256", header | {"alg": "HS256"}),
    ]
    assert public is not None
    for token in forged:
        assert client.get("/pets", headers=bearer(token)).text == "Forged token."


def test_a_key_file_that_is_completed_later_is_used_then(
    client: FlaskClient, app: Flask, folder: Path, algorithm: str, caplog: pytest.LogCaptureFixture
) -> None:
    [first] = published(client)
    run(app, "rotate")
    [second] = set(published(client)) - {first}
    [path] = folder.glob(f"*{second}.pem")
    content = path.read_bytes()
    other_worker = app.extensions[EXTENSION].tokens.keys.__class__(folder, algorithm)

    path.write_bytes(content[:50])  # as a copy from another host may be seen
    for _ in range(3):
        assert [key["kid"] for key in other_worker.jwks()] == [first]
    path.write_bytes(content)

    assert {key["kid"] for key in other_worker.jwks()} == {first, second}
    assert caplog.text.count("can't be used") == 1


def test_a_failed_refresh_without_keys_does_not_use_up_the_token(
    client: FlaskClient, folder: Path, clock: Clock, db: Connection
) -> None:
    tokens = client.post(
        "/auth", json=CREDENTIALS, headers={"Accept": "application/json"}
    ).get_json()
    body = {"refresh_token": tokens["refresh_token"]}
    away = folder.rename(folder.with_name("away"))
    before = db.driver.execute("SELECT count(*) FROM sessions").fetchall()

    assert client.post("/auth/refresh", json=body).status_code == 503
    assert client.post("/auth", json=CREDENTIALS).status_code == 503
    away.rename(folder)
    clock.advance(60)

    assert db.driver.execute("SELECT count(*) FROM sessions").fetchall() == before
    assert client.post("/auth/refresh", json=body).status_code == 200


@pytest.mark.parametrize("mode", [0o777, 0o720])
def test_a_folder_that_others_can_write_to_is_refused(
    app: Flask, make_app: MakeApp, folder: Path, algorithm: str, mode: int
) -> None:
    if os.getuid() == 0:
        os.chown(folder, -1, 1)  # the group of root is not refused
    folder.chmod(mode)

    with pytest.raises(ConfigurationError, match=f"chmod 700 {folder}"):
        make_app(jwt_algorithm=algorithm, jwt_keys_dir=folder)


def test_a_folder_that_is_mounted_read_only_is_used_whatever_its_mode(
    app: Flask, make_app: MakeApp, folder: Path, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_flag=os.ST_RDONLY))
    folder.chmod(0o1777)
    client = make_app(jwt_algorithm=algorithm, jwt_keys_dir=folder).test_client()

    assert sign_in(client)


def test_a_key_folder_that_is_a_file_is_refused(make_app: MakeApp, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(ConfigurationError, match=r"can't be read: Not a directory\."):
        make_app(jwt_algorithm="EdDSA", jwt_keys_dir=tmp_path / "file")
