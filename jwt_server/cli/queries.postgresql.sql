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

-- name: server()^
-- What `doctor` checks of the server, and of the session as the service has it.
SELECT CAST(current_setting('server_version_num') AS INTEGER) AS version,
       current_setting('server_version') AS release,
       current_setting('server_encoding') AS encoding,
       current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('statement_timeout') AS statement_timeout,
       current_setting('lock_timeout') AS lock_timeout,
       current_setting('idle_in_transaction_session_timeout')
           AS idle_in_transaction_session_timeout,
       CAST(current_setting('max_connections') AS INTEGER)
           - CAST(current_setting('superuser_reserved_connections') AS INTEGER)
           - CAST(coalesce(current_setting('reserved_connections', true), '0') AS INTEGER)
           AS connections,
       pg_backend_pid() AS pid, quote_ident(current_user) AS role,
       has_schema_privilege('public', current_schema(), 'CREATE') AS everyone_creates,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser;

-- name: clock()$
SELECT CAST(extract(epoch FROM clock_timestamp()) AS FLOAT8);

-- name: standbys()
-- The lag is null for a role that may not see it.
SELECT application_name AS name, quote_ident(current_user) AS role,
       CAST(pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn) AS BIGINT) AS lag
FROM pg_stat_replication;

-- name: schema_objects()
-- Whatever makes up the tables in the schema of schema_version, or acts on them: as text, which is
-- the same for tables of the same kind in another schema.
WITH ours AS (
    SELECT * FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = (
        SELECT relnamespace FROM pg_class WHERE oid = to_regclass('schema_version')
    )
)
SELECT relname AS relation, 'table' AS kind, relname AS name,
       concat_ws(' ', relkind, relpersistence = 'u', relrowsecurity, relhassubclass) AS definition
FROM ours
UNION ALL
SELECT relname, 'column', attname,
       concat_ws(
           ' ', format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
           pg_get_expr(adbin, adrelid), collname
       )
FROM ours JOIN pg_attribute ON attrelid = ours.oid AND attnum > 0 AND NOT attisdropped
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
LEFT JOIN pg_collation ON pg_collation.oid = attcollation
UNION ALL
SELECT ours.relname, 'index', class.relname,
       concat_ws(' ', pg_get_indexdef(indexrelid, 0, true), indisvalid AND indisready)
FROM ours JOIN pg_index ON indrelid = ours.oid JOIN pg_class AS class ON class.oid = indexrelid
UNION ALL
SELECT relname, 'constraint', conname,
       concat_ws(' ', conrelid = ours.oid, pg_get_constraintdef(pg_constraint.oid, true))
FROM ours JOIN pg_constraint ON ours.oid IN (conrelid, confrelid)
UNION ALL
SELECT relname, 'trigger', tgname,
       concat_ws(' ', pg_get_triggerdef(pg_trigger.oid, true), tgenabled)
FROM ours JOIN pg_trigger ON tgrelid = ours.oid
WHERE NOT tgisinternal OR tgenabled <> 'O'
UNION ALL
SELECT relname, 'rule', rulename, pg_get_ruledef(pg_rewrite.oid, true)
FROM ours JOIN pg_rewrite ON ev_class = ours.oid;
