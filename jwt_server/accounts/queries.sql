-- Users.

-- name: find_by_key(username_key)^
SELECT id, username, admin, password_hash FROM users WHERE username_key = :username_key;

-- name: find_by_id(id)^
SELECT id, username, admin FROM users WHERE id = :id;

-- name: replace_hash(id, old_hash, new_hash)!
-- Only where the hash is still the one that was verified: a password changed in between stays.
UPDATE users SET password_hash = :new_hash WHERE id = :id AND password_hash = :old_hash;
