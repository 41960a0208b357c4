-- Schema 1. The rules are in docs/spec/store.md.

CREATE TABLE migrations (
    number     INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE counters (
    name  TEXT PRIMARY KEY CHECK (name IN ('starts', 'events_upto_pos')),
    value INTEGER NOT NULL CHECK (value >= 0)
) STRICT, WITHOUT ROWID;

INSERT INTO counters (name, value) VALUES ('starts', 0), ('events_upto_pos', 0);

CREATE TABLE logs (
    id     INTEGER PRIMARY KEY,
    author BLOB NOT NULL CHECK (length(author) = 32),
    epoch  INTEGER NOT NULL CHECK (epoch >= 1),
    UNIQUE (author, epoch)
) STRICT;

-- One row per segment, as it was received or authored. Rows are only ever added.
CREATE TABLE segments (
    pos       INTEGER PRIMARY KEY AUTOINCREMENT,
    log       INTEGER NOT NULL REFERENCES logs (id),
    first_seq INTEGER NOT NULL CHECK (first_seq >= 1),
    last_seq  INTEGER NOT NULL CHECK (last_seq >= first_seq),
    stored_ms INTEGER NOT NULL,
    data      BLOB NOT NULL CHECK (length(data) > 0),
    UNIQUE (log, first_seq)
) STRICT;

CREATE TABLE events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    type    TEXT NOT NULL,
    wall_ms INTEGER NOT NULL,
    data    TEXT NOT NULL
) STRICT;

CREATE TABLE peers (
    url TEXT PRIMARY KEY,
    key BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE invites (
    token_id   BLOB PRIMARY KEY,
    secret     BLOB NOT NULL,
    role       INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    boot_id    TEXT NOT NULL,
    used       INTEGER NOT NULL DEFAULT 0 CHECK (used IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    run_id          BLOB PRIMARY KEY CHECK (length(run_id) = 16),
    item            BLOB NOT NULL,
    claim_id        BLOB NOT NULL,
    node            BLOB NOT NULL,
    agent           TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN (
        'starting', 'running', 'completed', 'failed', 'cancelled', 'interrupted', 'superseded',
        'quiet', 'stalled', 'waiting', 'draining', 'unreachable', 'lost', 'orphaned', 'unknown')),
    phase           TEXT NOT NULL,
    started_ms      INTEGER NOT NULL,
    pid             INTEGER,
    process_started TEXT,
    process_boot    TEXT,
    ended_ms        INTEGER NOT NULL,
    exit_code       INTEGER,
    reason          TEXT NOT NULL,
    branch          TEXT NOT NULL,
    worktree        TEXT NOT NULL,
    log             TEXT NOT NULL,
    engine          TEXT NOT NULL,
    CHECK ((pid IS NULL) = (process_started IS NULL) AND (pid IS NULL) = (process_boot IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_newest ON runs (started_ms DESC, run_id DESC);
