-- Queries on the original server's file, never on the service's own database.

-- name: users()
SELECT id, username, passwordHash AS password_hash FROM users ORDER BY id;

-- name: pets()
-- `owner` is NULL if the file has no such user.
SELECT pets.id, pets.user_id, pets.name, pets.species, users.id AS owner
FROM pets LEFT JOIN users ON users.id = pets.user_id ORDER BY pets.id;
