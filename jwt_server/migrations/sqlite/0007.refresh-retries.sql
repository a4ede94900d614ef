-- What tells a lost response from a stolen refresh token; unknown for older sessions.

ALTER TABLE sessions ADD COLUMN retry_key_hash BLOB;

ALTER TABLE sessions ADD COLUMN rotated_by_hash BLOB;

ALTER TABLE sessions ADD COLUMN raced INTEGER NOT NULL DEFAULT 0 CHECK (raced IN (0, 1));

PRAGMA user_version = 7;
