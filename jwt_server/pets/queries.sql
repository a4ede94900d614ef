-- Pets. Every query names the owner, so that no user can reach another's pet by its id.

-- name: names_of_user(user_id)
SELECT name, species FROM pets WHERE user_id = :user_id ORDER BY id;

-- name: page_of_user(user_id, after, limit)
SELECT id, name, species, created_at FROM pets
WHERE user_id = :user_id AND id > :after ORDER BY id LIMIT :limit;

-- name: find(user_id, id)^
SELECT id, name, species, created_at FROM pets WHERE user_id = :user_id AND id = :id;

-- name: insert(user_id, name, species, now)^
-- Returns no row if the user has been deleted in the meantime.
INSERT INTO pets (user_id, name, species, created_at)
SELECT id, :name, :species, :now FROM users WHERE id = :user_id
RETURNING id, name, species, created_at;

-- name: replace(user_id, id, name, species)^
UPDATE pets SET name = :name, species = :species
WHERE user_id = :user_id AND id = :id
RETURNING id, name, species, created_at;

-- name: remove(user_id, id)!
DELETE FROM pets WHERE user_id = :user_id AND id = :id;
