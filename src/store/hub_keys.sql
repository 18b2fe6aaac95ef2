
-- Keys of boxes whose certificates were renewed, in the order in which they were issued; a box that
-- never changed its key has none here. The one in force stands in `box` as well.
CREATE TABLE box_key (
    number       INTEGER PRIMARY KEY,
    box_id       TEXT    NOT NULL,
    public_key   BLOB    NOT NULL UNIQUE,
    serial       TEXT    NOT NULL,  -- of its certificate, hexadecimal
    certificate  TEXT    NOT NULL,  -- PEM; empty for the key of the registration
    issued_ms    INTEGER NOT NULL,
    not_after_ms INTEGER NOT NULL,
    state        TEXT    NOT NULL,  -- offered: issued, and not used yet; current; retired: its
                                    -- batches are refused; dropped: was never used
    state_ms     INTEGER NOT NULL
) STRICT;
CREATE INDEX box_key_of ON box_key (box_id, state);

-- The last order to change its key that each box was given.
CREATE TABLE rotation (
    box_id     TEXT PRIMARY KEY,
    order_id   TEXT    NOT NULL,    -- of the command
    ordered_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    tries      INTEGER NOT NULL,    -- orders since the key last changed
    answer     TEXT,                -- JSON: the new key, as the box has said it and nobody looked at
    state      TEXT    NOT NULL,    -- ordered, offered, done, failed
    detail     TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
