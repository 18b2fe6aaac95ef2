//! Reads the databases of boxes and hub with SQL of its own, beside their owners.

use std::path::Path;

use lienthong::model::chunk::Digest;
use rusqlite::{Connection, OpenFlags, Row};

fn open(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).expect("the database is there")
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut statement = connection.prepare_cached(sql).expect("the schema is known");
    let rows = statement
        .query_map(parameters, read)
        .expect("the database can be read");
    rows.map(|row| row.expect("the row can be read")).collect()
}

/// Office, epoch and lane of a downlink log.
pub type DownLog = (usize, u64, usize);

fn digest(row: &Row<'_>, index: usize) -> rusqlite::Result<[u8; 32]> {
    let bytes: Vec<u8> = row.get(index)?;
    Ok(bytes.try_into().expect("a chain has 32 bytes"))
}

/// An entry as it lies in a box's outbox.
pub struct OutboxRow {
    pub capture: u64,
    pub lane: usize,
    pub seq: u64,
    pub entry: Vec<u8>,
}

/// Up to which number entries were deleted, up to which they have a receipt, and which.
pub struct LaneRow {
    pub tail: u64,
    pub acked: u64,
    pub receipt: Option<Vec<u8>>,
}

pub struct BoxEye(Connection);

impl BoxEye {
    pub fn open(path: &Path) -> Self {
        Self(open(path))
    }

    pub fn epoch(&self) -> u64 {
        let epochs = all(&self.0, "SELECT epoch FROM box", [], |row| {
            row.get::<_, i64>(0)
        });
        epochs[0] as u64
    }

    pub fn lanes(&self) -> Vec<LaneRow> {
        let sql = "SELECT tail, acked, receipt FROM lane ORDER BY lane";
        all(&self.0, sql, [], |row| {
            Ok(LaneRow {
                tail: row.get::<_, i64>(0)? as u64,
                acked: row.get::<_, i64>(1)? as u64,
                receipt: row.get(2)?,
            })
        })
    }

    /// Entries behind `newest`, in the order of capture.
    pub fn rows_after(&self, newest: [u64; 5]) -> Vec<OutboxRow> {
        let mut rows = Vec::new();
        for (lane, newest) in newest.into_iter().enumerate() {
            let first = ((lane as i64) << 56) + newest as i64;
            let blocks = all(
                &self.0,
                "SELECT place, raw_bytes, body FROM outbox WHERE place > ?1 AND place < ?2",
                [first, (lane as i64 + 1) << 56],
                |row| {
                    let last = row.get::<_, i64>(0)? & ((1 << 56) - 1);
                    Ok((last as u64, row.get::<_, i64>(1)?, row.get(2)?))
                },
            );
            for (last, raw_bytes, body) in blocks {
                let entries = unpacked(body, raw_bytes as usize);
                let numbers = last + 1 - entries.len() as u64..;
                rows.extend(numbers.zip(entries).map(|(seq, entry)| OutboxRow {
                    lane,
                    seq,
                    capture: capture_of(&entry),
                    entry,
                }));
            }
        }
        rows.retain(|row| newest[row.lane] < row.seq);
        rows.sort_by_key(|row| row.capture);
        rows
    }

    pub fn cursor(&self, source: &str) -> Option<u64> {
        let sql = "SELECT value FROM cursor WHERE source = ?1";
        let found = all(&self.0, sql, [source], |row| row.get::<_, String>(0));
        let text = found.into_iter().next()?;
        Some(text.parse().expect("the simulation writes numbers"))
    }
}

/// The entries of a block: a CBOR sequence of byte strings, compressed with zstd.
fn unpacked(body: Vec<u8>, raw_bytes: usize) -> Vec<Vec<u8>> {
    let raw = zstd::bulk::decompress(&body, raw_bytes).expect("a block decompresses");
    let mut decoder = minicbor::Decoder::new(&raw);
    std::iter::from_fn(|| decoder.bytes().ok().map(<[u8]>::to_vec)).collect()
}

