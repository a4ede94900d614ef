"""The tests: over HTTP, on a real database, at a clock that they move."""
