-- The tables of a new SQLite database, created by `flask init-db` in one transaction. Older
-- databases are upgraded by jwt_server/migrations/: change both, a test compares the results.
-- Times are Unix times in seconds. AUTOINCREMENT never uses an id twice, so that a token of a
-- deleted user can't become another user's.

CREATE TABLE users (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    username        TEXT    NOT NULL,         -- as shown, in NFKC
    username_key    TEXT    NOT NULL UNIQUE,  -- as compared, casefolded
    password_hash   TEXT    NOT NULL,
    admin           INTEGER NOT NULL DEFAULT 0 CHECK (admin IN (0, 1)),
    created_at      INTEGER NOT NULL,
    disabled        INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    last_sign_in_at INTEGER,
    claims          TEXT    NOT NULL DEFAULT '{}',  -- a JSON object, in each access token
    password_expires_at INTEGER               -- null unless the password is temporary
) STRICT;

-- Finds another enabled admin before one is demoted, disabled or deleted.
CREATE INDEX enabled_admins ON users (admin) WHERE admin = 1 AND disabled = 0;

-- Lists of admins and of disabled users.
CREATE INDEX admins_by_name ON users (username_key) WHERE admin = 1;
CREATE INDEX disabled_by_name ON users (username_key) WHERE disabled = 1;

-- Sessions: opened by signing in, named by every token. A refresh token is made from the
-- generation, the nonce, and a secret that is not in the database.
CREATE TABLE sessions (
    number           INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order in which they were opened
    id               TEXT    NOT NULL UNIQUE,            -- random, in the tokens
    user_id          INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    nonce            BLOB    NOT NULL,
    generation       INTEGER NOT NULL,  -- of the newest refresh token
    refreshable      INTEGER NOT NULL CHECK (refreshable IN (0, 1)),
    created_at       INTEGER NOT NULL,
    rotated_at       INTEGER NOT NULL,  -- when that token was issued
    last_used_at     INTEGER NOT NULL,
    authenticated_at INTEGER NOT NULL,  -- when the password was last checked
    expires_at       INTEGER NOT NULL,  -- unless refreshed; if ended, when it ended
    ends_at          INTEGER NOT NULL,  -- even if refreshed
    ended_at         INTEGER,
    address          TEXT    NOT NULL,
    user_agent       TEXT    NOT NULL,
    client_id        TEXT    NOT NULL DEFAULT '', -- as sent at /auth/token; proves nothing
    retry_key_hash   BLOB,                        -- of the newest refresh; null without a key
    rotated_by_hash  BLOB,                        -- of its client; null matches any
    raced            INTEGER NOT NULL DEFAULT 0 CHECK (raced IN (0, 1))  -- and another key was shown
) STRICT;

-- Finds a user's active sessions without reading the others.
CREATE INDEX sessions_of_user ON sessions (user_id, expires_at);

-- For pruning.
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- The counts of rate limits. Usernames and addresses in a key are keyed hashes, because people
-- type passwords for usernames.
CREATE TABLE throttle (
    key           TEXT    PRIMARY KEY,
    count         INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,  -- when the count starts again
    blocked_until INTEGER NOT NULL   -- 0 if no attempt is refused
) WITHOUT ROWID, STRICT;

-- For pruning.
CREATE INDEX throttle_by_expiry ON throttle (expires_at);

-- Networks from which a user has signed in. Failed attempts from elsewhere don't lock these out.
CREATE TABLE known_addresses (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network TEXT    NOT NULL,  -- an IPv4 address, or the /64 of an IPv6 one
    last_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, network)
) WITHOUT ROWID, STRICT;

-- For pruning.
CREATE INDEX known_addresses_by_age ON known_addresses (last_at);

-- The audit log. Rows outlive the users in them, so the ids are not foreign keys.
CREATE TABLE audit (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    action   TEXT    NOT NULL,
    actor_id INTEGER,  -- null if nobody was signed in, or for the operator
    user_id  INTEGER,  -- null if no user is concerned, or the username is unknown
    address  TEXT,     -- null for the operator, or if the user has been deleted
    details  TEXT NOT NULL  -- a JSON object
) STRICT;

-- Pages of each selection, newest first, in a range of time.
CREATE INDEX audit_of_user ON audit (user_id, at, id);
CREATE INDEX audit_of_actor ON audit (actor_id, at, id);
CREATE INDEX audit_of_action ON audit (action, at, id);
CREATE INDEX audit_by_age ON audit (at, id);

CREATE TABLE pets (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id    INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name       TEXT    NOT NULL,
    species    TEXT,
    created_at INTEGER NOT NULL
) STRICT;

-- Finds a user's pets, in the order of their ids.
CREATE INDEX pets_of_user ON pets (user_id, id);
