-- What PostgreSQL spells differently. Rows that another transaction holds are left for the next
-- pruning.

-- name: authenticate(id, now)!
UPDATE sessions SET authenticated_at = greatest(:now, created_at + 1)
WHERE id = :id AND ended_at IS NULL;

-- name: refund(key1, key2, key3, key4, key5)!
-- Locks the rows in the order in which they are counted, so that no two wait for each other.
UPDATE throttle SET count = count - 1, blocked_until = 0
WHERE count > 0 AND key IN (
    SELECT key FROM throttle WHERE key IN (:key1, :key2, :key3, :key4, :key5)
    ORDER BY array_position(ARRAY[:key1, :key2, :key3, :key4, :key5], key) FOR UPDATE
);

-- name: prune_sessions(before, limit)!
DELETE FROM sessions WHERE number IN (
    SELECT number FROM sessions WHERE expires_at < :before ORDER BY expires_at LIMIT :limit
    FOR UPDATE SKIP LOCKED
);

-- name: prune_counts(now, limit)!
DELETE FROM throttle WHERE key IN (
    SELECT key FROM throttle WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit
    FOR UPDATE SKIP LOCKED
);

-- name: prune_addresses(before, limit)!
DELETE FROM known_addresses WHERE (user_id, network) IN (
    SELECT user_id, network FROM known_addresses WHERE last_at <= :before
    ORDER BY last_at LIMIT :limit FOR UPDATE SKIP LOCKED
);
