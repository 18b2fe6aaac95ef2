//! What the checkers know: every record that was handed in, every entry that a box committed, every
//! promise that was made. Kept apart from the engines' own books; the databases are read with
//! [`crate::eyes`].
//!
//! A *timeline* is the history of one store: where a store is set back or cloned, a timeline ends or
//! forks, and what was on a dead branch may be missing at the hub without anybody's fault.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lienthong::model::chunk::Digest;
use lienthong::wire::Receipt;

use crate::eyes::{BoxEye, HubEye};
use crate::keys;

/// Which checker found what.
#[derive(Debug, Clone)]
pub struct Violation {
    pub checker: &'static str,
    pub what: String,
}

pub type Checked<T = ()> = Result<T, Violation>;

pub fn violated<T>(checker: &'static str, what: String) -> Checked<T> {
    Err(Violation { checker, what })
}

pub const ACCEPTED: &str = "accepted means committed";
pub const INVENTED: &str = "nothing is invented";
pub const TWICE: &str = "exactly once";
pub const LOST: &str = "nothing is lost unsaid";
pub const ORDER: &str = "order and chain";
pub const WHOLE: &str = "a file is offered whole, and checked";
pub const RECEIPTS: &str = "receipts name what is committed";
pub const STATE: &str = "the present state is the last captured";
pub const CURSOR: &str = "cursor and rows move together";
pub const GAPS: &str = "the gap ledger names what was lost";
pub const FORGOTTEN: &str = "forgotten only with a receipt";
pub const URGENT: &str = "urgent first, nothing starves";
pub const AGAIN: &str = "offered again before giving up";
pub const LIMIT: &str = "the link's message limit";
pub const VERIFY: &str = "the hub finds its store sound";
pub const PROGRESS: &str = "everything arrives once the faults stop";
pub const PANIC: &str = "no assertion fails";

/// An entry that some box committed, by its bytes.
pub type Key = usize;

#[derive(Default)]
pub struct Fact {
    /// 0: no record, but a piece of a file.
    pub uid: u64,
    pub subject: String,
    pub deleted: bool,
}

/// A record as it was handed in.
pub struct Handed {
    pub tail: Vec<u8>,
    pub subject: String,
    pub deleted: bool,
    /// The file that it names.
    pub file: Option<Digest>,
    /// The office that it is addressed to.
    pub to: Option<usize>,
}

#[derive(Clone, Default)]
pub struct Timeline {
    pub office: usize,
    pub alive: bool,
    pub epochs: Vec<u64>,
    /// Per lane, the entries in their order; entry 1 first.
    pub log: [Vec<Key>; 5],
    /// The chain after each.
    pub chain: [Vec<[u8; 32]>; 5],
    pub uids: HashSet<u64>,
    /// Records that a source heard of as stored.
    pub promised: HashSet<u64>,
    pub tail: [u64; 5],
    pub acked: [u64; 5],
}

impl Timeline {
    pub fn newest(&self) -> [u64; 5] {
        std::array::from_fn(|lane| self.log[lane].len() as u64)
    }

    pub fn epoch(&self) -> u64 {
        *self.epochs.last().expect("a store has an epoch")
    }
}

/// Where a log stands at the hub, as its database says.
#[derive(Clone, Copy)]
pub struct AtHub {
    pub applied: u64,
    pub chain: [u8; 32],
    seen: u64,
}

/// Office, epoch, lane.
pub type LogKey = (usize, u64, usize);

#[derive(Default)]
pub struct Checker {
    pub handed: HashMap<u64, Handed>,
    pub facts: Vec<Fact>,
    /// Which offices a file was sent to.
    pub addressed: BTreeMap<Digest, BTreeSet<usize>>,
    /// Every file that records name.
    pub contents: HashMap<Digest, Vec<u8>>,
    pub by_bytes: HashMap<(usize, Vec<u8>), Key>,
    pub timelines: Vec<Timeline>,
    /// Entries that the hub committed at some time, by office.
    pub committed: HashSet<(usize, Key)>,
    pub at_hub: BTreeMap<LogKey, AtHub>,
    pub hub_set_back: bool,
    /// The highest number in a receipt, since the hub was last set back.
    pub receipted: BTreeMap<LogKey, u64>,
}

pub fn sha256(parts: [&[u8]; 2]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    parts.into_iter().for_each(|part| context.update(part));
    let digest = context.finish();
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The number that every record of the simulation carries in its data.
fn uid_of(entry: &[u8]) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_slice(entry).ok()?;
    value.get("data")?.get("uid")?.as_u64()
}

