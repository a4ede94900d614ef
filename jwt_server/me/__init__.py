"""Accounts over HTTP: sign-up, and what people do with their own."""
