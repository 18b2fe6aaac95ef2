-- The box's store. Version 1 of the schema; `user_version` holds the number.

-- Facts about this store as a whole; one row.
CREATE TABLE box (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    box_id        TEXT    NOT NULL,
    epoch         INTEGER NOT NULL,  -- random, names this life of the store (model::Epoch)
    time_floor_ms INTEGER NOT NULL   -- latest time known to be past, ms since 1970 UTC
) STRICT;

-- Where each lane's log stands. Numbers count the lane's entries since the store was created, through
-- all epochs.
CREATE TABLE lane (
    lane          INTEGER PRIMARY KEY,  -- 0 to 4: P0 to P4
    begin         INTEGER NOT NULL,     -- number of the first entry under this epoch
    tail          INTEGER NOT NULL,     -- number of the newest entry that was deleted; ends a block
    tail_chain    BLOB    NOT NULL,     -- chain at `tail`
    tail_sum      INTEGER NOT NULL,     -- bytes of all blocks up to `tail`
    acked         INTEGER NOT NULL,     -- number up to which the hub has given its receipt
    acked_chain   BLOB    NOT NULL,     -- chain at `acked`
    acked_sum     INTEGER NOT NULL,     -- bytes of all blocks that end there or before
    acked_capture INTEGER NOT NULL,     -- capture number at `acked`, or of a block before
    receipt       BLOB,                 -- the hub's last receipt as received, signature included
    receipt_ms    INTEGER               -- when it came
) STRICT;

-- The entries, waiting and in the kept tail, in blocks: what one commit added to a lane is one row,
-- compressed, so that it is written in less than its own size.
CREATE TABLE outbox (
    place     INTEGER PRIMARY KEY,  -- lane * 2^56 + number of the block's last entry
    entries   INTEGER NOT NULL,     -- how many, numbered without gaps
    capture   INTEGER NOT NULL,     -- box-wide number of the last entry's capture
    stored_ms INTEGER NOT NULL,     -- when the first one was accepted
    sum       INTEGER NOT NULL,     -- bytes of this lane's blocks up to and with this one
    chain     BLOB    NOT NULL,     -- SHA-256 chain after the last entry
    raw_bytes INTEGER NOT NULL,     -- of `body` when decompressed
    body      BLOB    NOT NULL      -- the entries as they are sent: a CBOR sequence of byte strings
                                    -- (RFC 8742), compressed with zstd (RFC 8878)
) STRICT;

-- Attachments that records name, in the order in which they are sent. The content is a file beside
-- the store, named by its digest, which is there before the record is.
CREATE TABLE blob (
    number    INTEGER PRIMARY KEY,     -- rising
    digest    BLOB    NOT NULL UNIQUE, -- SHA-256 of the content
    bytes     INTEGER NOT NULL,
    mime      TEXT    NOT NULL,
    stored_ms INTEGER NOT NULL,        -- when the first record that names it was accepted
    queued    INTEGER NOT NULL,        -- bytes whose chunks are entries of P4
    received  INTEGER NOT NULL,        -- bytes whose chunks have the hub's receipt
    last      INTEGER,                 -- number of its newest chunk in P4
    state     TEXT    NOT NULL,        -- waiting, queued (all of it), received (all of it)
    gone_ms   INTEGER                  -- when the content was found to be missing or damaged
) STRICT;
CREATE INDEX blob_state ON blob (state, number);

-- Which records name an attachment.
CREATE TABLE blob_ref (
    blob INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    seq  INTEGER NOT NULL,
    PRIMARY KEY (blob, lane, seq)
) STRICT, WITHOUT ROWID;

-- The chunks that are entries of P4 and wait for their receipt; few.
CREATE TABLE blob_chunk (
    seq  INTEGER PRIMARY KEY,  -- number of the entry in P4
    blob INTEGER NOT NULL,
    upto INTEGER NOT NULL      -- where the chunk ends in the content
) STRICT;

-- What makes a repeat harmless: keys that sources gave, with the answer that they got.
CREATE TABLE once (
    number    INTEGER PRIMARY KEY,   -- rising, so that the oldest can be dropped
    key       BLOB    NOT NULL UNIQUE, -- first 16 bytes of SHA-256 over the source and its key
    digest    BLOB    NOT NULL,      -- first 16 bytes of SHA-256 over the content
    answer    TEXT    NOT NULL,      -- JSON: the accepted records' ids, lanes and numbers
    stored_ms INTEGER NOT NULL
) STRICT;

