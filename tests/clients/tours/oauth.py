# mypy: ignore-errors
"""Signs in and refreshes with OAuth 2.0 libraries; the argument is the URL."""

import os
import sys

from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from oauthlib.oauth2 import LegacyApplicationClient
from requests_oauthlib import OAuth2Session

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # HTTP, in this test only
url = sys.argv[1]
user = {"username": "travis", "password": "mypassword"}

session = OAuth2Session(client=LegacyApplicationClient(client_id="my-app"))
first = session.fetch_token(f"{url}/auth/token", **user)
assert session.get(f"{url}/pets", timeout=10).json()[0]["name"] == "Bunny"
second = session.refresh_token(f"{url}/auth/token")
assert second["refresh_token"] != first["refresh_token"]
session.scope = ["pets"]
third = session.refresh_token(f"{url}/auth/refresh", client_id="my-app", client_secret="x")
assert third["refresh_token"] != second["refresh_token"]

session = AuthlibSession(
    "my-app", token_endpoint_auth_method="none", token_endpoint=f"{url}/auth/token"
)
first = session.fetch_token(grant_type="password", **user)
session.token["expires_at"] = 0  # the next request refreshes
assert session.get(f"{url}/pets").json()[0]["name"] == "Bunny"
assert session.token["refresh_token"] != first["refresh_token"]
assert "error" not in session.token
