"""Sign-in, sessions, rate limits, and the guard of routes for signed-in users."""
