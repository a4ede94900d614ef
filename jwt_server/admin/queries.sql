-- What administrators see beside the rows of users.

-- name: activity(accounts, now)
-- The active sessions and the end of the last lockout, or null, of each account: `accounts` is a JSON
-- array of [user ID, root of the keys of its counts].
SELECT json_extract(value, '$[0]') AS id,
       (
           SELECT count(*) FROM sessions
           WHERE user_id = json_extract(value, '$[0]') AND expires_at > :now
       ) AS sessions,
       (
           SELECT max(blocked_until) FROM throttle
           WHERE key >= json_extract(value, '$[1]') || '.' AND key < json_extract(value, '$[1]') || '/'
           AND blocked_until > :now
       ) AS locked_until
FROM json_each(:accounts);

-- name: totals(now)^
SELECT (SELECT count(*) FROM users) AS users,
       (SELECT count(*) FROM users WHERE admin = 1) AS admins,
       (SELECT count(*) FROM users WHERE disabled = 1) AS disabled,
       (SELECT count(*) FROM sessions WHERE expires_at > :now) AS sessions;
