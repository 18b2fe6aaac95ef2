-- How far the hub's outputs have delivered. Version 1 of the schema; `user_version` holds the number.

-- The outputs of the configuration, by name.
CREATE TABLE output (
    output     INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    generation INTEGER NOT NULL,  -- rises when somebody rewinds: what was planned before counts no more
    batch      INTEGER NOT NULL,  -- number of the last batch that was planned
    plan       TEXT,              -- JSON: the batch that is being delivered
    delivered  INTEGER NOT NULL,
    withheld   INTEGER NOT NULL,  -- not delivered, by the output's own rules
    dropped    INTEGER NOT NULL,  -- given up by a person, or gone from the hub
    late       INTEGER NOT NULL,  -- of those delivered: after the time that the law allows
    history    INTEGER NOT NULL,  -- of those delivered: flagged as old
    delay_ms   INTEGER,           -- of the last one that was neither old nor given up
    last_ms    INTEGER,           -- when something was last delivered
    trouble    TEXT               -- JSON: why nothing can be delivered now
) STRICT;

-- Number up to which everything of a log is delivered, held or none of the output's business. Logs
-- go by their names: their numbers in the hub's store may differ after a restore.
CREATE TABLE cursor (
    output INTEGER NOT NULL,
    box_id TEXT    NOT NULL,
    epoch  INTEGER NOT NULL,
    lane   INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (output, box_id, epoch, lane)
) STRICT, WITHOUT ROWID;

-- Dead letters, and what waits behind them. The order per subject is that of `number`.
CREATE TABLE held (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    output  INTEGER NOT NULL,
    dataset TEXT    NOT NULL,
    agency  TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    box_id  TEXT    NOT NULL,
    epoch   INTEGER NOT NULL,
    lane    INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    reason  TEXT,                 -- NULL: nothing is wrong with it, it waits behind another
    detail  TEXT    NOT NULL,     -- without personal data
    retry   INTEGER NOT NULL,     -- 1: somebody wants it to be tried again
    held_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX held_subject ON held (output, dataset, agency, subject, number);

-- What a far end must not hear twice, and what it answered.
CREATE TABLE once (
    output INTEGER NOT NULL,
    key    TEXT    NOT NULL,
    answer TEXT    NOT NULL,
    PRIMARY KEY (output, key)
) STRICT, WITHOUT ROWID;
