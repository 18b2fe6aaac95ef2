//! A hub in a folder of its own, and boxes that fill its store through the real engines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use lienthong::engine::content::NoContent;
use lienthong::engine::parts::{PartFiles, folder_beside};
use lienthong::engine::{receiving, sending};
use lienthong::evidence::{PublicKey, SigningKey};
use lienthong::model::limits::MESSAGE_BYTES_MAX;
use lienthong::model::record::{Attachment, Draft, Op, RecordType};
use lienthong::model::{BoxId, ClockQuality, Epoch, Lane, Now, UnixMs};
use lienthong::store::Options;
use lienthong::store::rows::Beside;
use lienthong::sync::Limits;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde_json::value::RawValue;

pub const OPTIONS: Options = Options {
    quota_bytes: 256 << 20,
    cache_bytes: 1 << 20,
};
/// 2026-09-21.
const START_MS: i64 = 1_790_000_000_000;

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A folder that `trucd init` made.
pub struct Hub {
    folder: tempfile::TempDir,
    pub port: u16,
    pub http_port: u16,
}

impl Hub {
    pub fn new() -> Hub {
        let folder = tempfile::tempdir().unwrap();
        let (port, http_port) = (free_port(), free_port());
        let hub = Hub {
            folder,
            port,
            http_port,
        };
        let listen = format!("127.0.0.1:{port}");
        let dir = hub.folder().to_str().unwrap().to_owned();
        hub.ok(&["init", &dir, "--name", "localhost", "--listen", &listen]);
        hub.edit("127.0.0.1:8490", &format!("127.0.0.1:{http_port}"));
        hub
    }

    /// Another hub with the same files.
    pub fn copy(&self) -> Hub {
        let folder = tempfile::tempdir().unwrap();
        for name in ["trucd.toml", "trucd.db"] {
            fs::copy(self.path(name), folder.path().join(name)).unwrap();
        }
        Hub {
            folder,
            port: self.port,
            http_port: self.http_port,
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a text in `trucd.toml`.
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("trucd.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(self.path("trucd.toml"), text.replace(from, to)).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trucd"));
        command.args(args);
        if args[0] != "init" {
            command.arg("--config").arg(self.path("trucd.toml"));
        }
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran {
            code: output.status.code().expect("not killed"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "trucd {args:?}: {}", ran.stderr);
        ran.stdout
    }
}

pub fn read_key(path: &Path) -> SigningKey {
    let der = PrivatePkcs8KeyDer::from_pem_file(path).unwrap();
    SigningKey::from_pkcs8(der.secret_pkcs8_der()).unwrap()
}

/// A record to be handed in.
#[derive(Clone)]
pub struct Sample {
    subject: String,
    data: String,
    lane: Lane,
    op: Op,
    agency: Option<String>,
    dataset: &'static str,
    sensitivity: u8,
    original: Option<String>,
    attachments: Vec<Attachment>,
}

impl Sample {
    pub fn new(subject: &str, data: &str) -> Sample {
        Sample {
            subject: subject.to_owned(),
            data: data.to_owned(),
            lane: Lane::P2,
            op: Op::Upsert,
            agency: None,
            dataset: "ho_so_tthc",
            sensitivity: 2,
            original: None,
            attachments: Vec::new(),
        }
    }

    #[allow(dead_code, reason = "not every test hands in files")]
    pub fn attachment(mut self, file: Attachment) -> Sample {
        self.attachments.push(file);
        self
    }

    #[allow(dead_code, reason = "not every test hands in several datasets")]
    pub fn dataset(self, dataset: &'static str) -> Sample {
        Sample { dataset, ..self }
    }

    #[allow(dead_code, reason = "not every test hands in sensitive data")]
    pub fn sensitivity(self, sensitivity: u8) -> Sample {
        Sample {
            sensitivity,
            ..self
        }
    }

    /// The source's own bytes, base64.
    #[allow(dead_code, reason = "not every test hands in files")]
    pub fn original(self, base64: &str) -> Sample {
        Sample {
            original: Some(base64.to_owned()),
            ..self
        }
    }

    pub fn lane(self, lane: Lane) -> Sample {
        Sample { lane, ..self }
    }

    pub fn op(self, op: Op) -> Sample {
        Sample { op, ..self }
    }

