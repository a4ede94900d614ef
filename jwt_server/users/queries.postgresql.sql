-- What PostgreSQL spells differently, and the locks that SQLite's one writer does not need.

-- name: lock_admins()$
-- Held until the end of the transaction. One lock for all, because each change of an admin depends
-- on all other admins.
SELECT 1 FROM (SELECT pg_advisory_xact_lock(7738438)) AS held;

-- name: lock_by_id(id)^
-- Held until the end of the transaction.
SELECT id, username, admin, disabled, claims, created_at, last_sign_in_at, password_hash,
       password_expires_at
FROM users WHERE id = :id FOR NO KEY UPDATE;

-- name: lock_by_key(username_key)^
SELECT id, username, admin, disabled, claims, created_at, last_sign_in_at, password_hash,
       password_expires_at
FROM users WHERE username_key = :username_key FOR NO KEY UPDATE;

-- name: page_by_key(first, end, admin, disabled, limit)
-- Each part is sorted and limited by itself, as PostgreSQL would read it completely otherwise.
(
    SELECT id, username, username_key, admin, disabled, claims, created_at, last_sign_in_at,
           password_expires_at
    FROM users
    WHERE coalesce(:admin, 0) = 0 AND coalesce(:disabled, 0) = 0
    AND (:admin IS NULL OR admin = 0) AND (:disabled IS NULL OR disabled = 0)
    AND username_key >= :first AND username_key < :end
    ORDER BY username_key LIMIT :limit
)
UNION ALL
(
    SELECT id, username, username_key, admin, disabled, claims, created_at, last_sign_in_at,
           password_expires_at
    FROM users
    WHERE :admin = 1 AND admin = 1 AND (:disabled IS NULL OR disabled = :disabled)
    AND username_key >= :first AND username_key < :end
    ORDER BY username_key LIMIT :limit
)
UNION ALL
(
    SELECT id, username, username_key, admin, disabled, claims, created_at, last_sign_in_at,
           password_expires_at
    FROM users
    WHERE coalesce(:admin, 0) = 0 AND :disabled = 1 AND disabled = 1
    AND (:admin IS NULL OR admin = 0)
    AND username_key >= :first AND username_key < :end
    ORDER BY username_key LIMIT :limit
)
ORDER BY username_key LIMIT :limit;

-- name: export_audit(user_id, at, id, limit)
-- Its parts are limited as those of `page_by_key`.
(
    SELECT id, at, action, actor_id,
           CASE WHEN actor_id IS NULL OR actor_id = :user_id THEN address END AS address, details
    FROM audit WHERE user_id = :user_id AND (at, id) > (:at, :id)
    ORDER BY at, id LIMIT :limit
)
UNION ALL
(
    SELECT id, at, action, actor_id, address, NULL
    FROM audit
    WHERE actor_id = :user_id AND user_id IS DISTINCT FROM :user_id AND (at, id) > (:at, :id)
    AND at <= coalesce(
        (
            SELECT at FROM audit WHERE user_id = :user_id AND (at, id) > (:at, :id)
            ORDER BY at, id LIMIT 1 OFFSET :limit - 1
        ),
        9223372036854775807
    )
    ORDER BY at, id LIMIT :limit
)
ORDER BY at, id LIMIT :limit;
