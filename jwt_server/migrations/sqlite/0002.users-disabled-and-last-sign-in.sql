-- Users can be disabled, and show their last sign-in. The index finds another enabled admin.

ALTER TABLE users ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1));

ALTER TABLE users ADD COLUMN last_sign_in_at INTEGER;

CREATE INDEX enabled_admins ON users (admin) WHERE admin = 1 AND disabled = 0;

PRAGMA user_version = 2;
