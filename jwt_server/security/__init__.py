"""Passwords and tokens: pure code that knows neither Flask nor SQL."""
