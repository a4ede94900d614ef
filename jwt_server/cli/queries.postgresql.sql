-- What PostgreSQL needs besides.

-- name: continue_ids()^
-- New rows get ids above those that were inserted with theirs.
SELECT max(id) AS done FROM (
    SELECT setval(pg_get_serial_sequence('users', 'id'), max(id)) AS id FROM users
    UNION ALL SELECT setval(pg_get_serial_sequence('pets', 'id'), max(id)) FROM pets
) AS continued;
