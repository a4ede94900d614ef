-- Rows brought over from another server, with the ids that they had there.

-- name: insert_user(id, username, username_key, password_hash, now)!
-- Changes nothing where the id or the name is taken.
INSERT INTO users (id, username, username_key, password_hash, created_at)
VALUES (:id, :username, :username_key, :password_hash, :now)
ON CONFLICT DO NOTHING;

-- name: users_in_the_way(id, username_key)
SELECT id, username, username_key FROM users WHERE id = :id OR username_key = :username_key;

-- name: insert_pet(id, user_id, name, species, now)!
-- Changes nothing where the id is taken.
INSERT INTO pets (id, user_id, name, species, created_at)
VALUES (:id, :user_id, :name, :species, :now)
ON CONFLICT DO NOTHING;
