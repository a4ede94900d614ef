"""Bringing over the users and pets of the original server, a Koa app, from its SQLite file."""
