
-- Files that documents name, and how much of each has come. The content lies in files beside the
-- store.
CREATE TABLE file (
    digest     BLOB    PRIMARY KEY, -- SHA-256 of the content
    bytes      INTEGER NOT NULL,
    received   INTEGER NOT NULL,    -- synced from the beginning up to here
    state      TEXT    NOT NULL,    -- waiting, receiving, checking, kept, refused (the hub says that it
                                    -- will not come), lost (what came is of no use), full (there was
                                    -- no room), removed (nobody needs it any more)
    changed_ms INTEGER NOT NULL,
    ask_ms     INTEGER NOT NULL     -- the hub is asked again when nothing of it has come by then
) STRICT, WITHOUT ROWID;
CREATE INDEX file_state ON file (state, changed_ms);

CREATE TABLE document_file (
    digest   BLOB    NOT NULL,
    document INTEGER NOT NULL,
    PRIMARY KEY (digest, document)
) STRICT, WITHOUT ROWID;
CREATE INDEX document_file_document ON document_file (document);
