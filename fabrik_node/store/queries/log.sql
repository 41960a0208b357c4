-- name: branch_id
SELECT id, base_seq FROM branches WHERE author = :author AND epoch = :epoch AND number = :number;

-- name: branch_count
SELECT count(*) FROM branches WHERE author = :author AND epoch = :epoch;

-- name: add_branch
INSERT INTO branches (author, epoch, number, base_branch, base_seq) VALUES (:author, :epoch, :number, :base_branch, :base_seq) RETURNING id;

-- name: branch_head
SELECT last_seq FROM segments WHERE branch = :branch ORDER BY first_seq DESC LIMIT 1;

-- name: add_segment
INSERT INTO segments (branch, first_seq, last_seq, stored_ms, data) VALUES (?, ?, ?, ?, ?);

-- name: load
SELECT s.pos, b.author, b.epoch, s.first_seq, s.last_seq, s.data, b.number
FROM segments AS s CROSS JOIN branches AS b ON b.id = s.branch
WHERE s.pos > :after
ORDER BY s.pos;

-- name: read
SELECT pos, first_seq, last_seq, data
FROM segments
WHERE branch = :branch
  AND first_seq >= coalesce((SELECT max(first_seq) FROM segments WHERE branch = :branch AND first_seq <= :next), 0)
  AND last_seq >= :next
ORDER BY first_seq;

-- name: row_of
SELECT pos, first_seq, last_seq, data FROM segments WHERE branch = :branch AND first_seq <= :seq ORDER BY first_seq DESC LIMIT 1;

-- name: places_beyond
SELECT pos FROM segments
WHERE branch = :branch
  AND first_seq >= coalesce((SELECT max(first_seq) FROM segments WHERE branch = :branch AND first_seq <= :next), 0)
  AND last_seq >= :next
ORDER BY first_seq;

-- name: row_at
SELECT s.pos, b.author, b.epoch, s.first_seq, s.last_seq, s.data, b.number
FROM segments AS s CROSS JOIN branches AS b ON b.id = s.branch
WHERE s.pos = :pos;

-- name: last_segment
SELECT pos, stored_ms, length(data) FROM segments ORDER BY pos DESC LIMIT 1;

-- name: last_place
SELECT seq FROM sqlite_sequence WHERE name = 'segments';

-- name: segment_count
SELECT count(*) FROM segments;

-- name: branches
SELECT b.id, b.author, b.epoch, b.number, b.base_seq, (SELECT s.last_seq FROM segments AS s WHERE s.branch = b.id ORDER BY s.first_seq DESC LIMIT 1)
FROM branches AS b;
