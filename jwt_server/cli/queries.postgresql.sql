-- What PostgreSQL needs besides.

-- name: continue_ids()^
-- New rows get ids above those that were inserted with theirs.
SELECT max(id) AS done FROM (
    SELECT setval(pg_get_serial_sequence('users', 'id'), max(id)) AS id FROM users
    UNION ALL SELECT setval(pg_get_serial_sequence('pets', 'id'), max(id)) FROM pets
) AS continued;

-- name: advance_ids(leap, start, max_id)
-- New rows get ids that are higher than the last ones by at least the leap.
SELECT setval(
    sequence,
    least(greatest(coalesce(pg_sequence_last_value(sequence), 0) + :leap, :start), :max_id)
)
FROM (
    SELECT CAST(pg_get_serial_sequence(quote_ident(table_name), column_name) AS REGCLASS)
    FROM information_schema.columns
    WHERE table_schema = current_schema() AND is_identity = 'YES'
) AS identities (sequence);
