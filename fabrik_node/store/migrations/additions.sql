-- Tables and indexes that stand beside the schema: an older version does not know them and is not hindered, so they are no migration, and a home can go back to it.
-- Each statement changes nothing when its table or index is there.

-- What `invites` has no columns for. `uses_max` 0: any number; `ended`: empty, used, expired or withdrawn. An invitation without a row here is one for one node.
CREATE TABLE IF NOT EXISTS invite_notes (
    token_id   BLOB PRIMARY KEY,
    uses_max   INTEGER NOT NULL CHECK (uses_max >= 0),
    uses       INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    ended      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Who came in through this node, and with which invitation; `token_id` is empty for an approved knock.
CREATE TABLE IF NOT EXISTS joins (
    token_id BLOB NOT NULL,
    key      BLOB NOT NULL CHECK (length(key) = 32),
    at_ms    INTEGER NOT NULL,
    PRIMARY KEY (token_id, key)
) STRICT, WITHOUT ROWID;

-- The runs of one item, for the answer to a question about it.
CREATE INDEX IF NOT EXISTS runs_of_item ON runs (item, started_ms DESC, run_id DESC);
