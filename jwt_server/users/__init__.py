"""Users: their names and their rows."""
