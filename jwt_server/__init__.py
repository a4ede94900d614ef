"""jwt-server: a small login service for browser front ends. Importing this imports nothing else."""

__version__ = "0.1.0"
