"""Running the service: its health and its logs."""
