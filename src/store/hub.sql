-- The hub's store. Version 1 of the schema; `user_version` holds the number.

-- The registered boxes.
CREATE TABLE box (
    box_id         TEXT PRIMARY KEY,
    agency         TEXT    NOT NULL,  -- the office that the box stands in
    public_key     BLOB    NOT NULL,  -- P-256 point, 65 bytes: verifies the box's batches
    serial         TEXT    NOT NULL,  -- of its certificate, hexadecimal
    not_after_ms   INTEGER NOT NULL,  -- end of its certificate
    state          TEXT    NOT NULL CHECK (state IN ('active', 'suspended', 'revoked')),
    registered_ms  INTEGER NOT NULL,
    last_seen_ms   INTEGER,
    presence       TEXT,              -- JSON: what the box last said of itself
    presence_ms    INTEGER
) STRICT, WITHOUT ROWID;

-- Agencies that a box stood for: an entry may speak only for one of these.
CREATE TABLE box_agency (
    box_id  TEXT    NOT NULL,
    agency  TEXT    NOT NULL,
    from_ms INTEGER NOT NULL,
    PRIMARY KEY (box_id, agency)
) STRICT, WITHOUT ROWID;

-- One log per box, epoch and lane, and how far it is committed here.
CREATE TABLE log (
    log         INTEGER PRIMARY KEY,  -- rising with the first sight of the log
    box_id      TEXT    NOT NULL,
    epoch       INTEGER NOT NULL,
    lane        INTEGER NOT NULL,     -- 0 to 4: P0 to P4
    life        INTEGER NOT NULL,     -- the first `log` of this epoch: puts epochs and boxes in order
    begin       INTEGER NOT NULL,     -- first number under this epoch; those before are in earlier logs
    applied     INTEGER NOT NULL,     -- number up to which everything is committed or said lost
    chain       BLOB    NOT NULL,     -- SHA-256 chain at `applied`
    max_capture INTEGER NOT NULL,     -- greatest capture number in this log
    entries     INTEGER NOT NULL,     -- entries held
    doubles     INTEGER NOT NULL,     -- of these, repeats of entries of another epoch
    bytes       INTEGER NOT NULL,
    first_ms    INTEGER NOT NULL,     -- when the log was first and last added to
    last_ms     INTEGER NOT NULL,
    UNIQUE (box_id, lane, epoch)
) STRICT;

-- Names of datasets, so that entries hold a small number.
CREATE TABLE dataset (
    dataset INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE
) STRICT;

-- The entries, as the boxes sent them.
CREATE TABLE entry (
    place   INTEGER PRIMARY KEY,  -- log * 2^40 + number
    capture INTEGER NOT NULL,     -- the box's number of the capture; 0 when unreadable
    dataset INTEGER,              -- NULL when the entry cannot be read, and for a chunk of an attachment
    entry   BLOB,                 -- the bytes that were chained and signed
    same_as INTEGER,              -- instead of bytes: the place of the same entry of another epoch
    CHECK ((entry IS NULL) <> (same_as IS NULL))
) STRICT;

-- Evidence: each batch as the box signed it.
CREATE TABLE batch (
    place       INTEGER PRIMARY KEY,  -- place of the first entry that was new
    first       INTEGER NOT NULL,     -- the numbers that were signed
    last        INTEGER NOT NULL,
    oldest      INTEGER NOT NULL,
    base        BLOB    NOT NULL,     -- chain before `first`
    signature   BLOB    NOT NULL,     -- ECDSA P-256, 64 bytes
    received_ms INTEGER NOT NULL
) STRICT;

-- The present state of each subject: last writer by the order of capture within a life, not of
-- arrival.
CREATE TABLE state (
    dataset INTEGER NOT NULL,
    agency  TEXT    NOT NULL,     -- who owns the record
    subject TEXT    NOT NULL,
    life    INTEGER NOT NULL,     -- in which this was last said: `log.life`
    capture INTEGER NOT NULL,     -- the box's number of the capture
    place   INTEGER NOT NULL,     -- the entry that holds the record; of an earlier life, when repeated
    deleted INTEGER NOT NULL,     -- 1: the subject is gone
    PRIMARY KEY (dataset, agency, subject)
) STRICT, WITHOUT ROWID;

-- What was lost by force: ranges that a box has said it no longer holds. A range before the log's
-- `begin` was lost when the box's store and this one were set back: no earlier log has it.
CREATE TABLE gap (
    gap      INTEGER PRIMARY KEY,
    box_id   TEXT    NOT NULL,
    epoch    INTEGER NOT NULL,
    lane     INTEGER NOT NULL,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    reason   TEXT    NOT NULL,
    noted_ms INTEGER NOT NULL
) STRICT;

