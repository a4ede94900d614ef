"""What is acknowledged stays, whatever is killed: `make torture`."""
