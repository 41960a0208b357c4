-- name: get_meta
SELECT value FROM meta WHERE key = :key;

-- name: set_meta
INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: next_start
UPDATE counters SET value = value + 1 WHERE name = 'starts' RETURNING value;

-- name: peers
SELECT url, key FROM peers ORDER BY url;

-- name: put_peer
INSERT INTO peers (url, key) VALUES (:url, :key) ON CONFLICT (url) DO UPDATE SET key = excluded.key;

-- name: put_invite
INSERT INTO invites (token_id, secret, role, expires_at, boot_id) VALUES (:token_id, :secret, :role, :expires_at, :boot_id);

-- name: note_invite
INSERT OR REPLACE INTO invite_notes (token_id, uses_max, uses, created_ms, ended) VALUES (:token_id, :uses_max, :uses, :created_ms, :ended);

-- name: invite
SELECT i.token_id, i.secret, i.role, i.expires_at, i.boot_id, coalesce(n.uses_max, 1), coalesce(n.uses, i.used), coalesce(n.created_ms, 0),
    CASE WHEN i.used = 0 THEN '' WHEN coalesce(n.ended, '') = '' THEN 'used' ELSE n.ended END
FROM invites AS i LEFT JOIN invite_notes AS n ON n.token_id = i.token_id
WHERE i.token_id = :token_id;

-- name: invites
SELECT i.token_id, i.secret, i.role, i.expires_at, i.boot_id, coalesce(n.uses_max, 1), coalesce(n.uses, i.used), coalesce(n.created_ms, 0),
    CASE WHEN i.used = 0 THEN '' WHEN coalesce(n.ended, '') = '' THEN 'used' ELSE n.ended END
FROM invites AS i LEFT JOIN invite_notes AS n ON n.token_id = i.token_id
ORDER BY i.token_id;

-- name: reseal_invite
UPDATE invites SET secret = :secret WHERE token_id = :token_id AND used = 0;

-- name: close_invite
UPDATE invites SET used = 1, secret = x'' WHERE token_id = :token_id AND used = 0;

-- name: add_join
INSERT OR REPLACE INTO joins (token_id, key, at_ms) VALUES (:token_id, :key, :at_ms);

-- name: joins
SELECT token_id, key, at_ms FROM joins ORDER BY token_id, key;

-- name: put_run
INSERT INTO runs (
    run_id, item, claim_id, node, agent, state, phase, started_ms, pid, process_started, process_boot,
    ended_ms, exit_code, reason, branch, worktree, log, engine)
VALUES (
    :run_id, :item, :claim_id, :node, :agent, :state, :phase, :started_ms, :pid, :process_started, :process_boot,
    :ended_ms, :exit_code, :reason, :branch, :worktree, :log, :engine)
ON CONFLICT (run_id) DO UPDATE SET
    item = excluded.item, claim_id = excluded.claim_id, node = excluded.node, agent = excluded.agent, state = excluded.state,
    phase = excluded.phase, started_ms = excluded.started_ms, pid = excluded.pid, process_started = excluded.process_started,
    process_boot = excluded.process_boot, ended_ms = excluded.ended_ms, exit_code = excluded.exit_code, reason = excluded.reason,
    branch = excluded.branch, worktree = excluded.worktree, log = excluded.log, engine = excluded.engine;

-- name: runs
SELECT run_id, item, claim_id, node, agent, state, phase, started_ms, pid, process_started, process_boot,
       ended_ms, exit_code, reason, branch, worktree, log, engine
FROM runs
ORDER BY started_ms DESC, run_id DESC;

-- name: runs_of
SELECT run_id, item, claim_id, node, agent, state, phase, started_ms, pid, process_started, process_boot,
       ended_ms, exit_code, reason, branch, worktree, log, engine
FROM runs
WHERE item = :item
ORDER BY started_ms DESC, run_id DESC;

-- name: open_runs
SELECT run_id, item, claim_id, node, agent, state, phase, started_ms, pid, process_started, process_boot,
       ended_ms, exit_code, reason, branch, worktree, log, engine
FROM runs
WHERE ended_ms = 0
ORDER BY started_ms DESC, run_id DESC;

-- name: run
SELECT run_id, item, claim_id, node, agent, state, phase, started_ms, pid, process_started, process_boot,
       ended_ms, exit_code, reason, branch, worktree, log, engine
FROM runs
WHERE run_id = :run_id;

-- name: node_counts
SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM peers) AS peers;
