-- Everything that is held about a user, but for what is secret.

-- name: account(user_id)^
SELECT id, username, admin, disabled, created_at, last_sign_in_at FROM users WHERE id = :user_id;

-- name: sessions(user_id)
-- In no order.
SELECT id, created_at, rotated_at, last_used_at, authenticated_at, expires_at, ends_at, ended_at,
       refreshable, address, user_agent
FROM sessions WHERE user_id = :user_id;

-- name: known_addresses(user_id)
SELECT network, last_at FROM known_addresses WHERE user_id = :user_id ORDER BY network;

-- name: audit(user_id)
-- What was done to the user, and what the user did to others; nothing that tells of those. In no order.
SELECT id, at, action, actor_id,
       CASE WHEN actor_id IS NULL OR actor_id = :user_id THEN address END AS address,
       CASE WHEN user_id = :user_id THEN details END AS details
FROM audit WHERE user_id = :user_id OR actor_id = :user_id;

-- name: pets(user_id)
SELECT id, name, species, created_at FROM pets WHERE user_id = :user_id ORDER BY id;
