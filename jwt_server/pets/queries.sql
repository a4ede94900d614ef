-- Pets. Every query names the owner, so that no user can reach another's pet by its id.

-- name: names_of_user(user_id, limit)
SELECT name, species FROM pets WHERE user_id = :user_id ORDER BY id LIMIT :limit;

-- name: page_of_user(user_id, id, limit)
-- The pets after this id.
SELECT id, name, species, created_at FROM pets
WHERE user_id = :user_id AND id > :id ORDER BY id LIMIT :limit;

-- name: find(user_id, id)^
SELECT id, name, species, created_at FROM pets WHERE user_id = :user_id AND id = :id;

-- name: insert(user_id, name, species, now, max_pets)^
-- Returns no row if the user has that many pets.
INSERT INTO pets (user_id, name, species, created_at)
SELECT :user_id, :name, :species, :now
WHERE NOT EXISTS (SELECT 1 FROM pets WHERE user_id = :user_id LIMIT 1 OFFSET :max_pets - 1)
RETURNING id, name, species, created_at;

-- name: replace(user_id, id, name, species)^
UPDATE pets SET name = :name, species = :species
WHERE user_id = :user_id AND id = :id
RETURNING id, name, species, created_at;

-- name: remove(user_id, id)!
DELETE FROM pets WHERE user_id = :user_id AND id = :id;
