"""The audit log: every change to accounts, sessions and keys, and every sign-in."""
