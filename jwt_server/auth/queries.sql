-- Sessions. Live is one that has not ended and not expired; what is dead is cleared away later.

-- name: guarded(id)^
-- The session that a token names, with its user: all that lets a request through.
SELECT sessions.user_id, sessions.authenticated_at, sessions.expires_at, sessions.ended_at,
       users.username, users.admin, users.disabled
FROM sessions JOIN users ON users.id = sessions.user_id
WHERE sessions.id = :id;

-- name: find(id)^
SELECT sessions.id, sessions.user_id, nonce, generation, refreshable, rotated_at, expires_at,
       ends_at, ended_at, users.admin, users.disabled
FROM sessions JOIN users ON users.id = sessions.user_id
WHERE sessions.id = :id;

-- name: insert(id, user_id, nonce, refreshable, now, expires_at, ends_at, address, user_agent)!
INSERT INTO sessions (
    id, user_id, nonce, generation, refreshable, created_at, rotated_at, last_used_at,
    authenticated_at, expires_at, ends_at, address, user_agent
) VALUES (
    :id, :user_id, :nonce, 1, :refreshable, :now, :now, :now,
    :now, :expires_at, :ends_at, :address, :user_agent
);

-- name: rotate(id, generation, expires_at, now)!
-- From this generation to the next; changes nothing where another was faster.
UPDATE sessions
SET generation = generation + 1, rotated_at = :now, last_used_at = :now, expires_at = :expires_at
WHERE id = :id AND generation = :generation AND ended_at IS NULL;

-- name: authenticate(id, now)!
UPDATE sessions SET authenticated_at = :now WHERE id = :id AND ended_at IS NULL;

-- name: live_of_user(user_id, now)
-- In no order.
SELECT number, id, created_at, last_used_at, address, user_agent FROM sessions
WHERE user_id = :user_id AND ended_at IS NULL AND expires_at > :now;

-- name: end_one(user_id, id, now)!
UPDATE sessions SET ended_at = :now, expires_at = :now
WHERE id = :id AND user_id = :user_id AND ended_at IS NULL AND expires_at > :now;

-- name: end_of_user(user_id, spared, now)!
UPDATE sessions SET ended_at = :now, expires_at = :now
WHERE user_id = :user_id AND id <> :spared AND ended_at IS NULL AND expires_at > :now;

-- name: end_everyones(now)!
-- Reads the whole table: an operator asks for it, once in a while.
UPDATE sessions SET ended_at = :now, expires_at = :now
WHERE ended_at IS NULL AND expires_at > :now;

-- name: clear_away(before, most)!
-- Sessions that died before then, the oldest first.
DELETE FROM sessions WHERE number IN (
    SELECT number FROM sessions WHERE expires_at < :before ORDER BY expires_at LIMIT :most
);
