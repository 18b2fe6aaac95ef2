//! Documents with files, from one office through the hub to another: the checks that run at the hub
//! and on the boxes beside the engines, what an office's box asks for, and what the checkers hold to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};

use lienthong::catalogue::Catalogue;
use lienthong::engine::sending::{self, Answer, NewRecord, Submission};
use lienthong::hub::attachments::Settler;
use lienthong::model::chunk::{ChunkEntry, Digest};
use lienthong::model::record::{Draft, Op, RecordType};
use lienthong::model::{Lane, UnixMs};
use lienthong::shell::clock::Clock;
use lienthong::store::Options;
use lienthong::store::down::DownStore;
use lienthong::store::edge::OnceKey;
use lienthong::store::hub::down::Reload;
use lienthong::store::rows::Beside;

use crate::check::{
    Checked, Handed, INVENTED, LOST, RECEIPTS, TWICE, URGENT, WHOLE, box_name, sha256, violated,
};
use crate::eyes::{AnswerRow, FileRow};
use crate::plan::HUB_QUOTA_BYTES;
use crate::sources::Reply;
use crate::world::{Happening, World};

/// Stands for the box's own source, which asks the hub for files.
pub const ASKING: usize = usize::MAX;

/// A box that still lacks a file looks after its files so often.
const KEEP_EVERY_MS: u64 = 120_000;
/// So long after the faults stop nothing urgent waits any more, whatever files are under way.
pub const URGENT_WITHIN_MS: u64 = 20 * 60_000;

/// What the checkers know of documents.
#[derive(Default)]
pub struct Papers {
    /// Numbers of downlink logs that hold something else than what was ordered: office, epoch, lane.
    pub beside_orders: BTreeMap<(usize, u64, usize), BTreeSet<u64>>,
    /// What a box asks, by station and what it calls it, as a record.
    asked: BTreeMap<(usize, String), NewRecord>,
    /// Epoch of each office's logs and the dropped ranges in them, as they last were.
    logs: BTreeMap<usize, (u64, usize)>,
    settles: bool,
}

/// The catalogue as it is shipped, read once.
pub fn catalogue() -> Arc<Catalogue> {
    static SHIPPED: OnceLock<Arc<Catalogue>> = OnceLock::new();
    let read = || {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("catalogue");
        Arc::new(Catalogue::load(&folder).expect("it is sound"))
    };
    Arc::clone(SHIPPED.get_or_init(read))
}

impl World {
    // === At the hub ===

    /// What came whole is to be checked; a box whose logs began anew is loaded again.
    pub fn look_after_papers(&mut self) -> Checked {
        let Some(running) = self
            .center
            .running
            .as_ref()
            .filter(|_| self.plan.has_papers)
        else {
            return Ok(());
        };
        let has_unchecked = running.eye.has_unchecked();
        let gaps = running.eye.down_gaps();
        let lanes = running.eye.down_lanes();
        for lane in lanes.iter().filter(|lane| lane.lane == 0) {
            let office = lane.office;
            let dropped = gaps.iter().filter(|(log, _)| log.0 == office).count();
            let stand = (lane.epoch, dropped);
            let before = self.papers.logs.insert(office, stand);
            let why = match before {
                Some((epoch, _)) if epoch != lane.epoch => Reload::SetBack,
                Some((_, before)) if before < dropped => Reload::Dropped,
                _ => continue,
            };
            self.asked_to_load(office, why);
        }
        if has_unchecked && !std::mem::replace(&mut self.papers.settles, true) {
            let at = self.now_ms + self.dice.between(10, 3_000);
            self.at(at, Happening::Settle);
        }
        Ok(())
    }

    pub fn hub_forgot_logs(&mut self) {
        self.papers.logs.clear();
    }

    /// The hub's check of what has come whole.
    pub fn settle(&mut self) {
        self.papers.settles = false;
        if self.center.running.is_none() {
            return; // There is more to check when it runs.
        }
        let (_hold, stop) = sync_channel::<()>(1);
        let settler = Settler {
            store: self.center.files.path(),
            options: Options {
                quota_bytes: HUB_QUOTA_BYTES,
                cache_bytes: 64 * 1024,
            },
            scanner: None,
            clock: Clock::start(UnixMs(0)),
        };
        settler.settle_all(&stop).expect("the disk is there");
        self.note(format_args!("the hub has checked files"));
        self.wake_hub_in(0, 1_000);
    }

