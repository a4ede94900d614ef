"""The services that `make bench` compares this one with, each doing the same work.

Each takes `POST /auth` (a form with username and password; the hash is bcrypt of the same cost) and
gives a token, and takes `GET /my-pets` with that token: verify it, read its user, who must not be
disabled, and the user's pets from the same SQLite file. None keeps sessions, so none can end one.
"""
