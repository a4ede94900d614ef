"""Administration: users, sessions, the audit log, statistics and keys."""