    /// A piece goes down only of a file that the hub has found sound, to whom it was sent.
    pub fn check_offered(
        &mut self,
        office: usize,
        log: (u64, usize),
        seq: u64,
        entry: &[u8],
    ) -> Checked {
        let is_ordered = entry.starts_with(br#"{"sim":"#);
        if is_ordered {
            return Ok(());
        }
        let beside = &mut self.papers.beside_orders;
        let known = beside.entry((office, log.0, log.1)).or_default();
        known.insert(seq);
        let Some(ChunkEntry { chunk, .. }) = ChunkEntry::parse(entry) else {
            return Ok(());
        };
        self.check_addressed(office, chunk.blob)?;
        let running = self.center.running.as_ref().expect("it made a step");
        match running.eye.is_blob_kept(chunk.blob) {
            true => Ok(()),
            false => violated(WHOLE, format!("{} goes down unchecked", chunk.blob)),
        }
    }

    fn check_addressed(&self, office: usize, file: Digest) -> Checked {
        let offices = self.checker.addressed.get(&file);
        match offices.is_some_and(|offices| offices.contains(&office)) {
            true => Ok(()),
            false => violated(INVENTED, format!("{file} is not for office {office}")),
        }
    }

    // === On a box ===

    pub fn keep_in(&mut self, index: usize, least_ms: u64, most_ms: u64) {
        if self.stations[index].down.keeper.is_none() {
            return;
        }
        let at = self.now_ms + self.dice.between(least_ms, most_ms);
        let keep_at = &mut self.stations[index].down.keep_at;
        if keep_at.is_none_or(|before| at < before) {
            *keep_at = Some(at);
            self.at(at, Happening::Keep(index));
        }
    }

    /// A file has come whole, and perhaps to harm.
    pub fn file_came(&mut self, index: usize) {
        let station = &mut self.stations[index];
        let (office, down) = (station.office, &mut station.down);
        if let (Some(running), Some(disk)) = (&down.running, &down.disk)
            && std::mem::take(&mut down.harms)
        {
            let files = running.eye.files();
            for file in files.iter().filter(|file| file.state == "checking") {
                disk.harm(office, file.digest);
                down.harmed.insert(file.digest);
            }
        }
        self.keep_in(index, 10, 2_000);
    }

    /// What has come is checked and what is missing is asked for.
    pub fn keep(&mut self, index: usize) -> Checked {
        let now = self.stations[index].now(self.now_ms).wall;
        let down = &mut self.stations[index].down;
        let Some(keeper) = &down.keeper else {
            return Ok(());
        };
        let is_first = std::mem::take(&mut down.is_first_look);
        let round = keeper.round(now, is_first);
        self.note(format_args!("box {index} looks after files: {round:?}"));
        self.check_received(index)?;
        let down = self.stations[index].down.running.as_ref();
        let eye = &down.expect("it has a keeper").eye;
        let is_waiting = eye.files().iter().any(|file| file.state != "kept");
        for answer in eye.answers() {
            self.ask(index, answer);
        }
        if is_waiting {
            self.keep_in(index, KEEP_EVERY_MS / 2, KEEP_EVERY_MS);
        }
        Ok(())
    }

    /// Puts what the box asks into its own log, with a key by which a repeat is harmless.
    fn ask(&mut self, index: usize, answer: AnswerRow) {
        let key = (index, answer.id.clone());
        let office = self.stations[index].office;
        let record = match self.papers.asked.get(&key) {
            Some(record) => record.clone(),
            None => {
                let uid = self.checker.handed.len() as u64 + 1;
                let record = question(office, uid, &answer);
                let handed = Handed {
                    tail: record.tail.clone(),
                    subject: subject(uid),
                    deleted: false,
                    file: None,
                    to: None,
                };
                self.checker.handed.insert(uid, handed);
                self.papers.asked.insert(key, record.clone());
                record
            }
        };
        let submission = Submission {
            reply: Reply {
                source: ASKING,
                number: answer.number as u64,
            },
            source: "tram".parse().expect("valid"),
            records: vec![record],
            once: None,
            cursor: None,
            beside: Beside::default(),
        };
        self.note(format_args!("box {index} asks: {}", answer.answer));
        let event = sending::Event::Submit(submission);
        self.stations[index].pending.push(event);
        self.wake_box_in(index, 0, 20);
    }

    /// What it asks is in its log, and forgotten where it stood.
    pub fn asked(&mut self, index: usize, number: u64, answer: &Answer) {
        if !matches!(answer, Answer::Stored { .. }) {
            self.keep_in(index, 5_000, 30_000);
            return;
        }
        let station = &self.stations[index];
        if station.down.running.is_none() {
            return; // It asks again, which is harmless.
        }
        let options = Options {
            quota_bytes: HUB_QUOTA_BYTES,
            cache_bytes: 64 * 1024,
        };
        let path = station.down.files.path();
        let store = DownStore::open(&path, options, &station.box_id);
        let mut store = store.expect("the store is there");
        store.drop_answer(number as i64).expect("written");
    }

    /// What a box's store says of files is so on its disk.
    pub fn check_received(&mut self, index: usize) -> Checked {
        let station = &mut self.stations[index];
        let office = station.office;
        let (Some(down), Some(disk)) = (&station.down.running, &station.down.disk) else {
            return Ok(());
        };
        let (files, disk) = (down.eye.files(), disk.clone());
        let harmed = &mut station.down.harmed;
        harmed.retain(|file| {
            let mut rows = files.iter();
            rows.any(|row| row.digest == *file && row.state == "checking")
        });
        let (harmed, was_set_back) = (harmed.clone(), station.down.was_set_back);
        for FileRow {
            digest,
            received,
            state,
        } in files
        {
            self.check_addressed(office, digest)?;
            let content = &self.checker.contents[&digest];
            let is_harmed = harmed.contains(&digest);
            match state.as_str() {
                "kept" => {
                    let Some(found) = disk.read_kept(digest) else {
                        return violated(RECEIPTS, format!("box {index}: {digest} is gone"));
                    };
                    if found != *content {
                        return violated(WHOLE, format!("box {index} offers another {digest}"));
                    }
                }
                "receiving" | "checking" if !is_harmed && !was_set_back => {
                    let found = disk.read(office, digest).unwrap_or_default();
                    let received = received as usize;
                    if found.get(..received) != content.get(..received) {
                        let what = format!(
                            "box {index}: {received} bytes of {digest} are counted and not on the disk"
                        );
                        return violated(RECEIPTS, what);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    // === The end ===

    /// Nothing urgent waits for files, in either direction.
    pub fn check_urgent(&self) -> Checked {
        let Some(running) = &self.center.running else {
            return violated(URGENT, "the hub is down".into());
        };
        // A line that is dead without anybody's knowing stays so until somebody speaks.
        let is_excused = |office: usize| {
            let session = self.broker.sessions[office];
            self.checker.is_cloned(office) || session.is_none_or(|session| session.half_open)
        };
        for lane in running.eye.down_lanes().iter().filter(|lane| lane.lane < 2) {
            if lane.acked != lane.newest && !is_excused(lane.office) {
                let what = format!("down to {} lane {}", lane.office, lane.lane);
                return violated(URGENT, what);
            }
        }
        for (index, station) in self.stations.iter().enumerate() {
            let line = &self.checker.timelines[station.timeline];
            let newest = line.newest();
            if (0..2).any(|lane| line.acked[lane] < newest[lane]) && !is_excused(station.office) {
                return violated(URGENT, format!("box {index}: urgent records wait"));
            }
        }
        Ok(())
    }

    /// A file that the hub holds has not come where it was sent.
    pub fn lacks_files(&self) -> Option<String> {
        let running = self
            .center
            .running
            .as_ref()
            .filter(|_| self.plan.has_papers)?;
        if running.eye.has_unchecked() || running.eye.documents_wait() {
            return Some("the hub has something to do".into());
        }
        for (index, station) in self.stations.iter().enumerate() {
            // What a lost store's documents named, nobody asks for.
            if self.checker.is_cloned(station.office) || station.down.was_set_back {
                continue;
            }
            let files = station.down.running.as_ref()?.eye.files();
            for file in files.iter().filter(|file| file.state != "kept") {
                let at_hub = running.eye.down_file(station.office, file.digest);
                // A hub that was set back may know nothing of a document that it has sent.
                let is_forgotten = self.checker.hub_set_back && at_hub.is_none();
                if is_forgotten || !running.eye.is_blob_kept(file.digest) {
                    continue;
                }
                let (digest, state) = (file.digest, &file.state);
                return Some(format!(
                    "box {index}: {digest} is {state}, at the hub {at_hub:?}"
                ));
            }
        }
        None
    }

    /// Every document that the hub has is where it was sent, with its file.
    pub fn check_papers(&self) -> Checked {
        let Some(running) = self
            .center
            .running
            .as_ref()
            .filter(|_| self.plan.has_papers)
        else {
            return Ok(());
        };
        let sent = running.eye.papers();
        for (index, station) in self.stations.iter().enumerate() {
            let office = station.office;
            let Some(down) = &station.down.running else {
                return violated(LOST, format!("box {index} is down"));
            };
            let mut held = BTreeSet::new();
            for document in down.eye.documents() {
                let Some(handed) = self.checker.handed.get(&document.uid) else {
                    return violated(INVENTED, format!("box {index}: document {}", document.uid));
                };
                let is_it = String::from_utf8_lossy(&handed.tail).contains(&document.data);
                if handed.to != Some(office) || !is_it {
                    let what = format!("box {index}: document {} is not for it", document.uid);
                    return violated(INVENTED, what);
                }
                let sender = self.office_that_sent(document.uid);
                if !held.insert(document.uid) && !self.checker.has_branches(sender) {
                    return violated(TWICE, format!("box {index}: document {}", document.uid));
                }
            }
            if self.checker.is_cloned(office) || station.down.was_set_back {
                continue;
            }
            let files: BTreeMap<Digest, String> = down
                .eye
                .files()
                .into_iter()
                .map(|file| (file.digest, file.state))
                .collect();
            for uid in &sent {
                let handed = &self.checker.handed[uid];
                if handed.to != Some(office) {
                    continue;
                }
                if !held.contains(uid) {
                    return violated(LOST, format!("box {index} lacks document {uid}"));
                }
                let file = handed.file.expect("every document has one");
                let is_here = files.get(&file).is_some_and(|state| state == "kept");
                let sender = self.office_that_sent(*uid);
                let is_excused =
                    self.checker.has_branches(sender) && !running.eye.is_blob_kept(file);
                if !is_here && !is_excused {
                    return violated(LOST, format!("box {index} lacks the file of {uid}"));
                }
            }
        }
        Ok(())
    }

    fn office_that_sent(&self, uid: u64) -> usize {
        let lines = self.checker.timelines.iter();
        let of = lines.filter(|line| line.uids.contains(&uid));
        of.map(|line| line.office).next().unwrap_or_default()
    }
}

fn subject(uid: u64) -> String {
    format!("hoi-{uid}")
}

fn question(office: usize, uid: u64, answer: &AnswerRow) -> NewRecord {
    let mut data: serde_json::Value = serde_json::from_str(&answer.answer).expect("JSON");
    data["uid"] = uid.into();
    data["thiet_bi"] = box_name(office).into();
    let draft = Draft {
        id: None,
        source: &"tram".parse().expect("valid"),
        kind: RecordType {
            dataset: "lenh_tram".parse().expect("valid"),
            version: 1,
        },
        subject: subject(uid).parse().expect("valid"),
        time: None,
        agency: &format!("H53.{office}").parse().expect("valid"),
        op: Op::Upsert,
        sensitivity: 1,
        classification: &[],
        attachments: &[],
        codeflags: &[],
        data: &serde_json::value::to_raw_value(&data).expect("JSON"),
        original: None,
    };
    let tail = draft.to_tail();
    let key = sha256([b"question", answer.id.as_bytes()]);
    NewRecord {
        lane: Lane::P1,
        id: None,
        once: Some(OnceKey {
            key: std::array::from_fn(|at| key[at]),
            digest: std::array::from_fn(|at| key[at + 16]),
        }),
        attachments: Vec::new(),
        tail,
    }
}
