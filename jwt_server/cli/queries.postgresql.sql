-- What PostgreSQL needs besides.

-- name: continue_ids()^
-- New rows get ids above those that were inserted with theirs.
SELECT setval(pg_get_serial_sequence('users', 'id'), max(id)),
       (SELECT setval(pg_get_serial_sequence('pets', 'id'), max(id)) FROM pets)
FROM users;
