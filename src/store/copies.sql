
-- Datasets that the hub lets this office read.
CREATE TABLE copied (
    dataset  INTEGER PRIMARY KEY,
    name     TEXT    NOT NULL UNIQUE,
    floor    INTEGER NOT NULL,  -- copies of an earlier version are void: the right was withdrawn
    load     INTEGER NOT NULL,  -- the initial load that was heard of last, by its version; 0: none
    subjects INTEGER NOT NULL,  -- of that load: how many there are at the hub …
    seen     INTEGER NOT NULL,  -- … and how many of them the hub has looked at
    loaded   INTEGER NOT NULL,  -- the load that has ended last
    sweep    INTEGER NOT NULL,  -- rows of an earlier version are to be deleted; 0: none
    as_of_ms INTEGER NOT NULL,  -- hub's time of the last that it said about the dataset
    held     INTEGER NOT NULL,  -- rows of `copy` with content, void ones that are not deleted yet too
    words    TEXT    NOT NULL,  -- of which fields the words in `copy_text_<dataset>` were made
    reword   INTEGER            -- those of rows above this one are to be made anew; NULL: none
) STRICT;

-- Present state of each subject as the hub last said it.
CREATE TABLE copy (
    copy        INTEGER PRIMARY KEY,
    dataset     INTEGER NOT NULL,
    key         BLOB    NOT NULL,  -- first 16 bytes of SHA-256 over agency and subject
    version     INTEGER NOT NULL,  -- model::down::Version
    at_ms       INTEGER NOT NULL,  -- when the hub committed it
    schema      INTEGER NOT NULL,  -- version of the dataset's schema
    agency      TEXT,              -- these are NULL when the subject is gone; such a row stays only
    subject     TEXT,              -- while an older copy may still be on its way
    data        TEXT,
    attachments TEXT,              -- JSON
    UNIQUE (dataset, key)
) STRICT;
CREATE INDEX copy_subject ON copy (dataset, subject) WHERE subject IS NOT NULL;
-- For each dataset with fields to look through there is a table `copy_text_<dataset>` (FTS5): rowid
-- is `copy`, `exact` the words as written, `folded` without diacritics.

-- Copies that are being compared with the hub's, as they were when this was applied.
CREATE TABLE compare (
    dataset INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,  -- of the model::down::Compare
    good    INTEGER NOT NULL   -- 0: the copy was not whole then, or was given up since
) STRICT;

-- Buckets of these copies that have changed since.
CREATE TABLE compare_moved (
    dataset INTEGER NOT NULL,
    bucket  INTEGER NOT NULL,  -- first byte of `copy.key`
    PRIMARY KEY (dataset, bucket)
) STRICT, WITHOUT ROWID;

-- How the last comparisons have ended, as the hub has said.
CREATE TABLE compared (
    name     TEXT    PRIMARY KEY,  -- dataset; nhat-ky: the logs
    at_ms    INTEGER NOT NULL,
    result   TEXT    NOT NULL,     -- equal, mended, reloaded, unsettled, failed, differs
    buckets  INTEGER NOT NULL,     -- that differed
    subjects INTEGER NOT NULL      -- that were sent again
) STRICT, WITHOUT ROWID;
