# mypy: ignore-errors
"""Signs in, refreshes and loses a response with the Python client of docs/clients.md."""

import json
import re
from contextlib import suppress

import requests
import session

post = requests.post
keys = []


def lose_first_refresh(url, **options):
    response = post(url, **options)
    keys.append(options["json"]["retry_key"])
    if len(keys) == 1:
        raise requests.ConnectionError
    return response


def expire():
    session.save(json.loads(session.FILE.read_text()) | {"access_token": "expired"})


session.sign_in("travis", "mypassword")
assert session.call("GET", "/pets").json()[0]["name"] == "Bunny"
assert session.FILE.stat().st_mode & 0o777 == 0o600

requests.post = lose_first_refresh
expire()
with suppress(requests.ConnectionError):
    raise AssertionError(session.call("GET", "/pets"))
assert session.call("GET", "/pets").json()[0]["name"] == "Bunny"
expire()
assert session.call("GET", "/pets").status_code == 200
assert keys[0] == keys[1] != keys[2]
assert len(keys) == 3
assert all(re.fullmatch(r"[\w-]{22,64}", key) for key in keys)
