-- Rows imported from the original server, with the ids that they had there.

-- name: conflicting_users(id, username_key)
SELECT id, username FROM users WHERE id = :id OR username_key = :username_key;

-- name: insert_user(id, username, username_key, password_hash, now)!
INSERT INTO users (id, username, username_key, password_hash, created_at)
VALUES (:id, :username, :username_key, :password_hash, :now);

-- name: pet_exists(id)$
SELECT EXISTS (SELECT 1 FROM pets WHERE id = :id);

-- name: continue_ids()^
-- New rows get ids above those of the inserted ones, as they do anyway in SQLite.
SELECT 1 AS done;

-- name: insert_pet(id, user_id, name, species, now)!
INSERT INTO pets (id, user_id, name, species, created_at)
VALUES (:id, :user_id, :name, :species, :now);
