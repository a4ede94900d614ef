-- Users.

-- name: find_by_key(username_key)^
SELECT id, username, admin, disabled, claims, created_at, last_sign_in_at, password_hash,
       password_expires_at
FROM users WHERE username_key = :username_key;

-- name: find_by_id(id)^
SELECT id, username, admin, disabled, claims, created_at, last_sign_in_at, password_hash,
       password_expires_at
FROM users WHERE id = :id;

-- name: lock_by_id(id)^
-- The same in a transaction that depends on the user.
SELECT id, username, admin, disabled, claims, created_at, last_sign_in_at, password_hash,
       password_expires_at
FROM users WHERE id = :id;

-- name: lock_by_key(username_key)^
SELECT id, username, admin, disabled, claims, created_at, last_sign_in_at, password_hash,
       password_expires_at
FROM users WHERE username_key = :username_key;

-- name: lock_admins()$
-- Nothing is needed: one transaction writes at a time.
SELECT 1;

-- name: page_by_key(first, end, admin, disabled, limit)
-- Sorted by name, from `first` up to but not including `end`; a null filters nothing. Each selection
-- has an index, and only one of the three has rows.
SELECT id, username, username_key, admin, disabled, claims, created_at, last_sign_in_at,
       password_expires_at
FROM users
WHERE coalesce(:admin, 0) = 0 AND coalesce(:disabled, 0) = 0
AND (:admin IS NULL OR admin = 0) AND (:disabled IS NULL OR disabled = 0)
AND username_key >= :first AND username_key < :end
UNION ALL
SELECT id, username, username_key, admin, disabled, claims, created_at, last_sign_in_at,
       password_expires_at
FROM users
WHERE :admin = 1 AND admin = 1 AND (:disabled IS NULL OR disabled = :disabled)
AND username_key >= :first AND username_key < :end
UNION ALL
SELECT id, username, username_key, admin, disabled, claims, created_at, last_sign_in_at,
       password_expires_at
FROM users
WHERE coalesce(:admin, 0) = 0 AND :disabled = 1 AND disabled = 1 AND (:admin IS NULL OR admin = 0)
AND username_key >= :first AND username_key < :end
ORDER BY username_key LIMIT :limit;

-- name: insert(username, username_key, password_hash, password_expires_at, admin, claims, now)^
-- Returns no row if the name is taken.
INSERT INTO users (
    username, username_key, password_hash, password_expires_at, admin, claims, created_at
) VALUES (:username, :username_key, :password_hash, :password_expires_at, :admin, :claims, :now)
ON CONFLICT (username_key) DO NOTHING
RETURNING id;

-- name: set_hash(id, password_hash, expires_at)!
UPDATE users SET password_hash = :password_hash, password_expires_at = :expires_at WHERE id = :id;

-- name: replace_hash(id, verified_hash, new_hash, expires_at, signed_in_at)^
-- Changes nothing if the user was disabled or deleted, or the password changed, since it was
-- verified.
UPDATE users
SET password_hash = :new_hash, password_expires_at = :expires_at,
    last_sign_in_at = coalesce(:signed_in_at, last_sign_in_at)
WHERE id = :id AND disabled = 0 AND password_hash = :verified_hash
RETURNING id, admin, claims, password_expires_at;

-- name: rename(id, username, username_key)!
-- Changes nothing if another user has that name.
UPDATE users SET username = :username, username_key = :username_key
WHERE id = :id AND NOT EXISTS (
    SELECT 1 FROM users AS other WHERE other.username_key = :username_key AND other.id <> :id
);

-- name: set_admin(id, admin)!
UPDATE users SET admin = :admin WHERE id = :id;

-- name: set_disabled(id, disabled)!
UPDATE users SET disabled = :disabled WHERE id = :id;

-- name: set_claims(id, claims)!
UPDATE users SET claims = :claims WHERE id = :id;

-- name: remove(id)!
-- Foreign keys delete pets, sessions and known addresses, too.
DELETE FROM users WHERE id = :id;

-- name: another_admin(id)^
-- An enabled admin other than this user, who has chosen a password.
SELECT id FROM users
WHERE admin = 1 AND disabled = 0 AND id <> :id AND password_expires_at IS NULL LIMIT 1;

-- The export of everything stored about a user, without secrets, a page at a time.

-- name: export_users(user_id, id, limit)
SELECT id, username, admin, disabled, claims, created_at, last_sign_in_at, password_expires_at
FROM users WHERE id = :user_id AND id > :id ORDER BY id LIMIT :limit;

-- name: export_sessions(user_id, expires_at, number, limit)
SELECT number, id, created_at, rotated_at, last_used_at, authenticated_at, expires_at, ends_at,
       ended_at, refreshable, address, user_agent, client_id
FROM sessions WHERE user_id = :user_id AND (expires_at, number) > (:expires_at, :number)
ORDER BY expires_at, number LIMIT :limit;

-- name: export_known_addresses(user_id, network, limit)
SELECT network, last_at FROM known_addresses
WHERE user_id = :user_id AND (network > :network OR :network IS NULL)
ORDER BY network LIMIT :limit;

-- name: export_audit(user_id, at, id, limit)
-- What was done to the user, and what the user did to others, without their details. The second
-- part ends where the page does, so that no page reads past the rows of the first.
SELECT id, at, action, actor_id,
       CASE WHEN actor_id IS NULL OR actor_id = :user_id THEN address END AS address, details
FROM audit WHERE user_id = :user_id AND (at, id) > (:at, :id)
UNION ALL
SELECT id, at, action, actor_id, address, NULL
FROM audit WHERE actor_id = :user_id AND user_id IS NOT :user_id AND (at, id) > (:at, :id)
AND at <= coalesce(
    (
        SELECT at FROM audit WHERE user_id = :user_id AND (at, id) > (:at, :id)
        ORDER BY at, id LIMIT 1 OFFSET :limit - 1
    ),
    9223372036854775807
)
ORDER BY at, id LIMIT :limit;

-- name: export_pets(user_id, id, limit)
SELECT id, name, species, created_at FROM pets
WHERE user_id = :user_id AND id > :id ORDER BY id LIMIT :limit;
