-- A database as the first release left it: what `init-db` and `seed` had made, a pet deleted.
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    username      TEXT    NOT NULL,         -- as shown: NFKC
    username_key  TEXT    NOT NULL UNIQUE,  -- as compared: casefolded
    password_hash TEXT    NOT NULL,
    admin         INTEGER NOT NULL DEFAULT 0 CHECK (admin IN (0, 1)),
    created_at    INTEGER NOT NULL
) STRICT;
INSERT INTO users VALUES (
    1, 'travis', 'travis',
    '$bcrypt-sha256$v=2,t=2b,r=4$pu08ta2ZVTwDsBvTSxNRWe$Qugych/Ng13W6nKMTglUnvlbVV9UxS2',
    0, 1700000000
);
CREATE TABLE pets (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id    INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name       TEXT    NOT NULL,
    species    TEXT,
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO pets VALUES (1, 1, 'Bunny', 'dog', 1700000000);
INSERT INTO pets VALUES (2, 1, 'Ru', 'cat', 1700000000);
DELETE FROM pets WHERE id = 2;
CREATE INDEX pets_of_user ON pets (user_id, id);
PRAGMA application_id = 1786213491;
PRAGMA user_version = 1;
COMMIT;
