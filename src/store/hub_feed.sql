
-- Which office may read which dataset, and what of it.
CREATE TABLE office_right (
    agency     TEXT    NOT NULL,  -- as granted; a merged office's rights pass to its successor
    dataset    TEXT    NOT NULL,
    content    TEXT    NOT NULL,  -- JSON: fields, masked, rows, sensitive
    basis      TEXT    NOT NULL,  -- the law or decision; may be empty below sensitivity 3
    granted_ms INTEGER NOT NULL,
    granted_by TEXT    NOT NULL,
    PRIMARY KEY (agency, dataset)
) STRICT, WITHOUT ROWID;

-- Who changed what in the hub, for ever.
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    at_ms  INTEGER NOT NULL,
    who    TEXT    NOT NULL,
    action TEXT    NOT NULL,      -- such as grant, withdraw
    detail TEXT    NOT NULL       -- without personal data
) STRICT;

-- The number of what was last said of datasets, and the key of names that are not to be told.
CREATE TABLE feed (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL,     -- model::down::Version
    secret  BLOB    NOT NULL      -- 32 random bytes
) STRICT;

-- Which box has which dataset, and how far its initial load is.
CREATE TABLE subscription (
    box_id       TEXT    NOT NULL,
    dataset      TEXT    NOT NULL,
    content      TEXT    NOT NULL,  -- JSON: the rights by which it was filled
    load         INTEGER NOT NULL,  -- version at which the load began
    subjects     INTEGER NOT NULL,  -- of the dataset, then
    seen         INTEGER NOT NULL,  -- of these, looked at until now
    last_agency  TEXT    NOT NULL,  -- where the load stands: the last one that was looked at
    last_subject TEXT    NOT NULL,
    done         INTEGER NOT NULL,
    PRIMARY KEY (box_id, dataset)
) STRICT, WITHOUT ROWID;

-- Documents that could not be handed to an office, and statuses of offices that a document was not
-- addressed to; tried again when offices or boxes change.
CREATE TABLE undelivered (
    number    INTEGER PRIMARY KEY,
    place     INTEGER NOT NULL,   -- of the entry
    recipient TEXT    NOT NULL,   -- agency code as the sender wrote it
    reason    TEXT    NOT NULL,   -- unknown_office, no_box, too_large; of a status: not_addressed, unreadable
    noted_ms  INTEGER NOT NULL,
    UNIQUE (place, recipient)
) STRICT;

-- Documents that were handed on: the offices that they were addressed to may say what became of them.
CREATE TABLE handed (
    document INTEGER PRIMARY KEY,
    id       TEXT    NOT NULL,   -- of the document's record
    sender   TEXT    NOT NULL,   -- agency code of the record
    dataset  TEXT    NOT NULL,
    subject  TEXT    NOT NULL,
    at_ms    INTEGER NOT NULL,
    UNIQUE (id, sender)
) STRICT;
CREATE INDEX handed_subject ON handed (subject, dataset);

CREATE TABLE handed_to (
    document  INTEGER NOT NULL,
    recipient TEXT    NOT NULL,  -- agency code as the sender wrote it
    PRIMARY KEY (document, recipient)
) STRICT, WITHOUT ROWID;
