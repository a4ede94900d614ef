-- What a new SQLite database gets, run once by `flask init-db` in one transaction. An older
-- one gets there by migrations/*.sql: a change is made in both places, and a test compares.
-- Times are whole seconds since 1970 in UTC. AUTOINCREMENT: an id is never handed
-- out again, so a token of a deleted user can not become someone else's.

CREATE TABLE users (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    username        TEXT    NOT NULL,         -- as shown: NFKC
    username_key    TEXT    NOT NULL UNIQUE,  -- as compared: casefolded
    password_hash   TEXT    NOT NULL,
    admin           INTEGER NOT NULL DEFAULT 0 CHECK (admin IN (0, 1)),
    created_at      INTEGER NOT NULL,
    disabled        INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    last_sign_in_at INTEGER
) STRICT;

-- Whether there is another enabled admin is asked before one goes.
CREATE INDEX enabled_admins ON users (admin) WHERE admin = 1 AND disabled = 0;

-- Signing in opens a session, which every token names and which can be ended. Its refresh
-- tokens are made of the generation and the nonce, and of a secret that is not in here.
CREATE TABLE sessions (
    number           INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order in which they were opened
    id               TEXT    NOT NULL UNIQUE,            -- random: what tokens name
    user_id          INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    nonce            BLOB    NOT NULL,
    generation       INTEGER NOT NULL,  -- of the newest refresh token
    refreshable      INTEGER NOT NULL CHECK (refreshable IN (0, 1)),
    created_at       INTEGER NOT NULL,
    rotated_at       INTEGER NOT NULL,  -- when that token was made
    last_used_at     INTEGER NOT NULL,
    authenticated_at INTEGER NOT NULL,  -- when a password was given
    expires_at       INTEGER NOT NULL,  -- unless it is refreshed; when it ended, where it has
    ends_at          INTEGER NOT NULL,  -- whatever happens
    ended_at         INTEGER,
    address          TEXT    NOT NULL,
    user_agent       TEXT    NOT NULL
) STRICT;

-- A user's live sessions are found past the dead ones, however many these are.
CREATE INDEX sessions_of_user ON sessions (user_id, expires_at);

-- Dead sessions are cleared away by their age.
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- Tries at passwords, sign-ups and refreshes, counted. A key is a keyed hash where a name or an
-- address is in it: people type passwords for names.
CREATE TABLE throttle (
    key           TEXT    PRIMARY KEY,
    count         INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,  -- when all of it is forgotten
    blocked_until INTEGER NOT NULL   -- 0 where nothing is refused
) WITHOUT ROWID, STRICT;

-- What is over is cleared away by its age.
CREATE INDEX throttle_by_expiry ON throttle (expires_at);

-- From where a user has signed in: there no stranger's failures keep the user out.
CREATE TABLE known_addresses (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network TEXT    NOT NULL,  -- an IPv4 address, or the /64 of an IPv6 one
    last_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, network)
) WITHOUT ROWID, STRICT;

CREATE INDEX known_addresses_by_age ON known_addresses (last_at);

-- Who did what to whom. Outlives its users, so their ids refer to nothing.
CREATE TABLE audit (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    action   TEXT    NOT NULL,
    actor_id INTEGER,  -- null: a stranger, or the operator
    user_id  INTEGER,  -- null: nobody, or a name that nobody has
    address  TEXT,   -- null: the operator, or stripped as the user was deleted
    details  TEXT    NOT NULL      -- a JSON object
) STRICT;

CREATE INDEX audit_of_user ON audit (user_id, id);
CREATE INDEX audit_of_actor ON audit (actor_id);
CREATE INDEX audit_of_action ON audit (action, id);

-- Rows go when they are too old.
CREATE INDEX audit_by_age ON audit (at);

CREATE TABLE pets (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id    INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name       TEXT    NOT NULL,
    species    TEXT,
    created_at INTEGER NOT NULL
) STRICT;

-- A user's pets are always read in id order.
CREATE INDEX pets_of_user ON pets (user_id, id);
