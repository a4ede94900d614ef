"""Users: their rows, usernames, accounts and export."""
