-- The demo data: user travis and the two pets. Run by `flask seed` in one
-- transaction; the password's hash comes in as a parameter, made at the cost in force.

-- name: insert_demo_user(password_hash, now)^
-- Nothing comes back where the user is there already.
INSERT INTO users (username, username_key, password_hash, created_at)
VALUES ('travis', 'travis', :password_hash, :now)
ON CONFLICT (username_key) DO NOTHING
RETURNING id;

-- name: insert_demo_pets(user_id, now)!
INSERT INTO pets (user_id, name, species, created_at)
VALUES (:user_id, 'Bunny', 'dog', :now), (:user_id, 'Ru', 'cat', :now);
