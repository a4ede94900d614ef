"""The service as a browser uses it."""
