-- The demo data, inserted by `flask seed` in one transaction. The password is hashed by the command,
-- at the configured cost.

-- name: insert_demo_user(password_hash, now)^
-- Returns no row if the user exists.
INSERT INTO users (username, username_key, password_hash, created_at)
VALUES ('travis', 'travis', :password_hash, :now)
ON CONFLICT (username_key) DO NOTHING
RETURNING id;

-- name: insert_demo_pets(user_id, now)!
INSERT INTO pets (user_id, name, species, created_at)
VALUES (:user_id, 'Bunny', 'dog', :now), (:user_id, 'Ru', 'cat', :now);