fn uid_of(entry: &[u8]) -> u64 {
    let entry: serde_json::Value = serde_json::from_slice(entry).expect("an entry is JSON");
    entry["data"]["uid"].as_u64().expect("every record has one")
}

fn capture_of(entry: &[u8]) -> u64 {
    let entry: serde_json::Value = serde_json::from_slice(entry).expect("an entry is JSON");
    entry["capture"].as_u64().expect("every entry has one")
}

#[derive(Debug, Clone)]
pub struct LogRow {
    pub log: i64,
    pub box_id: String,
    pub epoch: u64,
    pub lane: usize,
    pub life: i64,
    pub begin: u64,
    pub applied: u64,
    pub chain: [u8; 32],
}

#[derive(Debug, Clone)]
pub struct EntryRow {
    pub log: i64,
    pub seq: u64,
    pub entry: Option<Vec<u8>>,
    pub same_as: Option<i64>,
}

pub struct GapRow {
    pub box_id: String,
    pub epoch: u64,
    pub lane: usize,
    pub first: u64,
    pub last: u64,
}

pub struct StateRow {
    pub subject: String,
    pub place: i64,
    pub deleted: bool,
}

pub struct HubEye(Connection);

/// How much of a file the hub counts as received from an office.
pub struct PartRow {
    pub office: usize,
    pub digest: Digest,
    pub received: u64,
}

pub fn hub_place(log: i64, seq: u64) -> i64 {
    (log << 40) + seq as i64
}

impl HubEye {
    pub fn open(path: &Path) -> Self {
        Self(open(path))
    }

    pub fn blob_parts(&self) -> Vec<PartRow> {
        let sql = "SELECT box_id, digest, received FROM blob_part WHERE state <> 'lost'";
        all(&self.0, sql, [], |row| {
            let name: String = row.get(0)?;
            Ok(PartRow {
                office: crate::check::office_of(&name),
                digest: Digest(digest(row, 1)?),
                received: row.get::<_, i64>(2)? as u64,
            })
        })
    }

    /// Whether a file has come whole and was not checked.
    pub fn has_unchecked(&self) -> bool {
        let sql = "SELECT count(*) FROM blob_part WHERE state = 'checking'";
        all(&self.0, sql, [], |row| row.get::<_, i64>(0))[0] != 0
    }

    pub fn is_blob_kept(&self, file: Digest) -> bool {
        let sql = "SELECT count(*) FROM blob WHERE digest = ?1 AND state = 'kept'";
        all(&self.0, sql, [file.0], |row| row.get::<_, i64>(0))[0] == 1
    }

    /// How far the hub believes a file to be on its way to an office.
    pub fn down_file(&self, office: usize, file: Digest) -> Option<String> {
        let sql = "SELECT state || ' ' || queued || ' to ' || coalesce(last, 0) FROM down_file
                   WHERE box_id = ?1 AND digest = ?2";
        let parameters = rusqlite::params![crate::check::box_name(office), file.0];
        all(&self.0, sql, parameters, |row| row.get(0)).pop()
    }

    /// Whether documents wait for room in a box's log.
    pub fn documents_wait(&self) -> bool {
        let sql = "SELECT count(*) FROM undelivered WHERE reason = 'no_room'";
        all(&self.0, sql, [], |row| row.get::<_, i64>(0))[0] != 0
    }

    /// Numbers of the documents that it holds.
    pub fn papers(&self) -> Vec<u64> {
        let sql = "SELECT entry FROM entry WHERE instr(entry, CAST('van_ban_dien_tu' AS BLOB)) > 0";
        all(&self.0, sql, [], |row| {
            Ok(uid_of(&row.get::<_, Vec<u8>>(0)?))
        })
    }

    /// All logs, or those of one box.
    pub fn logs(&self, box_id: Option<&str>) -> Vec<LogRow> {
        all(
            &self.0,
            "SELECT log, box_id, epoch, lane, begin, applied, chain, life FROM log
             WHERE ?1 IS NULL OR box_id = ?1 ORDER BY log",
            [box_id],
            |row| {
                Ok(LogRow {
                    log: row.get(0)?,
                    box_id: row.get(1)?,
                    epoch: row.get::<_, i64>(2)? as u64,
                    lane: row.get::<_, i64>(3)? as usize,
                    begin: row.get::<_, i64>(4)? as u64,
                    applied: row.get::<_, i64>(5)? as u64,
                    chain: digest(row, 6)?,
                    life: row.get(7)?,
                })
            },
        )
    }

