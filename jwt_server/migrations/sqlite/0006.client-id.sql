-- What a client calls itself at the token endpoint, for its access tokens (RFC 9068).

ALTER TABLE sessions ADD COLUMN client_id TEXT NOT NULL DEFAULT '';

PRAGMA user_version = 6;
