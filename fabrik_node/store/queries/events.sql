-- name: last_event
SELECT seq FROM events ORDER BY seq DESC LIMIT 1;

-- name: add_event
INSERT INTO events (seq, type, wall_ms, data) VALUES (?, ?, ?, ?);

-- name: events
SELECT seq, type, wall_ms, data FROM events WHERE seq > :after ORDER BY seq LIMIT :limit;

-- name: counter
SELECT value FROM counters WHERE name = :name;

-- name: raise_events_upto
UPDATE counters SET value = max(value, :pos) WHERE name = 'events_upto_pos';
