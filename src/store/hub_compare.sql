
-- What boxes hold, compared with what they are to hold.
CREATE TABLE comparison (
    box_id   TEXT    NOT NULL,
    dataset  TEXT    NOT NULL,  -- nhat-ky: the logs
    work     TEXT,              -- JSON: how far the present one is; NULL: none goes on
    ended_ms INTEGER,           -- these of the last one that has ended; NULL: none has
    result   TEXT,              -- equal, mended, reloaded, unsettled, failed, differs
    buckets  INTEGER,           -- that differed
    subjects INTEGER,           -- that were sent again
    detail   TEXT,              -- without personal data
    PRIMARY KEY (box_id, dataset)
) STRICT, WITHOUT ROWID;
