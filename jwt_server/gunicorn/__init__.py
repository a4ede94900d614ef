"""gunicorn: its configuration, worker, logger and the metrics server."""
