-- name: set_aside
INSERT INTO damaged (pos, author, epoch, number, first_seq, last_seq, data, why, at_ms)
SELECT s.pos, b.author, b.epoch, b.number, s.first_seq, s.last_seq, s.data, :why, :at_ms
FROM segments AS s CROSS JOIN branches AS b ON b.id = s.branch
WHERE s.pos = :pos;

-- name: remove_row
DELETE FROM segments WHERE pos = :pos;

-- name: damaged
SELECT pos, author, epoch, number, first_seq, last_seq, why, at_ms FROM damaged ORDER BY pos;

-- name: damaged_end
SELECT max(last_seq) FROM damaged WHERE author = :author AND epoch = :epoch AND number = :number;

-- name: damaged_within
SELECT first_seq, last_seq, pos FROM damaged
WHERE author = :author AND epoch = :epoch AND number = :number AND first_seq >= :first AND last_seq <= :last
  AND pos NOT IN (SELECT pos FROM segments)
ORDER BY first_seq;

-- name: close_damaged
DELETE FROM damaged WHERE author = :author AND epoch = :epoch AND number = :number AND first_seq >= :first AND last_seq <= :last;

-- name: damaged_data
SELECT data FROM damaged WHERE pos = :pos;

-- name: forget_damaged
DELETE FROM damaged WHERE pos = ?;

-- name: rows_within
SELECT pos, first_seq, last_seq, stored_ms, data, sigs FROM segments
WHERE branch = :branch
  AND first_seq >= coalesce((SELECT max(first_seq) FROM segments WHERE branch = :branch AND first_seq <= :first), 0)
  AND first_seq <= :last
ORDER BY first_seq;

-- name: put_row
INSERT INTO segments (pos, branch, first_seq, last_seq, stored_ms, data, sigs) VALUES (:pos, :branch, :first_seq, :last_seq, :stored_ms, :data, :sigs);

-- name: move_branch
UPDATE branches SET base_branch = :base_branch, base_seq = :base_seq, packed_seq = 0 WHERE id = :id;

-- name: next_row
SELECT first_seq FROM segments WHERE branch = :branch AND first_seq > :seq ORDER BY first_seq LIMIT 1;

-- name: suspended
SELECT author, epoch FROM suspended ORDER BY author, epoch;

-- name: suspend
INSERT INTO suspended (author, epoch) VALUES (:author, :epoch) ON CONFLICT DO NOTHING;

-- name: forks
SELECT id, author, epoch, seq, proof, at_ms FROM forks ORDER BY id;

-- name: forks_of
SELECT seq, proof FROM forks WHERE author = :author AND epoch = :epoch;

-- name: put_fork
INSERT INTO forks (author, epoch, seq, proof, at_ms) VALUES (:author, :epoch, :seq, :proof, :at_ms);

-- name: to_pack
SELECT pos, first_seq, last_seq, stored_ms, data, sigs FROM segments WHERE branch = :branch AND first_seq > :after ORDER BY first_seq LIMIT :rows;

-- name: packable
SELECT id, author, epoch, number, packed_seq FROM branches ORDER BY id;

-- name: newest_rows
SELECT first_seq FROM segments WHERE branch = :branch ORDER BY first_seq DESC LIMIT 1 OFFSET :rows;

-- name: packed_to
UPDATE branches SET packed_seq = :seq WHERE id = :id;

-- name: probe
INSERT INTO meta (key, value) VALUES ('probe', zeroblob(65536)) ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: unprobe
DELETE FROM meta WHERE key = 'probe';
