-- What PostgreSQL spells differently.

-- name: activity(roots, now)
SELECT CAST(account.key AS BIGINT) AS id,
       (
           SELECT count(*) FROM sessions
           WHERE user_id = CAST(account.key AS BIGINT) AND expires_at > :now
       ) AS sessions,
       (
           SELECT max(blocked_until) FROM throttle
           WHERE throttle.key >= account.value || '.' AND throttle.key < account.value || '/'
           AND blocked_until > :now
       ) AS locked_until
FROM json_each_text(CAST(:roots AS JSON)) AS account;
