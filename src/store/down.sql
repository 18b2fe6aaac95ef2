-- What the hub has sent to the box. Version 1 of the schema; `user_version` holds the number. A file
-- of its own: if it is damaged, what waits to go up is not.

-- Facts about this store as a whole; one row.
CREATE TABLE down (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    box_id   TEXT    NOT NULL,
    epoch    INTEGER NOT NULL,  -- of the hub's logs for this box; the greater one is the newer; 0: none
    epoch_ms INTEGER,           -- when it was first heard of
    heard_ms INTEGER,           -- when entries last came
    logs_ms  INTEGER            -- when this box last said where its logs stand
) STRICT;

-- How far each lane's log of the present epoch is applied here. Moves in the transaction in which the
-- entries do what they say.
CREATE TABLE position (
    lane    INTEGER PRIMARY KEY,  -- 0 to 4: P0 to P4
    epoch   INTEGER NOT NULL,     -- a row of an earlier epoch counts as none
    applied INTEGER NOT NULL,     -- number up to which everything was applied or said to be lost
    chain   BLOB    NOT NULL,     -- SHA-256 chain at `applied`
    entries INTEGER NOT NULL,     -- applied since this file was begun, in all epochs
    last_ms INTEGER NOT NULL      -- when the last one came
) STRICT;

-- What the hub has said it no longer holds.
CREATE TABLE gap (
    gap      INTEGER PRIMARY KEY,
    epoch    INTEGER NOT NULL,
    lane     INTEGER NOT NULL,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    reason   TEXT    NOT NULL,    -- lost_at_hub
    noted_ms INTEGER NOT NULL
) STRICT;

-- Entries that this program does not understand, as received: a newer one may.
CREATE TABLE unknown (
    number  INTEGER PRIMARY KEY,  -- rising: the order in which they came
    epoch   INTEGER NOT NULL,
    lane    INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    entry   BLOB    NOT NULL,
    kept_ms INTEGER NOT NULL
) STRICT;
