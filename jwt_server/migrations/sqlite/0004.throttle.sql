-- Rate limits, and the networks from which users have signed in: at first those of the sessions,
-- IPv4 only, as SQL can't compute the network of an IPv6 address.

CREATE TABLE throttle (
    key           TEXT    PRIMARY KEY,
    count         INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    blocked_until INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE INDEX throttle_by_expiry ON throttle (expires_at);

CREATE TABLE known_addresses (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network TEXT    NOT NULL,
    last_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, network)
) WITHOUT ROWID, STRICT;

CREATE INDEX known_addresses_by_age ON known_addresses (last_at);

INSERT INTO known_addresses (user_id, network, last_at)
SELECT user_id, address, max(created_at) FROM sessions
WHERE address <> '' AND address NOT LIKE '%:%'
GROUP BY user_id, address;

PRAGMA user_version = 4;
