# mypy: ignore-errors
"""Verifies tokens with each library. The argument is JSON, a list: an issuer, its audience, its
algorithm, its public key, a leeway, and tokens. Prints a line of JSON for each: by
library, the subject of each token, or "refused" with the reason.
"""

import json
import os
import sys

import django
import flask
import flask_jwt_extended
import jwt
import requests
from django.conf import settings
from jose import jwt as python_jose_jwt
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet


def pyjwt():
    keys = jwt.PyJWKClient(jwks_uri)
    return lambda token: jwt.decode(
        token, keys.get_signing_key_from_jwt(token),
        algorithms=[algorithm], issuer=issuer, audience=audience, leeway=leeway,
    )["sub"]  # fmt: skip


def python_jose():
    keys = requests.get(jwks_uri, timeout=10).json()
    return lambda token: python_jose_jwt.decode(
        token, keys, algorithms=[algorithm], issuer=issuer, audience=audience,
        options={"leeway": leeway},
    )["sub"]  # fmt: skip


def joserfc():
    keys = KeySet.import_key_set(requests.get(jwks_uri, timeout=10).json())
    rules = joserfc_jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": audience},
        exp={"essential": True},
        leeway=leeway,
    )

    def verify(token):
        claims = joserfc_jwt.decode(token, keys, algorithms=[algorithm]).claims
        rules.validate(claims)
        return claims["sub"]

    return verify


def simplejwt():
    settings.configure(
        SECRET_KEY="unused",
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
        SIMPLE_JWT={
            "ALGORITHM": algorithm, "JWK_URL": jwks_uri, "ISSUER": issuer, "AUDIENCE": audience,
            "USER_ID_CLAIM": "sub", "TOKEN_TYPE_CLAIM": None, "LEEWAY": leeway,
        },
    )  # fmt: skip
    django.setup()
    # These read the settings when they are imported.
    from rest_framework.test import APIRequestFactory  # noqa: PLC0415
    from rest_framework_simplejwt.authentication import (  # noqa: PLC0415
        JWTStatelessUserAuthentication,
    )

    def verify(token):
        request = APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {token}")
        user, _ = JWTStatelessUserAuthentication().authenticate(request)
        return user.id

    return verify


def jwt_extended():
    app = flask.Flask(__name__)
    app.config |= {
        "JWT_ALGORITHM": algorithm, "JWT_PUBLIC_KEY": given["public_key"],
        "JWT_DECODE_ISSUER": issuer, "JWT_DECODE_AUDIENCE": audience,
        "JWT_DECODE_LEEWAY": leeway,
    }  # fmt: skip
    flask_jwt_extended.JWTManager(app)

    @app.get("/")
    @flask_jwt_extended.jwt_required()
    def subject():
        return flask_jwt_extended.get_jwt_identity()

    def verify(token):
        response = app.test_client().get("/", headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == 200, response.text
        return response.text

    return verify


def verdict(verify, token):
    try:
        return verify(token)
    except Exception as error:  # noqa: BLE001 - each library has its own
        return f"refused: {error!r}"


def verdicts(make_verifier):
    verify = make_verifier()
    return [verdict(verify, token) for token in given["tokens"]]


libraries = {
    "PyJWT": pyjwt,
    "python-jose": python_jose,
    "joserfc": joserfc,
    "djangorestframework-simplejwt": simplejwt,
    "flask-jwt-extended": jwt_extended,
}
for given in json.loads(sys.argv[1]):
    issuer, audience, algorithm = given["issuer"], given["audience"], given["algorithm"]
    leeway = given["leeway"]
    jwks_uri = f"{issuer}/.well-known/jwks.json"
    child = os.fork()  # a process for each issuer, as Django reads its settings once
    if child == 0:
        print(json.dumps({name: verdicts(libraries[name]) for name in libraries}))
        break
    os.waitpid(child, 0)