    /// Entries of a log behind `seq`.
    pub fn entries_after(&self, log: i64, seq: u64) -> Vec<EntryRow> {
        all(
            &self.0,
            "SELECT place, entry, same_as FROM entry WHERE ?1 < place AND place < ?2 ORDER BY place",
            [hub_place(log, seq), hub_place(log + 1, 0)],
            |row| {
                let place: i64 = row.get(0)?;
                Ok(EntryRow {
                    log: place >> 40,
                    seq: (place & ((1 << 40) - 1)) as u64,
                    entry: row.get(1)?,
                    same_as: row.get(2)?,
                })
            },
        )
    }

    pub fn gaps(&self) -> Vec<GapRow> {
        all(
            &self.0,
            "SELECT box_id, epoch, lane, first, last FROM gap",
            [],
            |row| {
                Ok(GapRow {
                    box_id: row.get(0)?,
                    epoch: row.get::<_, i64>(1)? as u64,
                    lane: row.get::<_, i64>(2)? as usize,
                    first: row.get::<_, i64>(3)? as u64,
                    last: row.get::<_, i64>(4)? as u64,
                })
            },
        )
    }

    pub fn states(&self) -> Vec<StateRow> {
        all(
            &self.0,
            "SELECT subject, place, deleted FROM state ORDER BY subject",
            [],
            |row| {
                Ok(StateRow {
                    subject: row.get(0)?,
                    place: row.get(1)?,
                    deleted: row.get(2)?,
                })
            },
        )
    }

    /// The lanes of all logs to the boxes.
    pub fn down_lanes(&self) -> Vec<DownLaneRow> {
        all(
            &self.0,
            "SELECT b.box_id, b.epoch, l.log & 7, l.begin, l.tail, l.acked, b.reload_ms IS NOT NULL,
               (SELECT max(place) & ((1 << 40) - 1) FROM down
                WHERE place BETWEEN l.log << 40 AND (l.log + 1 << 40) - 1),
               (SELECT chain FROM down WHERE place >= l.log << 40
                AND place < l.log + 1 << 40 ORDER BY place DESC LIMIT 1)
             FROM down_box AS b JOIN down_lane AS l ON l.log >> 3 = b.number ORDER BY l.log",
            [],
            |row| {
                let (tail, acked) = (row.get::<_, i64>(4)? as u64, row.get::<_, i64>(5)? as u64);
                Ok(DownLaneRow {
                    office: crate::check::office_of(&row.get::<_, String>(0)?),
                    epoch: row.get::<_, i64>(1)? as u64,
                    lane: row.get::<_, i64>(2)? as usize,
                    begin: row.get::<_, i64>(3)? as u64,
                    tail,
                    acked,
                    reload: row.get(6)?,
                    chain: row
                        .get::<_, Option<Vec<u8>>>(8)?
                        .map_or([0; 32], |chain| chain.try_into().expect("32 bytes")),
                    newest: row
                        .get::<_, Option<i64>>(7)?
                        .map_or(tail.max(acked), |newest| newest as u64),
                })
            },
        )
    }

    /// What was dropped before a box had it: office, epoch and lane; first and last number.
    pub fn down_gaps(&self) -> Vec<(DownLog, (u64, u64))> {
        all(
            &self.0,
            "SELECT box_id, g.epoch, lane, first, last FROM down_gap AS g JOIN down_box USING (number)",
            [],
            |row| {
                let office = crate::check::office_of(&row.get::<_, String>(0)?);
                let number = |at| row.get::<_, i64>(at).map(|number| number as u64);
                Ok((
                    (office, number(1)?, number(2)? as usize),
                    (number(3)?, number(4)?),
                ))
            },
        )
    }

