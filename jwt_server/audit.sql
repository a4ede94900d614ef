-- The audit log.

-- name: insert(at, action, actor_id, user_id, address, details)!
INSERT INTO audit (at, action, actor_id, user_id, address, details)
VALUES (:at, :action, :actor_id, :user_id, :address, :details);

-- name: page(user_id, actor_id, action, since, at, id, limit)
-- The rows before this time and id, newest first, with the current names; a null filters nothing.
-- Each selection has an index, and only one of the four has rows. The unary + keeps SQLite on the
-- index of user or actor, which has fewer rows.
SELECT page.*, (SELECT username FROM users WHERE users.id = page.user_id) AS username,
       (SELECT username FROM users WHERE users.id = page.actor_id) AS actor
FROM (
    SELECT id, at, action, actor_id, user_id, address, details FROM audit
    WHERE coalesce(:user_id, :actor_id, :action) IS NULL
    AND at >= :since AND (at, id) < (:at, :id)
    UNION ALL
    SELECT id, at, action, actor_id, user_id, address, details FROM audit
    WHERE coalesce(:user_id, :actor_id) IS NULL AND action = :action
    AND at >= :since AND (at, id) < (:at, :id)
    UNION ALL
    SELECT id, at, action, actor_id, user_id, address, details FROM audit
    WHERE :user_id IS NULL AND actor_id = :actor_id AND (:action IS NULL OR +action = :action)
    AND at >= :since AND (at, id) < (:at, :id)
    UNION ALL
    SELECT id, at, action, actor_id, user_id, address, details FROM audit
    WHERE user_id = :user_id AND (:actor_id IS NULL OR +actor_id = :actor_id)
    AND (:action IS NULL OR +action = :action)
    AND at >= :since AND (at, id) < (:at, :id)
    ORDER BY at DESC, id DESC LIMIT :limit
) AS page
ORDER BY at DESC, id DESC;

-- name: count(action, since, until, seconds)
-- The rows of an action in each part of a range of time. Counting part by part in the index is faster
-- than grouping.
WITH RECURSIVE buckets (start) AS (
    SELECT CAST(:since AS BIGINT)
    UNION ALL
    SELECT start + :seconds FROM buckets WHERE start + :seconds < :until
)
SELECT start, (
    SELECT count(*) FROM audit
    WHERE action = :action AND at >= start AND at < start + :seconds
) AS count
FROM buckets ORDER BY start;

-- name: anonymize_user(user_id)!
-- The address of another actor stays, so that nobody hides by deleting the user.
UPDATE audit
SET address = CASE WHEN actor_id IS NULL OR actor_id = :user_id THEN NULL ELSE address END,
    details = json_remove(details, '$.username', '$.former_username', '$.claims')
WHERE user_id = :user_id;

-- name: anonymize_actor(actor_id)!
UPDATE audit SET address = NULL WHERE actor_id = :actor_id;

-- name: prune(before, limit)!
DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < :before ORDER BY at LIMIT :limit);
