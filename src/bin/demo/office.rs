//! An office: software that hands records in over HTTP, and stations that drop files, with a
//! ledger of what the box has said it accepted. The ledger is what the proof is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lienthong::model::UnixMs;
use lienthong::shell::clock::Clock;

use crate::generator::{Generator, Profile};

/// The bearer token of the demo's offices; the boxes hold its digest.
pub const TOKEN: &str = "demo-lien-thong";
/// Station files beside each record that comes over HTTP.
const FILES_PER_RECORD: f64 = 0.1;
/// Records in one request.
const GROUP_MAX: usize = 25;

/// What the box of an office has accepted.
#[derive(Default)]
pub struct Ledger {
    /// Per record id, the bytes that were handed in.
    pub records: Mutex<BTreeMap<String, String>>,
    /// Station files that were dropped, by name, with their bytes.
    pub files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Records that were accepted, and files that were dropped.
    pub handed_in: AtomicU64,
    pub refused: AtomicU64,
}

pub struct Office {
    pub ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Where an office finds its box.
#[derive(Clone)]
pub struct Doors {
    pub url: String,
    /// Where its stations' loggers put their files.
    pub drop_folder: PathBuf,
}

impl Office {
    /// Begins to hand in records at `speed` times the rates of the load model.
    pub fn open(
        clock: Clock,
        generator: Generator,
        profile: Profile,
        speed: f64,
        doors: Doors,
    ) -> Office {
        let ledger = Arc::new(Ledger::default());
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            clock,
            generator,
            profile,
            speed,
            doors,
            ledger: Arc::clone(&ledger),
        };
        let thread = {
            let stop = Arc::clone(&stop);
            std::thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn(move || worker.work(&stop))
                .expect("the machine has threads")
        };
        Office {
            ledger,
            stop,
            thread: Some(thread),
        }
    }

    /// Stops after what is under way has been answered.
    pub fn close(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    clock: Clock,
    generator: Generator,
    profile: Profile,
    speed: f64,
    doors: Doors,
    ledger: Arc<Ledger>,
}

impl Worker {
    fn work(mut self, stop: &AtomicBool) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .build()
            .into();
        let pause = Duration::from_millis(200);
        // What is due is a fraction of a record at low speeds, so it is carried over.
        let (mut due, mut due_files) = (0.0, 0.0);
        let per_s = self.speed / self.profile.mean_interval(1).as_secs_f64();
        let files_per_s = per_s * FILES_PER_RECORD;
        while !stop.load(Ordering::Relaxed) {
            let now = self.clock.now().wall;
            due += per_s * pause.as_secs_f64();
            due_files += files_per_s * pause.as_secs_f64();
            let mut by_dataset: BTreeMap<String, Vec<String>> = BTreeMap::new();
            while 1.0 <= due {
                due -= 1.0;
                let sample = self.generator.next_record(now);
                by_dataset
                    .entry(sample.dataset.to_string())
                    .or_default()
                    .push(sample.json);
            }
            for (dataset, records) in by_dataset {
                for group in records.chunks(GROUP_MAX) {
                    self.hand_in(&agent, &dataset, group, stop);
                }
            }
            while 1.0 <= due_files {
                due_files -= 1.0;
                self.drop_file(now);
            }
            std::thread::sleep(pause);
        }
    }

    /// Repeats under one key until the box has answered; a box that was killed in between and had
    /// kept the records already gives the first answer again.
    fn hand_in(&self, agent: &ureq::Agent, dataset: &str, records: &[String], stop: &AtomicBool) {
        let url = format!("{}/v1/records/{dataset}", self.doors.url);
        let key = format!("{:x}", fingerprint(records));
        let body = format!("[{}]", records.join(","));
        for attempt in 0.. {
            let answer = agent
                .post(&url)
                .header("authorization", format!("Bearer {TOKEN}"))
                .header("content-type", "application/json")
                .header("idempotency-key", &key)
                .send(&body);
            match answer {
                Ok(mut answer) if matches!(answer.status().as_u16(), 200 | 201) => {
                    let answer: serde_json::Value = answer
                        .body_mut()
                        .read_json()
                        .unwrap_or(serde_json::Value::Null);
                    return self.note(&answer, records);
                }
                Ok(answer) if answer.status().as_u16() == 422 => {
                    self.ledger
                        .refused
                        .fetch_add(records.len() as u64, Ordering::Relaxed);
                    return;
                }
                _ => {}
            }
            if 5 < attempt && stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn note(&self, answer: &serde_json::Value, records: &[String]) {
        let accepted = answer["accepted"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut ledger = self
            .ledger
            .records
            .lock()
            .expect("nobody panics with the ledger");
        for (accepted, record) in accepted.iter().zip(records) {
            if let Some(id) = accepted["id"].as_str() {
                ledger.insert(id.to_owned(), record.clone());
            }
        }
        self.ledger
            .handed_in
            .fetch_add(accepted.len() as u64, Ordering::Relaxed);
    }

    /// As a station's logger does: written beside, then renamed into place.
    fn drop_file(&mut self, now: UnixMs) {
        let (name, content) = self.generator.station_file(now);
        // A day that is played fast brings a station's next result within the same second.
        if self
            .ledger
            .files
            .lock()
            .expect("nobody panics with the ledger")
            .contains_key(&name)
        {
            return;
        }
        if try_drop(&self.doors.drop_folder, &name, content.as_bytes()).is_ok() {
            self.ledger
                .files
                .lock()
                .expect("nobody panics with the ledger")
                .insert(name, content.into_bytes());
            self.ledger.handed_in.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn try_drop(folder: &Path, name: &str, content: &[u8]) -> std::io::Result<()> {
    let beside = folder.join(format!(".{name}.part"));
    std::fs::write(&beside, content)?;
    std::fs::rename(beside, folder.join(name))
}

/// The station files that the box has moved to `done/`: what it said it accepted.
pub fn done_files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.join("done")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) => {
                    found.insert(entry.file_name().to_string_lossy().into_owned());
                }
                Err(_) => {}
            }
        }
    }
    found
}

/// A key for this very group of records.
fn fingerprint(records: &[String]) -> u128 {
    let digest = lienthong::evidence::sha256(records.join("\n").as_bytes());
    u128::from_be_bytes(
        digest[..16]
            .try_into()
            .expect("sixteen of thirty-two bytes"),
    )
}
