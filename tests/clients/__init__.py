"""Clients, generators and verifiers of others, with the service as it runs."""
