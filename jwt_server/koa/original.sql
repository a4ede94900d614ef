-- The original's own file, as it is laid out there; run on that file alone, never on ours.

-- name: count()$
SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM pets);

-- name: users()
SELECT id, username, passwordHash AS password_hash FROM users ORDER BY id;

-- name: pets()
-- With the owner's id once more where the owner is there.
SELECT pets.id, pets.user_id, pets.name, pets.species, users.id AS owner
FROM pets LEFT JOIN users ON users.id = pets.user_id ORDER BY pets.id;
