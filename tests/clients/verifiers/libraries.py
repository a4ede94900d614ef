# mypy: ignore-errors
# ruff: noqa: PLC0415 - only the library that is named
"""Verifies tokens with the library named by the first argument. The second is JSON: the issuer, the
audience, the algorithm and the tokens. Prints for each token its subject, or "refused".
"""

import json
import sys

import requests

library, given = sys.argv[1], json.loads(sys.argv[2])
issuer, audience, algorithm = given["issuer"], given["audience"], given["algorithm"]
jwks_uri = f"{issuer}/.well-known/jwks.json"


def pyjwt():
    import jwt

    keys = jwt.PyJWKClient(jwks_uri)
    return lambda token: jwt.decode(
        token, keys.get_signing_key_from_jwt(token),
        algorithms=[algorithm], issuer=issuer, audience=audience,
    )["sub"]  # fmt: skip


def python_jose():
    from jose import jwt

    keys = requests.get(jwks_uri, timeout=10).json()
    return lambda token: jwt.decode(
        token, keys, algorithms=[algorithm], issuer=issuer, audience=audience
    )["sub"]


def joserfc():
    from joserfc import jwt
    from joserfc.jwk import KeySet

    keys = KeySet.import_key_set(requests.get(jwks_uri, timeout=10).json())
    rules = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": audience},
        exp={"essential": True},
    )

    def verify(token):
        claims = jwt.decode(token, keys, algorithms=[algorithm]).claims
        rules.validate(claims)
        return claims["sub"]

    return verify


def simplejwt():
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="unused",
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
        SIMPLE_JWT={
            "ALGORITHM": algorithm, "JWK_URL": jwks_uri, "ISSUER": issuer, "AUDIENCE": audience,
            "USER_ID_CLAIM": "sub", "TOKEN_TYPE_CLAIM": None,
        },
    )  # fmt: skip
    django.setup()
    from rest_framework.test import APIRequestFactory
    from rest_framework_simplejwt.authentication import JWTStatelessUserAuthentication

    def verify(token):
        request = APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {token}")
        user, _ = JWTStatelessUserAuthentication().authenticate(request)
        return user.id

    return verify


def flask_jwt_extended():
    import flask
    import flask_jwt_extended
    import jwt

    [key] = jwt.PyJWKClient(jwks_uri).get_signing_keys()
    app = flask.Flask(__name__)
    app.config |= {
        "JWT_ALGORITHM": algorithm, "JWT_PUBLIC_KEY": key.key,
        "JWT_DECODE_ISSUER": issuer, "JWT_DECODE_AUDIENCE": audience,
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


verify = globals()[library.lower().removeprefix("djangorestframework-").replace("-", "_")]()
for token in given["tokens"]:
    try:
        print(verify(token))
    except Exception as error:  # noqa: BLE001 - each library has its own
        print("refused")
        print(library, repr(error)[:200], file=sys.stderr)