    pub fn agency(self, agency: &str) -> Sample {
        Sample {
            agency: Some(agency.to_owned()),
            ..self
        }
    }

    fn record(&self, agency: &str) -> sending::NewRecord {
        let data: Box<RawValue> = RawValue::from_string(self.data.clone()).unwrap();
        let draft = Draft {
            id: None,
            source: &"mot-cua".parse().unwrap(),
            kind: RecordType {
                dataset: self.dataset.parse().unwrap(),
                version: 1,
            },
            subject: self.subject.parse().unwrap(),
            time: None,
            agency: &self.agency.as_deref().unwrap_or(agency).parse().unwrap(),
            op: self.op,
            sensitivity: self.sensitivity,
            classification: &[],
            attachments: &self.attachments,
            codeflags: &[],
            data: &data,
            original: self.original.as_deref(),
        };
        sending::NewRecord {
            lane: self.lane,
            tail: draft.to_tail(),
            id: None,
            once: None,
            attachments: Vec::new(),
        }
    }
}

/// A registered box: the material that `box add` wrote, and an engine with its store.
pub struct Office {
    pub box_id: BoxId,
    agency: String,
    hub: PathBuf,
    receipt_key: PathBuf,
    pub material: PathBuf,
    store: PathBuf,
    pub engine: sending::EdgeEngine<()>,
    now_ms: u64,
}

impl Office {
    pub fn add(hub: &Hub, name: &str, agency: &str) -> Office {
        hub.ok(&["box", "add", name, "--agency", agency]);
        let material = hub.path(&format!("boxes/{name}"));
        let store = hub.path(&format!("{name}.db"));
        let box_id: BoxId = name.parse().unwrap();
        Office {
            engine: open_engine(&box_id, &store, &material),
            box_id,
            agency: agency.to_owned(),
            hub: hub.path("trucd.db"),
            receipt_key: hub.path("receipt.key"),
            material,
            store,
            now_ms: 0,
        }
    }

    pub fn now(&mut self) -> Now {
        self.now_ms += 20;
        Now {
            mono_ms: self.now_ms,
            wall: UnixMs(START_MS + self.now_ms as i64),
            quality: ClockQuality::Synchronized,
        }
    }

    pub fn submission(&self, samples: &[Sample]) -> sending::Submission<()> {
        sending::Submission {
            reply: (),
            source: "mot-cua".parse().unwrap(),
            records: samples
                .iter()
                .map(|sample| sample.record(&self.agency))
                .collect(),
            once: None,
            cursor: None,
            beside: Beside::default(),
        }
    }

    /// Takes samples in, without a link.
    pub fn keep(&mut self, samples: &[Sample]) {
        let submission = self.submission(samples);
        let now = self.now();
        let effects = self
            .engine
            .step(now, vec![sending::Event::Submit(submission)])
            .unwrap();
        let stored = effects.iter().any(|effect| {
            matches!(
                effect,
                sending::Effect::Answer {
                    answer: sending::Answer::Stored { .. },
                    ..
                }
            )
        });
        assert!(stored, "{effects:?}");
    }

    /// Takes samples in and carries everything to the hub's store.
    pub fn send(&mut self, samples: Vec<Sample>) {
        if !samples.is_empty() {
            self.keep(&samples);
        }
        let mut hub = receiving::HubEngine::open(receiving::Config {
            store: self.hub.clone(),
            options: OPTIONS,
            key: read_key(&self.receipt_key).into(),
            parts: Box::new(PartFiles::new(folder_beside(&self.hub))),
        })
        .unwrap();
        let mut events = vec![sending::Event::LinkUp {
            message_bytes_max: MESSAGE_BYTES_MAX,
        }];
        for _ in 0..400 {
            let now = self.now();
            let effects = self.engine.step(now, std::mem::take(&mut events)).unwrap();
            let messages = effects.into_iter().filter_map(|effect| match effect {
                sending::Effect::Publish(message) => Some(message),
                _ => None,
            });
            let received: Vec<receiving::Event> = messages
                .map(|message: Bytes| receiving::Event::Received {
                    box_id: self.box_id.clone(),
                    message,
                })
                .collect();
            for effect in hub.step(now, received).unwrap() {
                if let receiving::effect::Effect::Publish { message, .. } = effect {
                    events.push(sending::Event::Received(message));
                }
            }
            if events.is_empty() && self.engine.waiting() == [0; 5] {
                let now = self.now();
                self.engine
                    .step(now, vec![sending::Event::LinkDown])
                    .unwrap();
                return;
            }
        }
        panic!("the box still waits: {:?}", self.engine.waiting());
    }

