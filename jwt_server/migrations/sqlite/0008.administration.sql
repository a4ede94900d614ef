-- Custom claims, temporary passwords, and indexes for lists by name and by time.

ALTER TABLE users ADD COLUMN claims TEXT NOT NULL DEFAULT '{}';

ALTER TABLE users ADD COLUMN password_expires_at INTEGER;

CREATE INDEX admins_by_name ON users (username_key) WHERE admin = 1;

CREATE INDEX disabled_by_name ON users (username_key) WHERE disabled = 1;

DROP INDEX audit_of_user;

DROP INDEX audit_of_actor;

DROP INDEX audit_of_action;

DROP INDEX audit_by_age;

CREATE INDEX audit_of_user ON audit (user_id, at, id);

CREATE INDEX audit_of_actor ON audit (actor_id, at, id);

CREATE INDEX audit_of_action ON audit (action, at, id);

CREATE INDEX audit_by_age ON audit (at, id);

PRAGMA user_version = 8;
