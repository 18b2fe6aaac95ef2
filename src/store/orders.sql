
-- Pieces of published catalogues that have not all come.
CREATE TABLE catalogue_part (
    number INTEGER PRIMARY KEY,  -- rising, so that forgotten ones can be dropped
    sha256 TEXT    NOT NULL,     -- of the whole content, hexadecimal
    part   INTEGER NOT NULL,     -- from 0
    data   BLOB    NOT NULL,
    UNIQUE (sha256, part)
) STRICT;

-- Catalogues that the hub has published. `next` waits for its day, `current` holds, `past` has held
-- or was overtaken; a `refused` one is never used. Without a `current` one the installed folder holds.
CREATE TABLE catalogue (
    number       INTEGER PRIMARY KEY,  -- rising: the order in which they came
    version      INTEGER NOT NULL,
    effective    TEXT    NOT NULL,     -- yyyy-MM-dd
    sha256       TEXT    NOT NULL,
    news         TEXT    NOT NULL,     -- JSON as in model::down, signature included
    effective_ms INTEGER NOT NULL,     -- midnight of that day, Vietnam time
    content      BLOB,                 -- the bundle, when it is whole and may yet be used
    state        TEXT    NOT NULL,     -- arriving, next, current, past, refused
    reason       TEXT    NOT NULL,     -- why it was refused
    since_ms     INTEGER NOT NULL,     -- of the state
    UNIQUE (version, effective, sha256)
) STRICT;

-- Commands, each remembered so that a repeat does nothing.
CREATE TABLE command (
    number      INTEGER PRIMARY KEY,  -- rising: the order in which they came
    id          TEXT    NOT NULL UNIQUE,
    command     TEXT    NOT NULL,     -- JSON as in model::down, signature included
    received_ms INTEGER NOT NULL,
    state       TEXT    NOT NULL,     -- waiting, begun, done, failed, expired, refused, unknown
    state_ms    INTEGER NOT NULL
) STRICT;

-- What commands have set, until another one changes it.
CREATE TABLE setting (
    name  TEXT    PRIMARY KEY,
    value TEXT    NOT NULL,  -- JSON
    by    TEXT    NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was done here on the hub's word, or found in comparing with it; never changed.
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    at_ms  INTEGER NOT NULL,
    who    TEXT    NOT NULL,
    what   TEXT    NOT NULL,  -- command, catalogue, compare
    id     TEXT    NOT NULL,  -- the command's id, the catalogue's version …
    name   TEXT    NOT NULL,
    result TEXT    NOT NULL,
    detail TEXT    NOT NULL   -- without personal data
) STRICT;

-- What the hub is to be told of these; deleted when it is in the box's own log.
CREATE TABLE answer (
    number INTEGER PRIMARY KEY,
    id     TEXT NOT NULL,     -- names the answer: a repeat is harmless
    answer TEXT NOT NULL      -- JSON
) STRICT;