    /// How many orders are in no log yet.
    pub fn orders(&self) -> u64 {
        let sql = "SELECT count(*) FROM down_order";
        all(&self.0, sql, [], |row| row.get::<_, i64>(0))[0] as u64
    }

    pub fn parked(&self) -> Vec<i64> {
        all(&self.0, "SELECT place FROM parked", [], |row| row.get(0))
    }
}

pub struct DownLaneRow {
    pub office: usize,
    pub epoch: u64,
    pub lane: usize,
    pub begin: u64,
    pub tail: u64,
    pub acked: u64,
    pub newest: u64,
    /// At the newest entry, where it is held.
    pub chain: [u8; 32],
    pub reload: bool,
}

pub struct PositionRow {
    pub lane: usize,
    pub epoch: u64,
    pub applied: u64,
}

/// An entry that a box keeps as it came.
pub struct KeptRow {
    pub number: i64,
    pub epoch: u64,
    pub lane: usize,
    pub seq: u64,
    pub entry: Vec<u8>,
}

/// How far a file has come.
pub struct FileRow {
    pub digest: Digest,
    pub received: u64,
    pub state: String,
}

/// A document as the office's software sees it.
pub struct PaperRow {
    pub uid: u64,
    pub data: String,
}

pub struct AnswerRow {
    pub number: i64,
    pub id: String,
    pub answer: String,
}

pub struct DownEye(Connection);

impl DownEye {
    pub fn open(path: &Path) -> Self {
        Self(open(path))
    }

    pub fn positions(&self) -> Vec<PositionRow> {
        let sql = "SELECT lane, epoch, applied FROM position ORDER BY lane";
        all(&self.0, sql, [], |row| {
            Ok(PositionRow {
                lane: row.get::<_, i64>(0)? as usize,
                epoch: row.get::<_, i64>(1)? as u64,
                applied: row.get::<_, i64>(2)? as u64,
            })
        })
    }

    pub fn entries_after(&self, number: i64) -> Vec<KeptRow> {
        let sql =
            "SELECT number, epoch, lane, seq, entry FROM unknown WHERE number > ?1 ORDER BY number";
        all(&self.0, sql, [number], |row| {
            Ok(KeptRow {
                number: row.get(0)?,
                epoch: row.get::<_, i64>(1)? as u64,
                lane: row.get::<_, i64>(2)? as usize,
                seq: row.get::<_, i64>(3)? as u64,
                entry: row.get(4)?,
            })
        })
    }

    /// The files that documents name.
    pub fn files(&self) -> Vec<FileRow> {
        let sql = "SELECT digest, received, state FROM file ORDER BY digest";
        all(&self.0, sql, [], |row| {
            Ok(FileRow {
                digest: Digest(digest(row, 0)?),
                received: row.get::<_, i64>(1)? as u64,
                state: row.get(2)?,
            })
        })
    }

    pub fn documents(&self) -> Vec<PaperRow> {
        let sql = "SELECT data FROM document ORDER BY document";
        all(&self.0, sql, [], |row| {
            let data: String = row.get(0)?;
            let said: serde_json::Value = serde_json::from_str(&data).expect("JSON");
            Ok(PaperRow {
                uid: said["uid"].as_u64().unwrap_or_default(),
                data,
            })
        })
    }

    /// What the box wants to tell the hub.
    pub fn answers(&self) -> Vec<AnswerRow> {
        let sql = "SELECT number, id, answer FROM answer ORDER BY number";
        all(&self.0, sql, [], |row| {
            Ok(AnswerRow {
                number: row.get(0)?,
                id: row.get(1)?,
                answer: row.get(2)?,
            })
        })
    }

    /// Epoch, lane, first and last number of what the hub has said lost.
    pub fn gaps(&self) -> Vec<(u64, usize, u64, u64)> {
        let sql = "SELECT epoch, lane, first, last FROM gap";
        all(&self.0, sql, [], |row| {
            let number = |at| row.get::<_, i64>(at).map(|number| number as u64);
            Ok((number(0)?, number(1)? as usize, number(2)?, number(3)?))
        })
    }
}
