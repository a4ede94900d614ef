"""Flask with Flask-JWT-Extended, as its documentation loads users."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import bcrypt
from flask import Flask, Response, abort, jsonify, request
from flask_jwt_extended import JWTManager, create_access_token, current_user, jwt_required

from bench.peers import common

app = Flask(__name__)
app.config["JWT_SECRET_KEY"] = os.environ["JWT_SECRET"]
app.config["JWT_ACCESS_TOKEN_EXPIRES"] = timedelta(seconds=common.TOKEN_SECONDS)
jwt = JWTManager(app)


@jwt.user_lookup_loader
def load_user(_header: dict[str, Any], claims: dict[str, Any]) -> Any:
    """The row of the token's user; None refuses."""
    user = common.user_of_id(int(claims["sub"]))
    return None if user is None or user["disabled"] else user


@app.post("/auth")
def sign_in() -> str:
    """A token for a name and a password."""
    user = common.user_of_name(request.form["username"])
    password = request.form["password"].encode()
    if user is None or not bcrypt.checkpw(password, user["password_hash"].encode()):
        abort(401)
    return str(create_access_token(identity=str(user["id"])))


@app.get("/my-pets")
@jwt_required()
def my_pets() -> Response:
    """The caller's pets."""
    return jsonify(common.pets_of(current_user["id"]))
