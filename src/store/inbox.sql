
-- Documents that are addressed to this office, as they came.
CREATE TABLE document (
    document    INTEGER PRIMARY KEY,  -- rising: the order in which they came
    id          TEXT    NOT NULL,     -- the sender's id of the record
    dataset     TEXT    NOT NULL,
    schema      INTEGER NOT NULL,
    subject     TEXT    NOT NULL,
    sender      TEXT    NOT NULL,     -- agency code
    recipient   TEXT    NOT NULL,     -- agency code as the sender wrote it
    at_ms       INTEGER NOT NULL,     -- when it happened at the sender
    received_ms INTEGER NOT NULL,
    attachments TEXT,                 -- JSON
    data        TEXT    NOT NULL,
    original    TEXT,                 -- base64: the source's own bytes
    done_ms     INTEGER,              -- when the office's software took it over
    UNIQUE (sender, id)
) STRICT;
CREATE INDEX document_open ON document (received_ms, sender, id) WHERE done_ms IS NULL;

-- What became of documents, received or sent: each code once by each office.
CREATE TABLE document_status (
    status   INTEGER PRIMARY KEY,
    sender   TEXT    NOT NULL,  -- of the document
    id       TEXT    NOT NULL,  -- of the document
    code     TEXT    NOT NULL,
    by       TEXT    NOT NULL,  -- agency code; empty: this office
    at_ms    INTEGER NOT NULL,
    note     TEXT    NOT NULL,
    said_to  TEXT    NOT NULL,  -- agency code, of what this office says as the sender; else empty
    said     INTEGER NOT NULL,  -- 0: is still to be handed in as a record of ours
    UNIQUE (sender, id, code, by)
) STRICT;
CREATE INDEX document_status_unsaid ON document_status (status) WHERE said = 0;

-- Which document went out where: a folder or a web service of the office's software.
CREATE TABLE handed (
    inbox    TEXT    NOT NULL,  -- name in the configuration
    document INTEGER NOT NULL,
    done_ms  INTEGER,           -- NULL: not yet
    tries    INTEGER NOT NULL,
    retry_ms INTEGER NOT NULL,  -- not before this
    error    TEXT    NOT NULL,  -- why the last try failed, without personal data
    PRIMARY KEY (inbox, document)
) STRICT, WITHOUT ROWID;
CREATE INDEX handed_open ON handed (inbox, document) WHERE done_ms IS NULL;