impl Checker {
    /// Several machines run as this box.
    pub fn is_cloned(&self, office: usize) -> bool {
        let living = self.timelines.iter().filter(|line| line.alive);
        1 < living.filter(|line| line.office == office).count()
    }

    // === A box's store ===

    /// Reads what a box's store holds now that it did not hold before.
    pub fn look_at_box(&mut self, timeline: usize, eye: &BoxEye) -> Checked {
        let mut line = std::mem::take(&mut self.timelines[timeline]);
        let checked = self.look(&mut line, eye);
        self.timelines[timeline] = line;
        checked
    }

    fn look(&mut self, line: &mut Timeline, eye: &BoxEye) -> Checked {
        let epoch = eye.epoch();
        if line.epochs.last() != Some(&epoch) {
            line.epochs.push(epoch);
        }
        for row in eye.rows_after(line.newest()) {
            let held = line.log[row.lane].len();
            if row.seq != held as u64 + 1 {
                let what = format!("lane {} has {} after {held}", row.lane, row.seq);
                return violated(ORDER, what);
            }
            let fact = match uid_of(&row.entry) {
                Some(uid) => self.fact(line, uid, &row.entry)?,
                None => {
                    self.check_chunk(line.office, &row.entry)?;
                    Fact::default()
                }
            };
            let chains = &mut line.chain[row.lane];
            let before = chains.last().copied().unwrap_or([0; 32]);
            chains.push(sha256([&before, &row.entry]));
            let key = *self
                .by_bytes
                .entry((line.office, row.entry))
                .or_insert_with(|| {
                    self.facts.push(fact);
                    self.facts.len() - 1
                });
            line.log[row.lane].push(key);
        }
        for (lane, row) in eye.lanes().into_iter().enumerate() {
            let (tail, acked) = (row.tail, row.acked);
            let (old_tail, old_acked) = (line.tail[lane], line.acked[lane]);
            for seq in old_tail.min(old_acked)..tail.max(acked) {
                let key = line.log[lane].get(seq as usize);
                if !key.is_some_and(|&key| self.committed.contains(&(line.office, key))) {
                    let number = seq + 1;
                    let what = format!(
                        "office {} lane {lane} number {number} (deleted to {tail}, received to {acked})",
                        line.office
                    );
                    return violated(FORGOTTEN, what);
                }
            }
            line.tail[lane] = tail;
            line.acked[lane] = acked;
            if let Some(receipt) = row.receipt {
                kept_receipt(line, lane, &receipt)?;
            }
        }
        Ok(())
    }

    /// A record's entry: what was handed in, once.
    fn fact(&self, line: &mut Timeline, uid: u64, entry: &[u8]) -> Checked<Fact> {
        let Some(handed) = self.handed.get(&uid) else {
            return violated(INVENTED, format!("record {uid} was never handed in"));
        };
        if !entry.ends_with(&handed.tail) {
            return violated(INVENTED, format!("record {uid} was altered"));
        }
        if !line.uids.insert(uid) {
            return violated(TWICE, format!("record {uid} was taken twice"));
        }
        Ok(Fact {
            uid,
            subject: handed.subject.clone(),
            deleted: handed.deleted,
        })
    }

    /// A source heard that its records are stored, as these numbers of these lanes.
    pub fn promise(&mut self, timeline: usize, uids: &[u64], answers: &[(usize, u64)]) -> Checked {
        let line = &mut self.timelines[timeline];
        if uids.len() != answers.len() {
            let what = format!("{} records, {} answers", uids.len(), answers.len());
            return violated(ACCEPTED, what);
        }
        for (&uid, &(lane, seq)) in uids.iter().zip(answers) {
            let key = line.log[lane].get((seq as usize).wrapping_sub(1));
            if key.map(|&key| self.facts[key].uid) != Some(uid) {
                return violated(ACCEPTED, format!("record {uid} is not at {lane}/{seq}"));
            }
            line.promised.insert(uid);
        }
        Ok(())
    }

    // === The hub's store ===

