-- What a new SQLite database gets, run once by `flask init-db` in one transaction.
-- Times are whole seconds since 1970 in UTC. AUTOINCREMENT: an id is never handed
-- out again, so a token of a deleted user can not become someone else's.

CREATE TABLE users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    username      TEXT    NOT NULL,         -- as shown: NFKC
    username_key  TEXT    NOT NULL UNIQUE,  -- as compared: casefolded
    password_hash TEXT    NOT NULL,
    admin         INTEGER NOT NULL DEFAULT 0 CHECK (admin IN (0, 1)),
    created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE pets (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id    INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name       TEXT    NOT NULL,
    species    TEXT,
    created_at INTEGER NOT NULL
) STRICT;

-- A user's pets are always read in id order.
CREATE INDEX pets_of_user ON pets (user_id, id);
