"""Signing in, and the guard that lets only the signed-in through."""
