-- name: log_id
SELECT id FROM logs WHERE author = :author AND epoch = :epoch;

-- name: add_log
INSERT INTO logs (author, epoch) VALUES (:author, :epoch) RETURNING id;

-- name: log_head
SELECT last_seq FROM segments WHERE log = :log ORDER BY first_seq DESC LIMIT 1;

-- name: add_segment
INSERT INTO segments (log, first_seq, last_seq, stored_ms, data) VALUES (?, ?, ?, ?, ?);

-- name: load
SELECT s.pos, l.author, l.epoch, s.first_seq, s.last_seq, s.data
FROM segments AS s CROSS JOIN logs AS l ON l.id = s.log
WHERE s.pos > :after
ORDER BY s.pos;

-- name: read
SELECT pos, first_seq, last_seq, data
FROM segments
WHERE log = :log
  AND first_seq >= coalesce((SELECT max(first_seq) FROM segments WHERE log = :log AND first_seq <= :next), 0)
  AND last_seq >= :next
ORDER BY first_seq;

-- name: last_segment
SELECT pos, stored_ms, length(data) FROM segments ORDER BY pos DESC LIMIT 1;

-- name: heads
SELECT l.author, l.epoch, (SELECT s.last_seq FROM segments AS s WHERE s.log = l.id ORDER BY s.first_seq DESC LIMIT 1)
FROM logs AS l;
