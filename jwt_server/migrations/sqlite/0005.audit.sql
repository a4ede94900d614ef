-- The audit log.

CREATE TABLE audit (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    action   TEXT    NOT NULL,
    actor_id INTEGER,
    user_id  INTEGER,
    address  TEXT,
    details  TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_of_user ON audit (user_id, id);
CREATE INDEX audit_of_actor ON audit (actor_id);
CREATE INDEX audit_of_action ON audit (action, id);
CREATE INDEX audit_by_age ON audit (at);

PRAGMA user_version = 5;