    /// Takes samples of P2 in and loses the first ones, as a broken disk would; says so to the hub
    /// and sends the others.
    pub fn lose_and_send(&mut self, lost: Vec<Sample>, after: Vec<Sample>) {
        self.keep(&lost);
        self.keep(&after);
        self.reopen(|store| {
            let connection = rusqlite::Connection::open(store).unwrap();
            let changed = connection
                .execute(
                    "UPDATE lane SET (tail, tail_chain, tail_sum) = (
                       SELECT place & 0xffffffffffffff, chain, sum FROM outbox
                       WHERE place = (SELECT max(place) FROM outbox WHERE place >> 56 = 2) - ?1)
                     WHERE lane = 2",
                    [after.len() as i64],
                )
                .unwrap();
            assert_eq!(changed, 1);
            connection
                .execute(
                    "DELETE FROM outbox WHERE place >> 56 = 2
                       AND place & 0xffffffffffffff <= (SELECT tail FROM lane WHERE lane = 2)",
                    [],
                )
                .unwrap();
        });
        self.send(Vec::new());
    }

    /// Sends `lost`, is set back to before that, and then sends `after` under a new epoch.
    pub fn set_back_and_send(&mut self, lost: Vec<Sample>, after: Vec<Sample>) {
        self.keep(&lost);
        let saved = self.store.with_extension("saved");
        self.reopen(|store| {
            fs::copy(store, &saved).unwrap();
        });
        self.send(vec![Sample::new("after-the-copy", "{}")]);
        let before = self.engine.epoch();
        self.reopen(|store| {
            fs::copy(&saved, store).unwrap();
            for left in ["db-wal", "db-shm"] {
                assert!(!store.with_extension(left).exists(), "the store was closed");
            }
        });
        self.send(after);
        assert_ne!(self.engine.epoch(), before, "no new epoch");
    }

    /// Closes the store, lets `change` at its file, and opens it again.
    fn reopen(&mut self, change: impl FnOnce(&Path)) {
        let spare = self.store.with_extension("spare");
        // The engine is only replaced, never absent: a spare one stands in.
        self.engine = open_engine(&self.box_id, &spare, &self.material);
        change(&self.store);
        self.engine = open_engine(&self.box_id, &self.store, &self.material);
    }
}

fn open_engine(box_id: &BoxId, store: &Path, material: &Path) -> sending::EdgeEngine<()> {
    let hub_key = SubjectPublicKeyInfoDer::from_pem_file(material.join("hub.pub")).unwrap();
    let point = &hub_key[hub_key.len() - 65..];
    sending::EdgeEngine::open(sending::Config {
        store: store.to_owned(),
        options: OPTIONS,
        box_id: box_id.clone(),
        key: read_key(&material.join("box.key")).into(),
        hub_keys: vec![PublicKey::from_bytes(point).unwrap()],
        limits: Limits::FIELD,
        space: sending::Space {
            lane_bytes_max: [32 << 20; 5],
            tail_ms: 86_400_000,
            tail_bytes: 1 << 20,
            once_keys: 100,
            blob_bytes_max: 64 << 20,
        },
        content: Box::new(NoContent),
        mint: Box::new(|| {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).unwrap();
            Epoch(u64::from_be_bytes(bytes) >> 1)
        }),
    })
    .unwrap()
}

/// RFC 4180, strictly.
pub fn read_csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut rest = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = rest.next() {
        match (quoted, c) {
            (true, '"') if rest.peek() == Some(&'"') => {
                rest.next();
                cell.push('"');
            }
            (true, '"') => quoted = false,
            (true, c) => cell.push(c),
            (false, '"') => {
                assert!(cell.is_empty(), "a quote within a bare cell");
                quoted = true;
            }
            (false, ',') => row.push(std::mem::take(&mut cell)),
            (false, '\r') => {
                assert_eq!(rest.next(), Some('\n'));
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            (false, c) => cell.push(c),
        }
    }
    assert!(cell.is_empty() && row.is_empty(), "the last line is whole");
    rows
}
