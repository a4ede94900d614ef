-- The audit log.

-- name: insert(at, action, actor_id, user_id, address, details)!
INSERT INTO audit (at, action, actor_id, user_id, address, details)
VALUES (:at, :action, :actor_id, :user_id, :address, :details);

-- name: page(before, most)
-- The newest first, with the names that users have now.
SELECT audit.id, at, action, actor_id, user_id, address, details,
       users.username, actors.username AS actor
FROM audit LEFT JOIN users ON users.id = user_id LEFT JOIN users AS actors ON actors.id = actor_id
WHERE audit.id < :before
ORDER BY audit.id DESC LIMIT :most;

-- name: page_of_user(user_id, before, most)
SELECT audit.id, at, action, actor_id, user_id, address, details,
       users.username, actors.username AS actor
FROM audit LEFT JOIN users ON users.id = user_id LEFT JOIN users AS actors ON actors.id = actor_id
WHERE user_id = :user_id AND audit.id < :before
ORDER BY audit.id DESC LIMIT :most;

-- name: page_of_action(action, before, most)
SELECT audit.id, at, action, actor_id, user_id, address, details,
       users.username, actors.username AS actor
FROM audit LEFT JOIN users ON users.id = user_id LEFT JOIN users AS actors ON actors.id = actor_id
WHERE action = :action AND audit.id < :before
ORDER BY audit.id DESC LIMIT :most;

-- name: page_of_both(user_id, action, before, most)
-- By the user, whose rows are fewer.
SELECT audit.id, at, action, actor_id, user_id, address, details,
       users.username, actors.username AS actor
FROM audit LEFT JOIN users ON users.id = user_id LEFT JOIN users AS actors ON actors.id = actor_id
WHERE user_id = :user_id AND +action = :action AND audit.id < :before
ORDER BY audit.id DESC LIMIT :most;

-- name: strip_of_user(user_id)!
UPDATE audit SET address = NULL, details = json_remove(details, '$.username', '$.former_username')
WHERE user_id = :user_id;

-- name: strip_of_actor(actor_id)!
UPDATE audit SET address = NULL WHERE actor_id = :actor_id;

-- name: clear_away(before, most)!
DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < :before ORDER BY at LIMIT :most);
