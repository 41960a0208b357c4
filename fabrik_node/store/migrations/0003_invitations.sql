-- Invitations that several nodes may use, and what became of each. `used` is 1 when an invitation is over; `ended` says why: used, expired, withdrawn.
ALTER TABLE invites ADD COLUMN uses_max INTEGER NOT NULL DEFAULT 1 CHECK (uses_max >= 0);
ALTER TABLE invites ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;
ALTER TABLE invites ADD COLUMN created_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE invites ADD COLUMN ended TEXT NOT NULL DEFAULT '';

UPDATE invites SET uses = 1, ended = 'used' WHERE used = 1;

CREATE TABLE joins (
    token_id BLOB NOT NULL,
    key      BLOB NOT NULL CHECK (length(key) = 32),
    at_ms    INTEGER NOT NULL,
    PRIMARY KEY (token_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX invites_newest ON invites (created_ms DESC, token_id);
CREATE INDEX joins_in_order ON joins (at_ms, key);
