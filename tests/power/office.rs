//! The office's program beside a box whose power is cut: it hands in records and files one after the
//! other, keeps a ledger of what the box said it has, and after each cut asks for it again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lienthong::evidence::sha256;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::rig::{DATASET, TOKEN, dossier};

/// Every so manieth deed is a file and the record that names it.
const FILE_EVERY: u64 = 5;
const FILE_BYTES_MAX: u64 = 48 * 1024;

pub struct Office {
    agency: &'static str,
    agent: ureq::Agent,
    hub_files: PathBuf,
    url: String,
    dice: Dice,
    /// Numbers of dossiers of which the box said that it has them: `0..taken`.
    pub taken: u32,
    /// The last records and the last file that the box said it has.
    last: Option<Deed>,
    last_file: Option<Vec<u8>>,
    /// What was sent and not answered.
    open: Option<Deed>,
    /// Digests of the files that records name.
    pub files: BTreeMap<String, usize>,
}

#[derive(Clone)]
enum Deed {
    Records(Range<u32>),
    File(u32, Vec<u8>),
}

/// What the box no longer knew.
#[derive(Debug)]
pub struct Lost(pub String);

impl Office {
    /// `hub_files` is where the hub keeps files; the box forgets those that are there.
    pub fn new(agency: &'static str, http_port: u16, hub_files: PathBuf, seed: u64) -> Office {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)));
        Office {
            agency,
            agent: config.build().into(),
            hub_files,
            url: format!("http://127.0.0.1:{http_port}/v1"),
            dice: Dice::new(seed),
            taken: 0,
            last: None,
            last_file: None,
            open: None,
            files: BTreeMap::new(),
        }
    }

    /// Asks again for the last that the box said it has, as soon as it answers.
    pub fn ask_again(&self) -> Result<(), Lost> {
        if let Some(content) = &self.last_file {
            let name = name_of(content);
            match self.patiently(|| self.put(content)) {
                200 => {}
                201 if self.hub_files.join(&name[..2]).join(&name).is_file() => {}
                status => return Err(Lost(format!("file {name}: {status}"))),
            }
        }
        match &self.last {
            None => {}
            Some(deed) => match self.patiently(|| self.post(deed)) {
                200 => {}
                status => return Err(Lost(format!("records before {}: {status}", self.taken))),
            },
        }
        Ok(())
    }

    /// Hands in until the box is silent or `stop` says so; `begun` is set after the first answer.
    pub fn work(&mut self, begun: &AtomicBool, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let deed = self.open.take().unwrap_or_else(|| self.next());
            self.open = Some(deed.clone());
            if !self.hand_in(&deed) {
                return;
            }
            self.open = None;
            begun.store(true, Ordering::Relaxed);
        }
    }

    /// Does so many deeds, as soon as the box answers, while `goes_on`.
    pub fn do_some(&mut self, deeds: u32, mut goes_on: impl FnMut() -> bool) {
        for _ in 0..deeds {
            let deed = self.next();
            while !self.hand_in(&deed) {
                if !goes_on() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Hands in what was not answered.
    pub fn finish(&mut self) {
        if let Some(deed) = self.open.take() {
            self.patiently(|| match &deed {
                Deed::File(_, content) => self.put(content),
                Deed::Records(_) => Some(200),
            });
            self.patiently(|| self.post(&deed));
            self.keep(&deed);
        }
    }

    pub fn is_file_at_hub(&self) -> bool {
        let is_whole = |(name, length): (&String, &usize)| {
            let path = self.hub_files.join(&name[..2]).join(name);
            path.metadata()
                .is_ok_and(|file| file.len() == *length as u64)
        };
        self.files.iter().all(is_whole)
    }

    fn next(&mut self) -> Deed {
        if self.dice.below(FILE_EVERY) == 0 {
            let length = 1 + self.dice.below(FILE_BYTES_MAX);
            let content = (0..length / 8 + 1).flat_map(|_| self.dice.roll().to_be_bytes());
            return Deed::File(self.taken, content.collect());
        }
        Deed::Records(self.taken..self.taken + 1 + self.dice.below(4) as u32)
    }

    /// False when the box did not answer.
    fn hand_in(&mut self, deed: &Deed) -> bool {
        if let Deed::File(_, content) = deed {
            match self.put(content) {
                Some(200 | 201) => self.last_file = Some(content.clone()),
                Some(status) => panic!("the box answers {status} to a file"),
                None => return false,
            }
        }
        match self.post(deed) {
            Some(200 | 201) => {
                self.keep(deed);
                true
            }
            Some(status) => panic!("the box answers {status}"),
            None => false,
        }
    }

    fn keep(&mut self, deed: &Deed) {
        match deed {
            Deed::Records(numbers) => self.taken = numbers.end,
            Deed::File(number, content) => {
                self.taken = number + 1;
                self.files.insert(name_of(content), content.len());
            }
        }
        self.last = Some(deed.clone());
    }

    fn patiently(&self, ask: impl Fn() -> Option<u16>) -> u16 {
        for _ in 0..3_000 {
            if let Some(status) = ask() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the box does not come back");
    }

    fn put(&self, content: &[u8]) -> Option<u16> {
        let request = self
            .agent
            .put(format!("{}/blobs/{}", self.url, name_of(content)))
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/pdf");
        Some(request.send(content).ok()?.status().as_u16())
    }

    fn post(&self, deed: &Deed) -> Option<u16> {
        let (kind, key, body) = match deed {
            Deed::Records(numbers) => {
                let lines = numbers.clone().map(|number| dossier(self.agency, number));
                let key = format!("{}-{}", numbers.start, numbers.end);
                let body = lines.collect::<Vec<_>>().join("\n");
                ("application/x-ndjson", key, body)
            }
            Deed::File(number, content) => {
                let data: Value = serde_json::from_str(&dossier(self.agency, *number)).unwrap();
                let event = json!({
                    "specversion": "1.0", "id": format!("tep-{number}"), "source": "urn:mot-cua",
                    "type": DATASET, "data": data,
                    "attachments": [{"name": "to-trinh.pdf", "mime": "application/pdf",
                        "bytes": content.len(), "sha256": name_of(content)}],
                });
                let key = format!("tep-{number}");
                ("application/cloudevents+json", key, event.to_string())
            }
        };
        let request = self
            .agent
            .post(format!("{}/records/{DATASET}", self.url))
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("idempotency-key", key)
            .header("content-type", kind);
        Some(request.send(body).ok()?.status().as_u16())
    }
}

pub fn name_of(content: &[u8]) -> String {
    let digest = sha256(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
