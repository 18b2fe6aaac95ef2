
-- The catalogues that were published, as every box gets them.
CREATE TABLE published (
    version      INTEGER PRIMARY KEY,
    news         TEXT    NOT NULL,  -- JSON as in model::down, signature included
    effective_ms INTEGER NOT NULL,  -- midnight of its day, Vietnam time
    content      BLOB    NOT NULL,  -- the bundle
    published_ms INTEGER NOT NULL
) STRICT;

-- Which of them stand in which box's downlink.
CREATE TABLE published_to (
    box_id    TEXT    NOT NULL,
    version   INTEGER NOT NULL,
    posted_ms INTEGER NOT NULL,
    epoch     INTEGER NOT NULL,  -- of the downlink that it was put into; 0: before its first one
    PRIMARY KEY (box_id, version)
) STRICT, WITHOUT ROWID;

-- Commands that were given. What became of them, the boxes' answers say (dataset `lenh_tram`).
CREATE TABLE command (
    number    INTEGER PRIMARY KEY,  -- rising: the order in which they were given
    id        TEXT    NOT NULL UNIQUE,
    box_id    TEXT    NOT NULL,
    command   TEXT    NOT NULL,     -- JSON as in model::down, signature included
    given_ms  INTEGER NOT NULL,
    posted_ms INTEGER               -- when it came into the box's downlink
) STRICT;
CREATE INDEX command_due ON command (number) WHERE posted_ms IS NULL;