-- How far each polled source was read; moves in the transaction that keeps its rows.
CREATE TABLE cursor (
    source TEXT PRIMARY KEY,
    value  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Rows that cannot be kept as they are, with the reason, and behind them the later rows of their
-- subjects. Written and deleted in the transaction that moves the cursor past them or keeps them.
CREATE TABLE parked (
    number    INTEGER PRIMARY KEY,  -- rising: the order in which the rows came
    source    TEXT    NOT NULL,
    dataset   TEXT    NOT NULL,
    subject   BLOB,                 -- first 16 bytes of SHA-256 over the subject; none: nobody waits
    op        TEXT    NOT NULL,     -- upsert, delete, snapshot
    id        TEXT,                 -- the source's own id
    key       BLOB,                 -- what names the row at its source; a newer one takes its place
    row       BLOB,                 -- JSON; none where a rule forbids to store the content
    whole     INTEGER NOT NULL,     -- 0: not all of the row is in it, so it is never handed in again
    attachments TEXT,               -- JSON: the attachments that it names; none: it has none
    reason_vi TEXT    NOT NULL,     -- without personal data; empty: only waits behind another row
    reason_en TEXT    NOT NULL,
    at_ms     INTEGER NOT NULL
) STRICT;
CREATE INDEX parked_subject ON parked (source, subject);
CREATE INDEX parked_key ON parked (source, key) WHERE key IS NOT NULL;

-- What a source without a strict watermark has given already: rows of a snapshot, or of the time
-- that is read again. Written in the transaction that keeps the rows.
CREATE TABLE seen (
    number INTEGER PRIMARY KEY,
    source TEXT    NOT NULL,
    key    BLOB    NOT NULL,   -- first 16 bytes of SHA-256 over what names the row
    hash   BLOB    NOT NULL,   -- first 16 bytes of SHA-256 over its content
    mark   INTEGER NOT NULL,   -- time read again: the row's time, microseconds; snapshot: 0
    fields BLOB    NOT NULL,   -- JSON: what a delete of the row needs to say; may be empty
    UNIQUE (source, key)
) STRICT;

-- What each source did, written now and then for the page; not part of any promise.
CREATE TABLE source (
    source           TEXT PRIMARY KEY,
    accepted         INTEGER NOT NULL,  -- records since the store was created
    refused          INTEGER NOT NULL,
    last_accepted_ms INTEGER,
    last_refused_ms  INTEGER,
    last_refusal     TEXT               -- why, without personal data
) STRICT, WITHOUT ROWID;

-- What the program had written to the disk, one row a day for as long as the store lives; for the
-- page's word about the card, not part of any promise.
CREATE TABLE written (
    day      INTEGER PRIMARY KEY,  -- days since 1970-01-01, Vietnam time
    since_ms INTEGER NOT NULL,     -- when the day's first count was made
    bytes    INTEGER NOT NULL
) STRICT;

-- Events of the last days for the page; bounded.
CREATE TABLE event (
    number  INTEGER PRIMARY KEY,
    at_ms   INTEGER NOT NULL,
    level   TEXT    NOT NULL,  -- info, warning, alarm
    code    TEXT    NOT NULL,  -- such as state_secret, link_down
    detail  TEXT    NOT NULL   -- without personal data
) STRICT;

-- How much waited for the hub's receipt, for the page's drawings and its forecast; not part of any
-- promise. One row about every ten minutes, and only in a transaction that is made anyway; of the
-- last fortnight. It costs at most 144 times two pages of the card a day, 1.2 MB; a quiet box writes
-- none, and a power cut takes the last row at most.
CREATE TABLE history (
    at_ms INTEGER PRIMARY KEY,
    p0    INTEGER NOT NULL,  -- entries that waited, per lane
    p1    INTEGER NOT NULL,
    p2    INTEGER NOT NULL,
    p3    INTEGER NOT NULL,
    p4    INTEGER NOT NULL,
    bytes INTEGER NOT NULL   -- of all of them
) STRICT;

-- The lives of the program with this store, the last twenty: how the page knows of a power cut.
CREATE TABLE life (
    number   INTEGER PRIMARY KEY,
    boot     TEXT,               -- names the start of the machine; none: the kernel does not say
    began_ms INTEGER NOT NULL,
    ended_ms INTEGER,            -- of an ordered stop; otherwise the last sign of life
    ending   TEXT                -- ordered, killed, power; none while it lasts
) STRICT;
