-- Active sessions, lockouts and totals for admins.

-- name: activity(roots, now)
-- The number of active sessions of each user, and the end of the last lockout or null. `roots` is a
-- JSON object: user ID to the root of the keys of the user's counts.
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
FROM json_each(:roots) AS account;

-- name: totals(now)^
SELECT (SELECT count(*) FROM users) AS users,
       (SELECT count(*) FROM users WHERE admin = 1) AS admins,
       (SELECT count(*) FROM users WHERE disabled = 1) AS disabled,
       (SELECT count(*) FROM sessions WHERE expires_at > :now) AS sessions;