    /// Reads what the hub's store holds of a box now; of all boxes, with `None`.
    pub fn look_at_hub(&mut self, office: Option<(usize, &str)>, eye: &HubEye) -> Checked {
        for row in eye.logs(office.map(|(_, id)| id)) {
            let office = office_of(&row.box_id);
            let key = (office, row.epoch, row.lane);
            let seen = self.at_hub.get(&key).map_or(0, |known| known.seen);
            if seen < row.applied {
                for entry in eye.entries_after(row.log, seen) {
                    let Some(bytes) = entry.entry else { continue };
                    let Some(&known) = self.by_bytes.get(&(office, bytes)) else {
                        let what =
                            format!("office {office} lane {} number {}", row.lane, entry.seq);
                        return violated(INVENTED, what);
                    };
                    self.committed.insert((office, known));
                }
            }
            let at_hub = AtHub {
                applied: row.applied,
                chain: row.chain,
                seen: row.applied,
            };
            self.at_hub.insert(key, at_hub);
        }
        Ok(())
    }

    /// The hub's store was put back to an older copy.
    pub fn hub_was_set_back(&mut self, eye: &HubEye) -> Checked {
        self.hub_set_back = true;
        self.at_hub.clear();
        self.receipted.clear();
        self.look_at_hub(None, eye)
    }

    /// The hub was started anew with the store that it had: what it gave receipts for is there.
    pub fn hub_was_restarted(&mut self, eye: &HubEye) -> Checked {
        self.at_hub.clear();
        self.look_at_hub(None, eye)?;
        self.receipts_hold()
    }

    pub fn receipts_hold(&self) -> Checked {
        for (key, &receipted) in &self.receipted {
            let applied = self.at_hub.get(key).map_or(0, |log| log.applied);
            if applied < receipted {
                let what = format!("{key:?}: receipt for {receipted}, held {applied}");
                return violated(RECEIPTS, what);
            }
        }
        Ok(())
    }

    /// The hub gives a receipt: it is signed, and the database holds what it names.
    pub fn receipt(&mut self, office: usize, box_id: &str, message: &[u8]) -> Checked<Receipt> {
        let Ok(receipt) = Receipt::decode(message) else {
            return violated(RECEIPTS, "a receipt cannot be read".into());
        };
        let log = receipt.ack.log;
        let mut claim = Vec::new();
        claim.extend_from_slice(b"lienthong/1 receipt\0");
        claim.extend_from_slice(box_id.as_bytes());
        claim.extend_from_slice(&[0, log.lane.index() as u8]);
        claim.extend_from_slice(&log.epoch.0.to_be_bytes());
        claim.extend_from_slice(&receipt.ack.applied.0.to_be_bytes());
        claim.extend_from_slice(&receipt.chain.0);
        claim.push(u8::from(receipt.ack.resend));
        claim.push(receipt.refused.map_or(0, |code| code.number()));
        claim.extend_from_slice(&receipt.hub_time.0.to_be_bytes());
        let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED;
        let key =
            ring::signature::UnparsedPublicKey::new(algorithm, *keys::hub_public().as_bytes());
        if key.verify(&claim, &receipt.signature).is_err() {
            return violated(RECEIPTS, "a receipt is not signed by the hub".into());
        }
        let key = (office, log.epoch.0, log.lane.index());
        let applied = receipt.ack.applied.0;
        let held = self.at_hub.get(&key).map_or(0, |log| log.applied);
        if held < applied {
            let what = format!("{key:?}: receipt for {applied}, held {held}");
            return violated(RECEIPTS, what);
        }
        if 0 < applied && held == applied && self.at_hub[&key].chain != receipt.chain.0 {
            return violated(RECEIPTS, format!("{key:?}: receipt with another chain"));
        }
        let highest = self.receipted.entry(key).or_default();
        *highest = applied.max(*highest);
        Ok(receipt)
    }
}

/// The receipt that a box keeps is the proof of what it counts as received; one that names less than
/// is held comes from a hub that was set back.
fn kept_receipt(line: &Timeline, lane: usize, message: &[u8]) -> Checked {
    let Ok(receipt) = Receipt::decode(message) else {
        return violated(RECEIPTS, "a box keeps what is no receipt".into());
    };
    let (applied, acked) = (receipt.ack.applied.0, line.acked[lane]);
    let chain = line.chain[lane].get((applied as usize).wrapping_sub(1));
    let proves = applied == acked && (applied == 0 || chain == Some(&receipt.chain.0));
    match proves || applied < line.tail[lane] {
        true => Ok(()),
        false => violated(
            RECEIPTS,
            format!("lane {lane}: a box keeps a receipt for {applied} as that for {acked}"),
        ),
    }
}

pub fn box_name(office: usize) -> String {
    format!("xa-{office}")
}

pub fn office_of(box_id: &str) -> usize {
    let number = box_id.strip_prefix("xa-").and_then(|n| n.parse().ok());
    number.expect("boxes are named by their office")
}
