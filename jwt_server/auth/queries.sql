-- Sessions and rate limits. A session is active until it ends or expires; its row is deleted later.

-- name: session_with_user(id)^
-- The session of an access token, with its user: all that decides whether a request is let through.
SELECT sessions.user_id, sessions.created_at, sessions.authenticated_at, sessions.expires_at,
       sessions.ended_at, users.username, users.admin, users.disabled, users.password_expires_at
FROM sessions JOIN users ON users.id = sessions.user_id
WHERE sessions.id = :id;

-- name: find_for_refresh(id)^
-- All that decides about a refresh.
SELECT sessions.id, sessions.user_id, nonce, client_id, generation, refreshable, rotated_at,
       retry_key_hash, rotated_by_hash, raced, sessions.expires_at, ends_at, ended_at,
       users.admin, users.disabled, users.claims, users.password_expires_at,
       coalesce(throttle.blocked_until, 0) AS blocked_until
FROM sessions JOIN users ON users.id = sessions.user_id
LEFT JOIN throttle ON throttle.key = 'refresh.' || sessions.id
WHERE sessions.id = :id;

-- name: insert(id, user_id, nonce, refreshable, now, expires_at, ends_at, address, user_agent, client_id)!
INSERT INTO sessions (
    id, user_id, nonce, generation, refreshable, created_at, rotated_at, last_used_at,
    authenticated_at, expires_at, ends_at, address, user_agent, client_id
) VALUES (
    :id, :user_id, :nonce, 1, :refreshable, :now, :now, :now,
    :now, :expires_at, :ends_at, :address, :user_agent, :client_id
);

-- name: rotate(id, generation, admin, claims, retry_key_hash, rotated_by_hash, expires_at, now)!
-- From this generation to the next. Changes nothing if the session was rotated or ended, or its
-- user disabled, promoted, demoted or given other claims, since the row was read.
UPDATE sessions
SET generation = generation + 1, rotated_at = :now, last_used_at = :now, expires_at = :expires_at,
    retry_key_hash = :retry_key_hash, rotated_by_hash = :rotated_by_hash, raced = 0
WHERE id = :id AND generation = :generation AND ended_at IS NULL
AND EXISTS (
    SELECT 1 FROM users
    WHERE users.id = sessions.user_id AND users.disabled = 0 AND users.admin = :admin
    AND users.claims = :claims
);

-- name: mark_raced(id, generation, admin)!
-- Changes nothing if it is marked already, or where `rotate` would not.
UPDATE sessions SET raced = 1
WHERE id = :id AND generation = :generation AND ended_at IS NULL AND raced = 0
AND EXISTS (
    SELECT 1 FROM users
    WHERE users.id = sessions.user_id AND users.disabled = 0 AND users.admin = :admin
);

-- name: authenticate(id, now)!
-- Later than the sign-in even within the same second, so that the two can be told apart.
UPDATE sessions SET authenticated_at = max(:now, created_at + 1)
WHERE id = :id AND ended_at IS NULL;

-- name: active_of_user(user_id, now)
-- In no order.
SELECT number, id, created_at, last_used_at, address, user_agent FROM sessions
WHERE user_id = :user_id AND ended_at IS NULL AND expires_at > :now;

-- name: end_one(user_id, id, now)!
UPDATE sessions SET ended_at = :now, expires_at = :now
WHERE id = :id AND user_id = :user_id AND ended_at IS NULL AND expires_at > :now;

-- name: end_of_user(user_id, except_id, now)!
UPDATE sessions SET ended_at = :now, expires_at = :now
WHERE user_id = :user_id AND id <> :except_id AND ended_at IS NULL AND expires_at > :now;

-- name: newest_session()$
SELECT coalesce(max(number), 0) FROM sessions;

-- name: end_everyones(newest, limit, now)!
-- Some of those that were opened up to the newest one.
UPDATE sessions SET ended_at = :now, expires_at = :now
WHERE number IN (
    SELECT number FROM sessions
    WHERE expires_at > :now AND ended_at IS NULL AND number <= :newest LIMIT :limit
);

-- name: prune_sessions(before, limit)!
-- Those that ended or expired before then, oldest first.
DELETE FROM sessions WHERE number IN (
    SELECT number FROM sessions WHERE expires_at < :before ORDER BY expires_at LIMIT :limit
);

-- name: find_refusal(resettable, address, site, share, account, username_key, network, since, now)^
-- Until when an attempt is refused, or null; and whether its user is known to sign in from its
-- network, to which the account's limit and a site's share of it do not apply.
SELECT max(blocked_until) AS until, EXISTS (
    SELECT 1 FROM users JOIN known_addresses ON known_addresses.user_id = users.id
    WHERE users.username_key = :username_key
    AND known_addresses.network = :network AND known_addresses.last_at > :since
) AS is_known
FROM throttle
WHERE key IN (:resettable, :address, :site, :share, :account) AND blocked_until > :now AND (
    key NOT IN (:share, :account) OR NOT EXISTS (
        SELECT 1 FROM users JOIN known_addresses ON known_addresses.user_id = users.id
        WHERE users.username_key = :username_key
        AND known_addresses.network = :network AND known_addresses.last_at > :since
    )
);

-- name: count(key, expires_at, now, restart)^
-- One more, and until when the one before was refused. An expired window starts again at one; with
-- `restart`, each attempt also extends the window.
INSERT INTO throttle (key, count, expires_at, blocked_until) VALUES (:key, 1, :expires_at, 0)
ON CONFLICT (key) DO UPDATE SET
    count = CASE WHEN throttle.expires_at > :now THEN throttle.count + 1 ELSE 1 END,
    expires_at = CASE
        WHEN :restart = 1 OR throttle.expires_at <= :now THEN excluded.expires_at
        ELSE throttle.expires_at
    END
RETURNING count, expires_at, blocked_until;

-- name: block(key, until)!
UPDATE throttle SET blocked_until = :until WHERE key = :key;

-- name: refund(key1, key2, key3, key4, key5)!
-- One less under each key, which ends a lockout.
UPDATE throttle SET count = count - 1, blocked_until = 0
WHERE key IN (:key1, :key2, :key3, :key4, :key5) AND count > 0;

-- name: delete_refunded(key1, key2, key3, key4, key5, reset)!
-- Those without any attempt; and one with all of its attempts.
DELETE FROM throttle
WHERE (key IN (:key1, :key2, :key3, :key4, :key5) AND count = 0) OR key = :reset;

-- name: delete_counts(first, end)!
DELETE FROM throttle WHERE key >= :first AND key < :end;

-- name: prune_counts(now, limit)!
-- Those whose window has ended, oldest first.
DELETE FROM throttle WHERE key IN (
    SELECT key FROM throttle WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit
);

-- name: remember_address(user_id, network, now)!
INSERT INTO known_addresses (user_id, network, last_at) VALUES (:user_id, :network, :now)
ON CONFLICT (user_id, network) DO UPDATE SET last_at = excluded.last_at;

-- name: prune_addresses(before, limit)!
-- Those with no sign-in since then, oldest first.
DELETE FROM known_addresses WHERE (user_id, network) IN (
    SELECT user_id, network FROM known_addresses WHERE last_at <= :before
    ORDER BY last_at LIMIT :limit
);
