-- The audit log.

-- name: insert(at, action, actor_id, user_id, address, details)!
INSERT INTO audit (at, action, actor_id, user_id, address, details)
VALUES (:at, :action, :actor_id, :user_id, :address, :details);

-- name: page(user_id, action, before, limit)
-- Newest first, with the current names; a null filters nothing. Each selection has an index, and
-- at most one has rows. The unary + keeps SQLite on the user's index, which has fewer rows.
SELECT audit.id, at, action, actor_id, user_id, address, details,
       users.username, actors.username AS actor
FROM audit LEFT JOIN users ON users.id = user_id LEFT JOIN users AS actors ON actors.id = actor_id
WHERE audit.id IN (
    SELECT id FROM audit WHERE :user_id IS NULL AND :action IS NULL AND id < :before
    UNION ALL
    SELECT id FROM audit WHERE :user_id IS NULL AND action = :action AND id < :before
    UNION ALL
    SELECT id FROM audit
    WHERE user_id = :user_id AND (:action IS NULL OR +action = :action) AND id < :before
    ORDER BY id DESC LIMIT :limit
)
ORDER BY audit.id DESC;

-- name: anonymize_user(user_id)!
UPDATE audit SET address = NULL, details = json_remove(details, '$.username', '$.former_username')
WHERE user_id = :user_id;

-- name: anonymize_actor(actor_id)!
UPDATE audit SET address = NULL WHERE actor_id = :actor_id;

-- name: prune(before, limit)!
DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < :before ORDER BY at LIMIT :limit);
