
-- Which records name an attachment.
CREATE TABLE blob_ref (
    digest BLOB    NOT NULL,
    place  INTEGER NOT NULL,   -- of the entry
    PRIMARY KEY (digest, place)
) STRICT, WITHOUT ROWID;

-- Files that documents name, on their way to the boxes that the documents go to: each once to a box,
-- however many documents name it.
CREATE TABLE down_file (
    number   INTEGER PRIMARY KEY,  -- rising: the order in which they are sent
    box_id   TEXT    NOT NULL,
    digest   BLOB    NOT NULL,
    queued   INTEGER NOT NULL,     -- bytes whose chunks are entries of the box's P4
    last     INTEGER,              -- number of its newest chunk there
    state    TEXT    NOT NULL,     -- wanted, queued (all of it), received (all of it), refused (the
                                   -- box has heard that it will not come), gone (not readable here)
    since_ms INTEGER NOT NULL,     -- of the state
    UNIQUE (box_id, digest)
) STRICT;
CREATE INDEX down_file_wanted ON down_file (box_id, number) WHERE state = 'wanted';

-- The chunks that are entries of a box's P4 and wait for its receipt; few.
CREATE TABLE down_chunk (
    box_id TEXT    NOT NULL,
    seq    INTEGER NOT NULL,       -- number of the entry in P4
    file   INTEGER NOT NULL,
    PRIMARY KEY (box_id, seq)
) STRICT, WITHOUT ROWID;
