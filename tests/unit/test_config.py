"""Settings: defaults, sources, and one line for each mistake."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jwt_server.config import load_settings
from jwt_server.errors import ConfigurationError
from tests.helpers.app import MakeApp
from tests.helpers.factories import CREDENTIALS, bearer
from tests.helpers.server import BASE_ENVIRONMENT

Environment = pytest.MonkeyPatch


@pytest.fixture
def env(monkeypatch: Environment) -> Environment:
    """An environment with good secrets and nothing else."""
    for name, value in BASE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def mistakes() -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value) == "\n".join(caught.value.mistakes)
    return caught.value.mistakes


def test_defaults_match_the_contract(env: Environment, tmp_path: Path) -> None:
    settings = load_settings()

    assert (settings.host, settings.port) == ("localhost", 3000)
    assert settings.database == tmp_path / "instance" / "jwt-server.db"
    assert settings.salt_rounds == 12
    assert settings.jwt_issuer == settings.jwt_audience == "jwt-server"
    assert (settings.access_token_ttl, settings.text_token_ttl) == (900, 43200)
    assert settings.cors_origins == ("*",)
    assert settings.jwt_secrets == (BASE_ENVIRONMENT["JWT_SECRET"].encode(),)


def test_settings_are_read_from_the_environment(env: Environment, tmp_path: Path) -> None:
    for name, value in {
        "HOST": "::1",
        "PORT": "8080",
        "WORKERS": "3",
        "SALT_ROUNDS": "10",
        "DATABASE_URL": "sqlite:////var/lib/x.db",
        "JWT_ISSUER": "https://login.example.com",
        "JWT_KEYS_DIR": "keys",
        "ACCESS_TOKEN_TTL": "60",
        "TEXT_TOKEN_TTL": "3600",
        "SCRIPT_NAME": "/.accounts/login..",
        "CORS_ORIGINS": "https://app.example.com, http://localhost:5173, http://[::1]:65535",
        "JWT_SECRET_PREVIOUS": f"{'p' * 32}, {'q' * 32}\n",
    }.items():
        env.setenv(name, value)

    settings = load_settings()

    assert (settings.host, settings.port) == ("::1", 8080)
    assert settings.workers == 3
    assert settings.salt_rounds == 10
    assert settings.database == Path("/var/lib/x.db")
    assert settings.jwt_audience == settings.jwt_issuer == "https://login.example.com"
    assert settings.jwt_keys_dir == tmp_path / "keys"
    assert (settings.access_token_ttl, settings.text_token_ttl) == (60, 3600)
    assert settings.script_name == "/.accounts/login.."
    assert settings.cors_origins == (
        "https://app.example.com",
        "http://localhost:5173",
        "http://[::1]:65535",
    )
    assert settings.jwt_secrets[1:] == (b"p" * 32, b"q" * 32)


def test_missing_secrets_are_refused(tmp_path: Path) -> None:
    found = mistakes()

    assert len(found) == 2
    for name, line in zip(("SECRET_KEY", "JWT_SECRET"), found, strict=True):
        assert line.startswith(f"{name}: Missing, and there is no default.")
        assert "make run" in line


MISTAKES: dict[str, tuple[str, ...]] = {
    "PORT": ("", "0", "65536", "http", "3_000", "+3000", " 3000", "٣٠٠٠"),
    "HOST": (
        "", "[::1]", "127.0.0.1:80", "localhost:80", "exa mple", "unix:",
        "unix:run/x", "unix:/run/x\ny",
    ),
    "WORKERS": ("0",),
    "WEB_CONCURRENCY": ("", "auto"),
    "KEEP_ALIVE": ("0", "7201"),
    "TRUSTED_PROXIES": ("11",),
    "SCRIPT_NAME": (
        "login", "/login/", "/", "//login", "/log in", "/a/../login", "/login/.", "/log%69n",
        "https://example.com/login",
    ),
    "DATABASE_URL": (
        "mysql://localhost/x", "sqlite://x.db", "sqlite:///", "sqlite:///x.db?mode=ro",
        "sqlite:///:memory:",
    ),
    "SALT_ROUNDS": ("3", "32", "12.5"),
    "JWT_KEYS_DIR": ("",),
    "JWT_ISSUER": ("", "é", "x" * 256),
    "JWT_AUDIENCE": ("",),
    "ACCESS_TOKEN_TTL": ("0",),
    "TEXT_TOKEN_TTL": ("-1", "31536001"),
    "THROTTLE_PAIR": ("0",),
    "THROTTLE_ACCOUNT": ("1000001",),
    "THROTTLE_ADDRESS": ("many",),
    "HASH_CONCURRENCY": ("0",),
    "HASH_QUEUE": ("-1",),
    "HASH_WAIT": ("301",),
    "LOG_FORMAT": ("xml",),
    "METRICS_HOST": ("", "unix:/run/metrics"),
    "METRICS_PORT": ("65536", "3000"),
    "CORS_ORIGINS": (
        "", ",", "*,https://app.example.com", "https://app.example.com/", "https://App.example.com",
        "app.example.com", "https://user@app.example.com", "null", "http://[", "https://münchen.de",
        "http://app.example.com:abc", "https://*.example.com", "https://app.example.com:443",
        "https://app.example.com:", "https://app.example.com:08443",
        "https://exa mple.com", "http://a\\b", "https://App_1.example.com",
        "app://user@host", "app://", "app:x", "App://x", "file://",
        "app://-/", "app://-/index.html", "app://- x", "app://-?", "app://-#", "app://-:",
        "app://-:0", "app://-%20",
    ),
    "SECRET_KEY": ("",),
    "JWT_SECRET": ("short",),
    "JWT_SECRET_FILE": ("", "/dev/null"),
    "JWT_SECRET_PREVIOUS": ("short", f"{'p' * 32},{'q' * 31}", f"ssh-rsa {'x' * 64}"),
    "JWT_SECRET_PREVIOUS_FILE": ("/nowhere",),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in MISTAKES.items() for value in values]
)
def test_a_mistake_is_one_line_that_names_the_setting(
    env: Environment, name: str, value: str
) -> None:
    if name.endswith("_FILE"):
        env.delenv(name.removesuffix("_FILE"), raising=False)
    env.setenv(name, value)

    [line] = mistakes()

    assert line.startswith(f"{name.removesuffix('_FILE')}: ")
    assert "\n" not in line
    if "SECRET" in name:
        assert not value or value.startswith("/") or value not in line.split()


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("PORT", "http", True),
        ("HOST", "exa mple", True),
        ("LOG_FORMAT", "xml", True),
        ("CORS_ORIGINS", "https://App.example.com", True),
        ("JWT_SECRET", "short", False),
        ("SECRET_KEY_PREVIOUS", "short", False),
        ("DATABASE_URL", "mysql://user:password@host/x", False),
    ],
)
def test_the_value_is_shown_unless_it_may_be_secret(
    env: Environment, name: str, value: str, shown: bool
) -> None:
    env.setenv(name, value)

    [line] = mistakes()

    assert (value in line) is shown


def test_all_mistakes_are_reported_at_once(env: Environment) -> None:
    for name in ("PORT", "SALT_ROUNDS", "DATABASE_URL", "JWT_SECRET"):
        env.setenv(name, "wrong")

    assert len(mistakes()) == 4


@pytest.mark.parametrize(("rounds", "warns"), [(9, True), (10, False), (15, False), (16, True)])
def test_unwise_salt_rounds_are_warned_about(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, rounds: int, warns: bool
) -> None:
    make_app(salt_rounds=rounds)

    assert ("SALT_ROUNDS" in caplog.text) == warns


def test_a_secret_may_come_from_a_file(env: Environment, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{'s' * 32}\n")
    env.delenv("JWT_SECRET")
    env.setenv("JWT_SECRET_FILE", str(path))

    assert load_settings().jwt_secrets == (b"s" * 32,)


def test_a_secret_and_its_file_together_are_refused(env: Environment) -> None:
    env.setenv("JWT_SECRET_FILE", "/dev/null")
    env.setenv("JWT_SECRET", "s" * 32)

    assert mistakes() == ("JWT_SECRET: JWT_SECRET_FILE is set, too: keep one of them.",)


def test_an_unreadable_secret_file_is_refused(env: Environment, tmp_path: Path) -> None:
    env.delenv("JWT_SECRET")
    env.setenv("JWT_SECRET_FILE", str(tmp_path))

    [line] = mistakes()

    assert line.startswith("JWT_SECRET: The file can't be read: ")


@pytest.mark.parametrize(
    ("encoding", "form"),
    [(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
     (Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
     (Encoding.OpenSSH, PublicFormat.OpenSSH)],
    ids=["PEM", "DER", "OpenSSH"],
)  # fmt: skip
def test_a_key_file_is_refused_as_a_secret(
    env: Environment, tmp_path: Path, encoding: Encoding, form: PublicFormat
) -> None:
    path = tmp_path / "key"
    path.write_bytes(Ed25519PrivateKey.generate().public_key().public_bytes(encoding, form))
    env.delenv("JWT_SECRET")
    env.setenv("JWT_SECRET_FILE", str(path))

    [line] = mistakes()

    assert line.startswith("JWT_SECRET: ")


def test_the_environment_overrides_the_dotenv_file(env: Environment, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=4000\nSALT_ROUNDS=11\n")
    env.setenv("PORT", "5000")

    settings = load_settings()

    assert (settings.port, settings.salt_rounds) == (5000, 11)


@pytest.mark.parametrize(
    "line", ["PORT: 4000", "PORT 4000", 'PORT="4000', "=x", "PORT:4000", "PORT='1\n2'3"]
)
def test_an_invalid_dotenv_line_is_refused_without_its_text(
    env: Environment, tmp_path: Path, line: str
) -> None:
    before = "# a comment\nexport HOST=::1\n\n"
    (tmp_path / ".env").write_text(f"{before}{line}\nSALT_ROUNDS=11\n")

    [found] = mistakes()

    number = 4 + line.count("\n")
    assert found == f".env: Line {number} is not NAME=value, or has an unmatched quote."


def test_a_generated_secret_is_not_read_if_the_setting_is_given(
    env: Environment, tmp_path: Path
) -> None:
    (tmp_path / "instance").write_text("no folder")

    assert load_settings().jwt_secrets == (BASE_ENVIRONMENT["JWT_SECRET"].encode(),)
    env.delenv("JWT_SECRET")
    [line] = mistakes()
    assert line.startswith("JWT_SECRET: The file can't be read: ")


@pytest.mark.parametrize("content", [None, b"PORT=\xff", b"PORT=\0"], ids=["folder", "FF", "NUL"])
def test_an_unreadable_dotenv_file_is_one_line(
    env: Environment, tmp_path: Path, content: bytes | None
) -> None:
    if content is None:
        (tmp_path / ".env").mkdir()
    else:
        (tmp_path / ".env").write_bytes(content)

    [line] = mistakes()

    assert line.startswith(".env: The file can't be read: ")


@pytest.mark.usefixtures("database")
def test_a_token_with_the_longest_issuer_is_accepted(env: Environment, make_app: MakeApp) -> None:
    env.setenv("JWT_ISSUER", "&" * 255)
    longest = load_settings().jwt_issuer
    client = make_app(jwt_issuer=longest, jwt_audience=longest).test_client()
    token = client.post("/auth", data=CREDENTIALS).text

    assert client.get("/my-pets", headers=bearer(token)).status_code == 200


def test_secrets_are_not_in_the_repr(env: Environment) -> None:
    shown = repr(load_settings())

    for value in BASE_ENVIRONMENT.values():
        assert value not in shown


def test_a_unix_socket_requires_a_trusted_proxy(env: Environment) -> None:
    env.setenv("HOST", "unix:/run/jwt-server/http.sock")

    [line] = mistakes()
    assert line.startswith("TRUSTED_PROXIES: ")
    env.setenv("TRUSTED_PROXIES", "1")
    assert load_settings().host == "unix:/run/jwt-server/http.sock"


ORIGINS = (
    "capacitor://localhost", "ionic://localhost", "tauri://localhost", "http://tauri.localhost",
    "chrome-extension://mhjfbmdgcfjbbpaeojofohoefgiehjai", "app://-", "app://.",
    "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc",
    "safari-web-extension://E4E6F2C0-7F1B-4E5A-9B57-0C1B5D0E6E11",
    "http://my_app.internal:8080", "https://_x.example.com",
)  # fmt: skip


@pytest.mark.usefixtures("database")
def test_origins_of_browsers_and_app_shells_are_accepted(
    env: Environment, make_app: MakeApp
) -> None:
    env.setenv("CORS_ORIGINS", ",".join(ORIGINS))
    client = make_app(cors_origins=load_settings().cors_origins).test_client()
    for origin in ORIGINS:
        allowed = client.get("/healthz", headers={"Origin": origin})
        refused = client.get("/healthz", headers={"Origin": f"{origin}x"})

        assert allowed.headers["Access-Control-Allow-Origin"] == origin
        assert "Access-Control-Allow-Origin" not in refused.headers


@pytest.mark.parametrize("spoil", ["{}\r", '"{}"', "'{}'", '"{}', "{}'"])
def test_quotes_and_carriage_returns_are_refused_and_shown(env: Environment, spoil: str) -> None:
    for name, value in (("PORT", "3000"), ("JWT_ISSUER", "issuer"), ("JWT_KEYS_DIR", "keys")):
        with env.context() as spoiled:
            spoiled.setenv(name, spoil.format(value))

            [line] = mistakes()

        assert line.startswith(f"{name}: ")
        assert repr(spoil.format(value)) in line
        assert "\r" not in line


@pytest.mark.parametrize("spoiled", ["sqlite:///x.db\r", '"postgresql://u:hunter2@h/x"'])
def test_quotes_around_a_database_are_refused_and_not_shown(env: Environment, spoiled: str) -> None:
    env.setenv("DATABASE_URL", spoiled)

    [line] = mistakes()

    assert line.startswith("DATABASE_URL: It has quotes")
    assert "x" not in line.removeprefix("DATABASE_URL: ")
    assert "hunter2" not in line


@pytest.mark.parametrize("is_file", [False, True], ids=["variable", "file"])
def test_line_ends_behind_a_secret_are_ignored(
    env: Environment, tmp_path: Path, is_file: bool
) -> None:
    secret, previous = secrets.token_urlsafe(32), [secrets.token_urlsafe(32) for _ in range(2)]
    for variable, text in (("JWT_SECRET", secret), ("JWT_SECRET_PREVIOUS", ",".join(previous))):
        env.delenv(variable, raising=False)
        path = tmp_path / variable
        path.write_bytes(f"{text}\r\n\n".encode())
        env.setenv(
            f"{variable}_FILE" if is_file else variable, str(path) if is_file else f"{text}\r\n"
        )

    settings = load_settings()

    assert settings.jwt_secrets == tuple(each.encode() for each in (secret, *previous))
    assert settings.warnings == []


@pytest.mark.parametrize("is_file", [False, True], ids=["variable", "file"])
@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("name", ["SECRET_KEY", "JWT_SECRET_PREVIOUS"])
def test_quotes_around_a_secret_are_refused_and_not_shown(
    env: Environment, tmp_path: Path, name: str, quote: str, is_file: bool
) -> None:
    secret = secrets.token_urlsafe(32)
    lists = [f"{{0}}{secret},{secret}{{0}}", f"{secret},{{0}}{secret}{{0}}"]
    for text in [f"{{0}}{secret}{{0}}\r\n", *(lists if "PREVIOUS" in name else [])]:
        (tmp_path / "secret").write_text(text.format(quote))
        env.delenv(name, raising=False)
        env.setenv(
            f"{name}_FILE" if is_file else name,
            str(tmp_path / "secret") if is_file else text.format(quote),
        )

        assert mistakes() == (f"{name}: There are quotes around it: remove them.",)


def test_a_quote_inside_of_a_secret_belongs_to_it(env: Environment) -> None:
    secret = f"'{'s' * 16}\"{'t' * 16}"
    env.setenv("JWT_SECRET", secret)

    assert load_settings().jwt_secrets == (secret.encode(),)