-- Entries that are kept but could not be taken into the present state.
CREATE TABLE parked (
    place     INTEGER PRIMARY KEY,
    reason    TEXT    NOT NULL,   -- unreadable, foreign_agency
    detail    TEXT    NOT NULL,   -- without personal data
    parked_ms INTEGER NOT NULL
) STRICT;

-- Batches that were refused: counted, never kept.
CREATE TABLE refusal (
    box_id   TEXT    NOT NULL,
    code     TEXT    NOT NULL,    -- unknown_box, suspended, forged, broken_chain, unreadable
    count    INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL,
    PRIMARY KEY (box_id, code)
) STRICT, WITHOUT ROWID;

-- Boxes to which something was ever sent, and their logs' epoch.
CREATE TABLE down_box (
    number     INTEGER PRIMARY KEY,  -- names the box's logs: `log` is number * 8 + lane
    box_id     TEXT    NOT NULL UNIQUE,
    epoch      INTEGER NOT NULL,     -- of its logs; each new one is greater
    reload_ms  INTEGER,              -- since when its copies are to be loaded again; NULL: they are good
    reload_why TEXT,                 -- new, set_back, lost_there, dropped, asked
    reloaded_ms INTEGER              -- when that last began for what the box has said; NULL: never
) STRICT;

-- Where each log to a box stands; numbers go on through its epochs.
CREATE TABLE down_lane (
    log         INTEGER PRIMARY KEY,
    begin       INTEGER NOT NULL,    -- number of the first entry under this epoch
    tail        INTEGER NOT NULL,    -- number of the newest entry that was deleted; ends a block
    tail_chain  BLOB    NOT NULL,
    tail_sum    INTEGER NOT NULL,    -- bytes of all blocks up to `tail`
    acked       INTEGER NOT NULL,    -- number up to which the box has given its receipt
    acked_chain BLOB    NOT NULL,
    acked_sum   INTEGER NOT NULL,
    receipt     BLOB,                -- the box's last receipt as received, signature included
    receipt_ms  INTEGER
) STRICT;

-- The entries to the boxes, waiting and in the kept tail, in blocks as in a box's outbox.
CREATE TABLE down (
    place     INTEGER PRIMARY KEY,   -- log * 2^40 + number of the block's last entry
    entries   INTEGER NOT NULL,
    stored_ms INTEGER NOT NULL,      -- when the first one was ordered
    sum       INTEGER NOT NULL,      -- bytes of this log's blocks up to and with this one
    chain     BLOB    NOT NULL,      -- SHA-256 chain after the last entry
    raw_bytes INTEGER NOT NULL,      -- of `body` when decompressed
    body      BLOB    NOT NULL
) STRICT;

-- What is to be sent and is in no log yet; any process may write here, the engine takes it up.
CREATE TABLE down_order (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    box_id TEXT    NOT NULL,
    lane   INTEGER NOT NULL,
    entry  BLOB    NOT NULL CHECK (length(entry) <= 98304),
    at_ms  INTEGER NOT NULL
) STRICT;

-- What was dropped before the box had it; the box notes the same range.
CREATE TABLE down_gap (
    gap      INTEGER PRIMARY KEY,
    number   INTEGER NOT NULL,       -- of the box
    epoch    INTEGER NOT NULL,
    lane     INTEGER NOT NULL,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    reason   TEXT    NOT NULL,       -- no_room
    noted_ms INTEGER NOT NULL
) STRICT;

-- Attachments, named by what they hold, and what became of each. The content is a file beside the
-- store.
CREATE TABLE blob (
    digest     BLOB PRIMARY KEY,  -- SHA-256 of the content
    bytes      INTEGER NOT NULL,
    mime       TEXT    NOT NULL,  -- as the first record says that names it; empty before one has come
    state      TEXT    NOT NULL,  -- expected, receiving, checking, kept, quarantined, lost
    detail     TEXT    NOT NULL,  -- why it is in quarantine or lost
    box_id     TEXT    NOT NULL,  -- the first box that spoke of it
    first_ms   INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL   -- when `state` became what it is
) STRICT, WITHOUT ROWID;

-- How much of an attachment has come from each box, in a part file of its own.
CREATE TABLE blob_part (
    box_id   TEXT    NOT NULL,
    digest   BLOB    NOT NULL,
    bytes    INTEGER NOT NULL,  -- of the whole content, as this box says
    received INTEGER NOT NULL,  -- synced from the beginning up to here
    state    TEXT    NOT NULL,  -- as in blob
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL,
    PRIMARY KEY (box_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_part_checking ON blob_part (last_ms) WHERE state = 'checking';
