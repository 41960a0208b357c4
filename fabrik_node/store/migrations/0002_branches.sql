-- Schema 2: a log is a tree of branches; rows may be packed, set aside and put back. The rules are in docs/spec/store.md.

CREATE TABLE branches (
    id          INTEGER PRIMARY KEY,
    author      BLOB NOT NULL CHECK (length(author) = 32),
    epoch       INTEGER NOT NULL CHECK (epoch >= 1),
    number      INTEGER NOT NULL CHECK (number >= 0),
    base_branch INTEGER,
    base_seq    INTEGER NOT NULL DEFAULT 0 CHECK (base_seq >= 0),
    packed_seq  INTEGER NOT NULL DEFAULT 0,
    UNIQUE (author, epoch, number),
    CHECK ((number = 0) = (base_branch IS NULL) AND (number > 0 OR base_seq = 0) AND (base_branch IS NULL OR base_branch < number))
) STRICT;

INSERT INTO branches (id, author, epoch, number) SELECT id, author, epoch, 0 FROM logs;

CREATE TABLE segments_2 (
    pos       INTEGER PRIMARY KEY AUTOINCREMENT,
    branch    INTEGER NOT NULL REFERENCES branches (id),
    first_seq INTEGER NOT NULL CHECK (first_seq >= 1),
    last_seq  INTEGER NOT NULL CHECK (last_seq >= first_seq),
    stored_ms INTEGER NOT NULL,
    data      BLOB NOT NULL CHECK (length(data) > 0),
    sigs      BLOB CHECK (length(sigs) % 72 = 0),
    UNIQUE (branch, first_seq)
) STRICT;

INSERT INTO segments_2 (pos, branch, first_seq, last_seq, stored_ms, data) SELECT pos, log, first_seq, last_seq, stored_ms, data FROM segments ORDER BY pos;

DROP TABLE segments;

DROP TABLE logs;

ALTER TABLE segments_2 RENAME TO segments;

CREATE TABLE suspended (
    author BLOB NOT NULL CHECK (length(author) = 32),
    epoch  INTEGER NOT NULL CHECK (epoch >= 1),
    PRIMARY KEY (author, epoch)
) STRICT, WITHOUT ROWID;

-- Rows that are not what was stored, and those that only such a row connects to their log.
CREATE TABLE damaged (
    pos       INTEGER PRIMARY KEY,
    author    BLOB NOT NULL CHECK (length(author) = 32),
    epoch     INTEGER NOT NULL,
    number    INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq  INTEGER NOT NULL,
    data      BLOB NOT NULL,
    why       TEXT NOT NULL,
    at_ms     INTEGER NOT NULL
) STRICT;

CREATE INDEX damaged_of_branch ON damaged (author, epoch, number, first_seq);

CREATE TABLE forks (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    author BLOB NOT NULL CHECK (length(author) = 32),
    epoch  INTEGER NOT NULL CHECK (epoch >= 1),
    seq    INTEGER NOT NULL CHECK (seq >= 1),
    proof  BLOB NOT NULL CHECK (length(proof) > 0),
    at_ms  INTEGER NOT NULL
) STRICT;

CREATE INDEX forks_of_log ON forks (author, epoch, seq);
