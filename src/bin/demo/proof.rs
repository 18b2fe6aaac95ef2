//! The proof: record by record, what the sources had accepted against what the hub's database
//! holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lienthong::evidence::entry_digest;
use lienthong::model::BoxId;
use lienthong::model::record::{Entry, derived_id};
use lienthong::store::StoreError;
use lienthong::store::hub_view::HubView;

use crate::office::Ledger;

/// What the hub holds of one box.
#[derive(Default)]
struct Held {
    /// Per record id, how often it stands there, and the data's bytes.
    records: BTreeMap<String, (u32, String)>,
    /// Per station file, how often it stands there, and its original bytes.
    files: BTreeMap<String, (u32, Vec<u8>)>,
}

/// How one box's sources and the hub agree.
#[derive(Debug, Default)]
pub struct Verdict {
    pub accepted: u64,
    pub held: u64,
    pub lost: u64,
    pub doubled: u64,
    pub altered: u64,
    /// At the hub, though no source had heard that it was accepted.
    pub unasked: u64,
}

impl Verdict {
    pub fn is_equal(&self) -> bool {
        self.accepted == self.held
            && [self.lost, self.doubled, self.altered, self.unasked] == [0; 4]
    }
}

/// Compares the ledger of each office with the hub's database. `done` are the station files that
/// the box has moved to `done/`.
pub fn compare(
    hub_store: &Path,
    offices: &BTreeMap<BoxId, (&Ledger, BTreeSet<String>)>,
) -> anyhow::Result<BTreeMap<BoxId, Verdict>> {
    let mut held = read_hub(hub_store)?;
    let mut verdicts = BTreeMap::new();
    for (box_id, (ledger, done)) in offices {
        let held = held.remove(box_id).unwrap_or_default();
        verdicts.insert(box_id.clone(), judge(ledger, done, held));
    }
    Ok(verdicts)
}

fn judge(ledger: &Ledger, done: &BTreeSet<String>, mut held: Held) -> Verdict {
    let mut verdict = Verdict {
        held: (held.records.len() + held.files.len()) as u64,
        ..Verdict::default()
    };
    let records = ledger.records.lock().expect("the offices are closed");
    for (id, data) in records.iter() {
        verdict.weigh(held.records.remove(id), data);
    }
    let files = ledger.files.lock().expect("the offices are closed");
    for name in done {
        if let Some(content) = files.get(name) {
            verdict.weigh(held.files.remove(name), content);
        }
    }
    verdict.unasked = (held.records.len() + held.files.len()) as u64;
    verdict
}

impl Verdict {
    fn weigh<T: PartialEq>(&mut self, held: Option<(u32, T)>, handed_in: &T) {
        self.accepted += 1;
        match held {
            None => self.lost += 1,
            Some((times, _)) if times != 1 => self.doubled += 1,
            Some((_, content)) if content != *handed_in => self.altered += 1,
            Some(_) => {}
        }
    }
}

fn read_hub(store: &Path) -> anyhow::Result<BTreeMap<BoxId, Held>> {
    let view = HubView::open(store)?;
    let snapshot = view.snapshot()?;
    let mut boxes: BTreeMap<BoxId, Held> = BTreeMap::new();
    for log in snapshot.logs()? {
        let held = boxes.entry(log.box_id.clone()).or_default();
        snapshot.for_each_entry::<StoreError>(log.log, |kept| {
            if kept.is_double {
                return Ok(());
            }
            let bytes = kept.bytes.ok_or(StoreError::Damaged)?;
            let entry = Entry::parse(bytes).map_err(|_| StoreError::Damaged)?;
            match &entry.original {
                Some(original) => {
                    let content = STANDARD.decode(original.as_bytes()).unwrap_or_default();
                    let name = file_name(&entry);
                    held.files.entry(name).or_insert((0, content)).0 += 1;
                }
                None => {
                    let id = match &entry.id {
                        Some(id) => id.clone(),
                        None => derived_id(&entry_digest(&log.box_id, bytes)),
                    };
                    let data = entry.data.get().to_owned();
                    held.records.entry(id.to_string()).or_insert((0, data)).0 += 1;
                }
            }
            Ok(())
        })?;
    }
    Ok(boxes)
}

/// The name of the station file that a record was read from.
fn file_name(entry: &Entry<'_>) -> String {
    let data: serde_json::Value = serde_json::from_str(entry.data.get()).unwrap_or_default();
    data["tep"].as_str().unwrap_or_default().to_owned()
}
