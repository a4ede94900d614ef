-- What PostgreSQL spells differently.

-- name: page(user_id, actor_id, action, since, at, id, limit)
-- The casts tell the types of parameters that may be null. Each part is sorted and limited by
-- itself, as PostgreSQL would read it completely otherwise.
SELECT page.*, (SELECT username FROM users WHERE users.id = page.user_id) AS username,
       (SELECT username FROM users WHERE users.id = page.actor_id) AS actor
FROM (
    (
        SELECT id, at, action, actor_id, user_id, address, details FROM audit
        WHERE CAST(:user_id AS BIGINT) IS NULL AND CAST(:actor_id AS BIGINT) IS NULL
        AND CAST(:action AS TEXT) IS NULL
        AND at >= :since AND (at, id) < (:at, :id)
        ORDER BY at DESC, id DESC LIMIT :limit
    )
    UNION ALL
    (
        SELECT id, at, action, actor_id, user_id, address, details FROM audit
        WHERE CAST(:user_id AS BIGINT) IS NULL AND CAST(:actor_id AS BIGINT) IS NULL
        AND action = CAST(:action AS TEXT)
        AND at >= :since AND (at, id) < (:at, :id)
        ORDER BY at DESC, id DESC LIMIT :limit
    )
    UNION ALL
    (
        SELECT id, at, action, actor_id, user_id, address, details FROM audit
        WHERE CAST(:user_id AS BIGINT) IS NULL AND actor_id = CAST(:actor_id AS BIGINT)
        AND (CAST(:action AS TEXT) IS NULL OR action = CAST(:action AS TEXT))
        AND at >= :since AND (at, id) < (:at, :id)
        ORDER BY at DESC, id DESC LIMIT :limit
    )
    UNION ALL
    (
        SELECT id, at, action, actor_id, user_id, address, details FROM audit
        WHERE user_id = CAST(:user_id AS BIGINT)
        AND (CAST(:actor_id AS BIGINT) IS NULL OR actor_id = CAST(:actor_id AS BIGINT))
        AND (CAST(:action AS TEXT) IS NULL OR action = CAST(:action AS TEXT))
        AND at >= :since AND (at, id) < (:at, :id)
        ORDER BY at DESC, id DESC LIMIT :limit
    )
    ORDER BY at DESC, id DESC LIMIT :limit
) AS page
ORDER BY at DESC, id DESC;

-- name: anonymize_user(user_id)!
UPDATE audit
SET address = CASE WHEN actor_id IS NULL OR actor_id = :user_id THEN NULL ELSE address END,
    details = CAST(
        CAST(details AS JSONB) - '{username,former_username,claims}'::TEXT[] AS TEXT
    )
WHERE user_id = :user_id;

-- name: prune(before, limit)!
-- Rows that another transaction holds are left for the next pruning.
DELETE FROM audit WHERE id IN (
    SELECT id FROM audit WHERE at < :before ORDER BY at LIMIT :limit FOR UPDATE SKIP LOCKED
);
