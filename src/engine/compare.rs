//! What a comparison goes by: the digest of a subject and its bucket, the same for both sides so that
//! they cannot drift; and the box's look through its own copy, in slices.
//!
//! A copy is compared as it was when the hub's question was applied. Whatever changes while the slices
//! go on is marked in the transaction that changes it, so that a row is either as it was then or in a
//! bucket that does not count. A look that was cut off begins anew; the marks stay.

use serde_json::json;

use crate::evidence::Hasher;
use crate::model::chunk::Digest;
use crate::model::compare::{CopySaid, DownHead, Head, KIND, LOGS, LogsSaid, Sums};
use crate::model::down::Copy;
use crate::model::fault;
use crate::model::{BoxId, Lane, UnixMs};
use crate::store::StoreError;
use crate::store::copies::compare::{CopyBytes, OpenCompare};
use crate::store::down::DownStore;
use crate::store::edge_status::EdgeView;
use crate::store::orders::Said;

/// Rows of a slice.
const SLICE_ROWS: u32 = 500;

/// Part of a copy that a subject belongs to: as the first byte of the key under which boxes keep it.
pub(super) fn bucket_of(agency: &str, subject: &str) -> u8 {
    let mut hasher = Hasher::default();
    hasher.update(agency.as_bytes());
    hasher.update(b"\0");
    hasher.update(subject.as_bytes());
    hasher.finish().0[0]
}

/// What the hub shows of a subject.
pub(super) fn digest_of_copy(copy: &Copy) -> u64 {
    let attachments = match copy.attachments.is_empty() {
        true => Vec::new(),
        false => serde_json::to_vec(&copy.attachments).expect("plain JSON"),
    };
    let data = copy.data.as_ref().map_or("", |data| data.get());
    digest(&CopyBytes {
        key: &[],
        agency: copy.agency.as_str().as_bytes(),
        subject: copy.subject.as_str().as_bytes(),
        schema: copy.schema,
        data: data.as_bytes(),
        attachments: &attachments,
    })
}

fn digest(row: &CopyBytes<'_>) -> u64 {
    let mut hasher = Hasher::default();
    hasher.update(b"lienthong/1 copy\0");
    hasher.update(&row.schema.to_be_bytes());
    for part in [row.agency, row.subject, row.data, row.attachments] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let Digest(digest) = hasher.finish();
    let (first, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    u64::from_be_bytes(*first)
}

/// The box's look through a copy.
pub(super) struct Look {
    open: OpenCompare,
    after: Option<Vec<u8>>,
    sums: Sums,
    rows: u64,
}

/// Goes on with the oldest comparison that is open; true: there is more to do. Outside a transaction.
pub(super) fn go_on(
    store: &mut DownStore,
    look: &mut Option<Look>,
    box_id: &BoxId,
    now: UnixMs,
) -> Result<bool, StoreError> {
    let Some(open) = store.open_compare()? else {
        *look = None;
        return Ok(false);
    };
    let mut present = match look.take() {
        Some(present) if present.open == open => present,
        _ => Look {
            open,
            after: None,
            sums: Sums::default(),
            rows: 0,
        },
    };
    if present.open.is_good {
        let Look {
            open,
            after,
            sums,
            rows,
        } = &mut present;
        *after = store.for_each_copy(open.number, after.as_deref(), SLICE_ROWS, |row| {
            let bucket = row.key.first().copied().unwrap_or_default();
            sums.add(bucket, digest(&row));
            *rows += 1;
        })?;
        if after.is_some() {
            *look = Some(present);
            return Ok(true);
        }
    }
    store.begin()?;
    match say(store, &present, box_id, now) {
        Ok(()) if fault::is_crash_due() => {
            store.roll_back()?;
            Err(StoreError::Full)
        }
        Ok(()) => {
            store.commit()?;
            Ok(true)
        }
        Err(error) => {
            // The first error says what is wrong.
            let _ = store.roll_back();
            Err(error)
        }
    }
}

/// The end of a look, and its answer, in the open transaction.
fn say(store: &mut DownStore, look: &Look, box_id: &BoxId, now: UnixMs) -> Result<(), StoreError> {
    let open = &look.open;
    // Nothing was spoilt since this was last read, or it is no answer.
    let is_good = open.is_good && store.open_compare()?.as_ref() == Some(open);
    let said = CopySaid {
        version: open.version,
        sums: is_good.then(|| look.sums.clone()),
        moved: store.moved(open.number)?,
        rows: look.rows,
    };
    if is_good && said.moved.is_empty() {
        store.set_held(open.number, look.rows)?;
    }
    let result = match is_good {
        true => "said",
        false => "loading",
    };
    let detail = serde_json::to_string(&said).expect("plain JSON");
    let version = open.version.0.to_string();
    let answer = answer(
        box_id,
        open.dataset.as_str(),
        &version,
        (result, &detail),
        now,
    );
    let rows = format!("rows {}", look.rows);
    let said = Said {
        who: "trục / hub",
        what: "compare",
        id: open.dataset.as_str(),
        name: &version,
        result,
        detail: &rows,
        answer: Some(answer),
    };
    store.say(&said, now)?;
    store.end_compare(open.number)
}

/// Where the box's logs stand, both ways.
pub fn logs_of(up: &EdgeView, down: &DownStore) -> Result<LogsSaid, StoreError> {
    let mut logs = LogsSaid {
        up: up.heads()?,
        down: Vec::new(),
    };
    for lane in Lane::ALL {
        if let (Some(epoch), Some(position)) = (down.epoch(), down.position(lane)?) {
            logs.down.push(DownHead {
                lane,
                epoch,
                applied: Head {
                    seq: position.applied,
                    chain: position.chain,
                },
            });
        }
    }
    Ok(logs)
}

/// The line in the box's audit, and for the hub, that says where its logs stand. The hub begins to
/// compare when it hears it.
pub fn say_logs(
    store: &mut DownStore,
    logs: &LogsSaid,
    (box_id, who): (&BoxId, &str),
    now: UnixMs,
) -> Result<(), StoreError> {
    store.note_logs_said(now)?;
    let detail = serde_json::to_string(logs).expect("plain JSON");
    let answer = answer(box_id, LOGS, &now.0.to_string(), ("said", &detail), now);
    store.say(
        &Said {
            who,
            what: "compare",
            id: LOGS,
            name: "",
            result: "said",
            detail: "",
            answer: Some(answer),
        },
        now,
    )
}

fn answer(
    box_id: &BoxId,
    of: &str,
    name: &str,
    (result, detail): (&str, &str),
    now: UnixMs,
) -> String {
    json!({
        "thiet_bi": box_id,
        "loai": KIND,
        "ma": of,
        "ten": name,
        "trang_thai": result,
        "thoi_diem": now.to_string(),
        "chi_tiet": detail,
    })
    .to_string()
}
