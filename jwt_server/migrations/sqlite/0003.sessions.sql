-- Sessions: opened by signing in, named by every token.

CREATE TABLE sessions (
    number           INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT    NOT NULL UNIQUE,
    user_id          INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    nonce            BLOB    NOT NULL,
    generation       INTEGER NOT NULL,
    refreshable      INTEGER NOT NULL CHECK (refreshable IN (0, 1)),
    created_at       INTEGER NOT NULL,
    rotated_at       INTEGER NOT NULL,
    last_used_at     INTEGER NOT NULL,
    authenticated_at INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    ends_at          INTEGER NOT NULL,
    ended_at         INTEGER,
    address          TEXT    NOT NULL,
    user_agent       TEXT    NOT NULL
) STRICT;

CREATE INDEX sessions_of_user ON sessions (user_id, expires_at);

CREATE INDEX sessions_by_expiry ON sessions (expires_at);

PRAGMA user_version = 3;
