//! A hub and three boxes, engine to engine over real stores: copies by rights, documents by address,
//! and what became of them, with boxes that are away.
#![cfg(all(feature = "edge", feature = "hub"))]
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use lienthong::catalogue::Catalogue;
use lienthong::catalogue::bundle::Bundle;
use lienthong::catalogue::right::{Right, Rows};
use lienthong::engine::content::NoContent;
use lienthong::engine::parts::{PartFiles, folder_beside};
use lienthong::engine::posting::DownSpace;
use lienthong::engine::{copying, receiving, sending};
use lienthong::evidence::{SigningKey, sha256};
use lienthong::hub::status;
use lienthong::model::down::{CatalogueNews, day_of, midnight};
use lienthong::model::limits::{ENTRY_BYTES_MAX, MESSAGE_BYTES_MAX};
use lienthong::model::record::{Draft, Op, RecordType};
use lienthong::model::{AgencyCode, BoxId, ClockQuality, DatasetId, Epoch, Lane, Now, UnixMs};
use lienthong::store::Options;
use lienthong::store::copies::Words;
use lienthong::store::copies::look::CopyView;
use lienthong::store::hub::rights::RightRow;
use lienthong::store::hub::{HubStore, NewBox};
use lienthong::store::hub_view::HubView;
use lienthong::store::inbox::{DocumentRow, Inbox, StatusRow};
use lienthong::store::rows::Beside;
use lienthong::sync::Limits;
use serde_json::value::RawValue;
use serde_json::{Value, json};

const OPTIONS: Options = Options {
    quota_bytes: 256 << 20,
    cache_bytes: 1 << 20,
};
/// 2026-11-22.
const START_MS: i64 = 1_795_300_000_000;

struct Station {
    id: BoxId,
    agency: AgencyCode,
    up: sending::EdgeEngine<()>,
    down: copying::CopyEngine,
    folder: PathBuf,
    is_online: bool,
}

struct Rig {
    folder: tempfile::TempDir,
    hub: receiving::HubEngine,
    stations: Vec<Station>,
    to_hub: Vec<receiving::Event>,
    now_ms: u64,
}

impl Rig {
    fn new(offices: &[(&str, &str)]) -> Rig {
        let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("catalogue");
        Rig::with(Catalogue::load(&shipped).unwrap(), offices)
    }

    fn with(catalogue: Catalogue, offices: &[(&str, &str)]) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let hub_key = SigningKey::generate();
        let key = || SigningKey::from_pkcs8(&hub_key).unwrap();
        let path = folder.path().join("hub.db");
        let mut hub = receiving::HubEngine::open(receiving::Config {
            parts: Box::new(PartFiles::new(folder_beside(&path))),
            store: path.clone(),
            options: OPTIONS,
            key: key().into(),
        })
        .unwrap();
        hub.set_catalogue(Arc::new(catalogue));
        let mut registry = HubStore::open(&path, OPTIONS).unwrap();
        let mut stations = Vec::new();
        for (name, agency) in offices {
            let box_key = SigningKey::generate();
            let own = || SigningKey::from_pkcs8(&box_key).unwrap();
            let (id, agency): (BoxId, AgencyCode) =
                (name.parse().unwrap(), agency.parse().unwrap());
            let public_key = own().public_key();
            let new = NewBox {
                box_id: &id,
                agency: &agency,
                public_key: public_key.as_bytes(),
                serial: "01",
                not_after: UnixMs(i64::MAX),
            };
            assert!(registry.add_box(&new, UnixMs(START_MS)).unwrap());
            let place = folder.path().join(name);
            std::fs::create_dir(&place).unwrap();
            let mut epochs = 40;
            let up = sending::EdgeEngine::open(sending::Config {
                store: place.join("box.db"),
                options: OPTIONS,
                box_id: id.clone(),
                key: own().into(),
                hub_keys: vec![key().public_key()],
                limits: Limits::FIELD,
                space: sending::Space {
                    lane_bytes_max: [32 << 20; 5],
                    tail_ms: 0,
                    tail_bytes: 0,
                    once_keys: 1000,
                    blob_bytes_max: 64 << 20,
                },
                content: Box::new(NoContent),
                mint: Box::new(move || {
                    epochs += 1;
                    Epoch(epochs)
                }),
            })
            .unwrap();
            let mut down = copying::CopyEngine::open(
                copying::Config {
                    store: place.join("down.db"),
                    options: OPTIONS,
                    box_id: id.clone(),
                    key: own().into(),
                    hub_keys: vec![key().public_key()],
                    limits: Limits::FIELD,
                },
                now(0),
            )
            .unwrap();
            down.set_words(Words {
                fields: Box::new(|_| "/nguoi_nop/ho_ten".to_owned()),
                of: Box::new(|_, data| {
                    let data: Value = serde_json::from_str(data).unwrap();
                    let name = data["nguoi_nop"]["ho_ten"].as_str();
                    name.unwrap_or_default().to_owned()
                }),
            });
            stations.push(Station {
                id,
                agency,
                up,
                down,
                folder: place,
                is_online: false,
            });
        }
        Rig {
            folder,
            hub,
            stations,
            to_hub: Vec::new(),
            now_ms: 1000,
        }
    }

    fn set_online(&mut self, number: usize, is_online: bool) {
        let (up, down) = match is_online {
            true => (
                sending::Event::LinkUp {
                    message_bytes_max: MESSAGE_BYTES_MAX,
                },
                copying::Event::LinkUp,
            ),
            false => (sending::Event::LinkDown, copying::Event::LinkDown),
        };
        let at = now(self.now_ms);
        let station = &mut self.stations[number];
        station.is_online = is_online;
        let said = station.up.step(at, vec![up]).unwrap().into_iter();
        let mut messages: Vec<Bytes> = said
            .filter_map(|effect| match effect {
                sending::Effect::Publish(message) => Some(message),
                _ => None,
            })
            .collect();
        let said = station.down.step(at, vec![down]).unwrap().into_iter();
        messages.extend(said.filter_map(|effect| match effect {
            copying::Effect::Publish(message) => Some(message),
            _ => None,
        }));
        let received = messages
            .into_iter()
            .map(|message| receiving::Event::Received {
                box_id: station.id.clone(),
                message,
            });
        self.to_hub.extend(received);
    }

    fn keep(&mut self, number: usize, record: Record<'_>) {
        let at = now(self.now_ms);
        let station = &mut self.stations[number];
        let submission = sending::Submission {
            reply: (),
            source: "thu".parse().unwrap(),
            records: vec![record.taken(&station.agency)],
            once: None,
            cursor: None,
            beside: Beside::default(),
        };
        let effects = station
            .up
            .step(at, vec![sending::Event::Submit(submission)])
            .unwrap();
        let mut is_stored = false;
        for effect in effects {
            match effect {
                sending::Effect::Answer { answer, .. } => {
                    is_stored |= matches!(answer, sending::Answer::Stored { .. });
                }
                sending::Effect::Publish(message) => {
                    self.to_hub.push(receiving::Event::Received {
                        box_id: station.id.clone(),
                        message,
                    });
                }
                _ => {}
            }
        }
        assert!(is_stored);
    }

    /// Carries messages until nobody has said anything for a while.
    fn settle(&mut self) {
        let mut to_hub = std::mem::take(&mut self.to_hub);
        let mut quiet = 0;
        for _ in 0..20_000 {
            self.now_ms += 20;
            let at = now(self.now_ms);
            let mut is_quiet = to_hub.is_empty();
            self.hub.set_room(8 << 20);
            let effects = self.hub.step(at, std::mem::take(&mut to_hub)).unwrap();
            let mut ups: Vec<Vec<sending::Event<()>>> =
                self.stations.iter().map(|_| Vec::new()).collect();
            let mut downs: Vec<Vec<copying::Event>> =
                self.stations.iter().map(|_| Vec::new()).collect();
            let place = |stations: &[Station], id: &BoxId| {
                stations.iter().position(|one| one.id == *id).unwrap()
            };
            for effect in effects {
                match effect {
                    receiving::effect::Effect::Publish { box_id, message } => {
                        ups[place(&self.stations, &box_id)].push(sending::Event::Received(message));
                    }
                    receiving::effect::Effect::Offer { box_id, message } => {
                        downs[place(&self.stations, &box_id)]
                            .push(copying::Event::Received(message));
                    }
                    receiving::effect::Effect::Refused { box_id, code } => {
                        panic!("{box_id}: {code:?}")
                    }
                    _ => {}
                }
            }
            for ((station, up), down) in self.stations.iter_mut().zip(ups).zip(downs) {
                if !station.is_online {
                    continue;
                }
                is_quiet &= up.is_empty() && down.is_empty();
                let mut send = |message| {
                    is_quiet = false;
                    to_hub.push(receiving::Event::Received {
                        box_id: station.id.clone(),
                        message,
                    });
                };
                for effect in station.up.step(at, up).unwrap() {
                    if let sending::Effect::Publish(message) = effect {
                        send(message);
                    }
                }
                for effect in station.down.step(at, down).unwrap() {
                    if let copying::Effect::Publish(message) = effect {
                        send(message);
                    }
                }
            }
            quiet = if is_quiet { quiet + 1 } else { 0 };
            if 60 < quiet {
                return;
            }
        }
        panic!("they never come to rest");
    }

    fn registry(&self) -> HubStore {
        HubStore::open(&self.folder.path().join("hub.db"), OPTIONS).unwrap()
    }

    fn grant(&mut self, agency: &str, dataset: &str, right: &Right) {
        let row = RightRow {
            agency: agency.parse().unwrap(),
            dataset: dataset.parse().unwrap(),
            content: serde_json::to_string(right).unwrap(),
            basis: String::new(),
            granted: UnixMs(0),
            granted_by: "thử".to_owned(),
        };
        self.registry().set_right(&row).unwrap();
    }

    /// Subjects and data of dossiers at a station; none where it may not read them.
    fn copies(&self, number: usize, question: &str) -> Option<Vec<Value>> {
        let view = CopyView::open(&self.stations[number].folder.join("down.db")).unwrap();
        let dataset: DatasetId = "ho_so_tthc".parse().unwrap();
        let of = view.dataset(&dataset).unwrap()?;
        assert!(of.complete, "{of:?}");
        let (found, _) = view.by_words(&of, question, None, 1000).unwrap();
        Some(
            found
                .iter()
                .map(|record| serde_json::from_str(&record.data).unwrap())
                .collect(),
        )
    }

    fn inbox(&self, number: usize) -> Inbox {
        Inbox::open(&self.stations[number].folder.join("down.db")).unwrap()
    }

    fn documents(&self, number: usize) -> Vec<DocumentRow> {
        self.inbox(number).documents(0, false, 100).unwrap()
    }

    /// What the sender, at station 0, has heard of its letter: who said which code.
    fn heard(&self, letter: &str) -> Vec<(String, String)> {
        let (sender, id) = ("H53.11".parse().unwrap(), letter.parse().unwrap());
        let rows = self.inbox(0).statuses(&sender, &id).unwrap();
        let by = |row: &StatusRow| row.by.as_ref().map_or("-".to_owned(), ToString::to_string);
        let mut heard: Vec<_> = rows.iter().map(|row| (by(row), row.code.clone())).collect();
        heard.sort();
        heard
    }

    fn publish(&mut self, version: u32, effective: &str, bundle: &Bundle) {
        let content = bundle.to_content().unwrap();
        let news = CatalogueNews {
            version,
            effective: effective.to_owned(),
            bytes: content.len() as u64,
            sha256: String::new(),
            parts: 1,
            by: "thử".to_owned(),
            signature: String::new(),
        };
        let begins = midnight(effective).unwrap();
        let mut registry = self.registry();
        registry.begin().unwrap();
        registry
            .publish(&news, begins, &content, UnixMs(0))
            .unwrap();
        registry.commit().unwrap();
    }

    /// The hub's `trucd status`.
    fn status(&self) -> status::Status {
        let view = HubView::open(&self.folder.path().join("hub.db")).unwrap();
        status::read(&view, 1 << 30, now(self.now_ms).wall).unwrap()
    }

    fn files_with(&self, number: usize, marker: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.stations[number].folder).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let lower = marker.to_lowercase();
            let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
            if holds(marker.as_bytes()) || holds(lower.as_bytes()) {
                found.push(path);
            }
        }
        found
    }
}

struct Record<'a> {
    dataset: &'a str,
    id: Option<&'a str>,
    subject: &'a str,
    op: Op,
    data: Value,
    original: Option<&'a str>,
}

impl Record<'_> {
    fn taken(&self, agency: &AgencyCode) -> sending::NewRecord {
        let data: Box<RawValue> = serde_json::value::to_raw_value(&self.data).unwrap();
        let id = self.id.map(|id| id.parse().unwrap());
        let draft = Draft {
            id: id.clone(),
            source: &"thu".parse().unwrap(),
            kind: RecordType {
                dataset: self.dataset.parse().unwrap(),
                version: 1,
            },
            subject: self.subject.parse().unwrap(),
            time: None,
            agency,
            op: self.op,
            sensitivity: 2,
            classification: &[],
            attachments: &[],
            codeflags: &[],
            data: &data,
            original: self.original,
        };
        sending::NewRecord {
            lane: Lane::P2,
            tail: draft.to_tail(),
            id,
            once: None,
            attachments: Vec::new(),
        }
    }
}

/// A word about a letter of H53.11's.
fn said<'a>(letter: &str, to: &str, code: &'a str) -> Record<'a> {
    Record {
        dataset: "trang_thai_giao_nhan",
        id: None,
        subject: code,
        op: Op::Upsert,
        data: json!({"tai_lieu": letter, "tu": {"ma": "H53.11"}, "den": {"ma": to},
            "trang_thai": code, "thoi_diem": "2026-11-20T02:15:00+07:00"}),
        original: None,
    }
}

/// The status packet of an edXML system.
fn packet<'a>(letter: &str, by: &str, code: &'a str) -> Record<'a> {
    Record {
        dataset: "van_ban_dien_tu",
        id: None,
        subject: code,
        op: Op::Upsert,
        data: json!({"loai_ban_ghi": "trang_thai", "ma_van_ban": letter, "tu": {"ma": by},
            "trang_thai": code, "mo_ta": "gói edXML", "thoi_diem": "2026-11-20T02:15:00+07:00"}),
        original: None,
    }
}

/// The shipped catalogue with H53.12 merged into H53.30 after a day.
fn merged(last_day: &str) -> Bundle {
    let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("catalogue");
    let codes = std::fs::read_to_string(shipped.join("codes/agencies.toml")).unwrap();
    let merger = format!(
        "\n[[agency]]\ncode = \"H53.12\"\nname = \"Xã B\"\nvalid_to = \"{last_day}\"\nreplaced_by = [\"H53.30\"]\n"
    );
    Bundle::read(&shipped)
        .unwrap()
        .with_file("codes/agencies.toml", codes + &merger)
}

fn dossier<'a>(subject: &'a str, name: &str, solver: &str) -> Record<'a> {
    Record {
        dataset: "ho_so_tthc",
        id: None,
        subject,
        op: Op::Upsert,
        data: json!({
            "ma_ho_so": subject, "co_quan_giai_quyet": solver, "trang_thai_chuan": "DANG_XU_LY",
            "nguoi_nop": {"ho_ten": name, "so_dinh_danh": "072096001234", "dien_thoai": "0912000111"}
        }),
        original: None,
    }
}

fn letter<'a>(id: &'a str, to: &[&str]) -> Record<'a> {
    let to: Vec<Value> = to.iter().map(|code| json!({ "ma": code })).collect();
    Record {
        dataset: "van_ban_dien_tu",
        id: Some(id),
        subject: id,
        op: Op::Upsert,
        data: json!({"loai_ban_ghi": "van_ban", "ma_van_ban": id, "tu": {"ma": "H53.11"}, "den": to}),
        original: Some("PD94bWwgdmVyc2lvbj0iMS4wIj8+PGE+xJE8L2E+"),
    }
}

fn now(mono_ms: u64) -> Now {
    Now {
        mono_ms,
        wall: UnixMs(START_MS + mono_ms as i64),
        quality: ClockQuality::Synchronized,
    }
}

fn right(rows: Rows) -> Right {
    Right {
        fields: Some(vec!["/ma_ho_so".to_owned(), "/nguoi_nop".to_owned()]),
        masked: vec!["/nguoi_nop/so_dinh_danh".to_owned()],
        rows,
        sensitive: false,
    }
}

fn of(codes: &[&str]) -> Rows {
    Rows::Of(codes.iter().map(|code| code.parse().unwrap()).collect())
}

const OFFICES: [(&str, &str); 3] = [("xa-a", "H53.11"), ("xa-b", "H53.12"), ("so-c", "H53.30")];

#[test]
fn a_copy_is_loaded_follows_changes_and_ends_with_its_right() {
    let mut rig = Rig::new(&OFFICES);
    for n in 0..1_200 {
        let subject = format!("S-{n}");
        rig.keep(0, dossier(&subject, &format!("Nguyễn Văn Đ{n}"), "H53.11"));
    }
    rig.keep(0, dossier("S-x", "Lê Dấuvết", "H53.12"));
    rig.set_online(0, true);
    rig.set_online(2, true);
    rig.settle();
    rig.grant("H53.30", "ho_so_tthc", &right(Rows::All));
    rig.grant("H53.12", "ho_so_tthc", &right(of(&["H53.12"])));
    rig.settle();
    let found = rig.copies(2, "nguyen van d7").unwrap();
    assert!(
        found.len() >= 2,
        "d7, d70 to d79, and so on: {}",
        found.len()
    );
    assert_eq!(rig.copies(2, "nguyen").unwrap().len(), 1000);
    let seen = &rig.copies(2, "le dauvet").unwrap()[0];
    assert_eq!(
        *seen,
        json!({"ma_ho_so": "S-x", "nguoi_nop": {"ho_ten": "Lê Dấuvết", "so_dinh_danh": "****1234", "dien_thoai": "0912000111"}})
    );
    assert!(
        rig.files_with(2, "072096001234").is_empty(),
        "what is masked is not there at all"
    );
    assert!(
        rig.files_with(2, "DANG_XU_LY").is_empty(),
        "nor what is not granted"
    );

    // A change and a deletion follow; the box that was away gets its own area when it comes.
    rig.keep(0, dossier("S-1", "Trần Thị Mới", "H53.11"));
    rig.keep(
        0,
        Record {
            op: Op::Delete,
            ..dossier("S-2", "Nguyễn Văn Đ2", "H53.11")
        },
    );
    rig.settle();
    assert_eq!(rig.copies(2, "tran thi moi").unwrap().len(), 1);
    assert!(
        rig.copies(2, "\"Nguyễn Văn Đ2\"")
            .unwrap()
            .iter()
            .all(|data| data["ma_ho_so"] != "S-2")
    );
    rig.set_online(1, true);
    rig.settle();
    assert_eq!(rig.copies(1, "le dauvet").unwrap().len(), 1);
    assert!(
        rig.copies(1, "nguyen").unwrap().is_empty(),
        "others' records do not come"
    );

    // It leaves the area: the copy goes.
    rig.keep(0, dossier("S-x", "Lê Dấuvết", "H53.11"));
    rig.settle();
    assert!(rig.copies(1, "le dauvet").unwrap().is_empty());
    assert!(
        rig.files_with(1, "Dấuvết").is_empty(),
        "{:?}",
        rig.files_with(1, "Dấuvết")
    );

    // The right ends while the box is away.
    rig.set_online(2, false);
    let (agency, dataset) = ("H53.30".parse().unwrap(), "ho_so_tthc".parse().unwrap());
    assert!(rig.registry().drop_right(&agency, &dataset).unwrap());
    rig.keep(0, dossier("S-3", "Phạm Saukhi", "H53.11"));
    rig.settle();
    assert!(rig.copies(2, "nguyen").is_some(), "it has not heard of it");
    rig.set_online(2, true);
    rig.settle();
    assert_eq!(rig.copies(2, "nguyen"), None);
    assert!(
        rig.files_with(2, "Dấuvết").is_empty(),
        "{:?}",
        rig.files_with(2, "Dấuvết")
    );
    assert!(
        rig.files_with(2, "Saukhi").is_empty(),
        "what came after the right is not there"
    );
}

#[test]
fn a_record_of_the_largest_size_is_copied_and_what_outgrows_a_message_takes_the_older_copy_away() {
    let mut rig = Rig::new(&OFFICES);
    rig.set_online(0, true);
    rig.set_online(2, true);
    let masked = vec!["/dong/*".to_owned()];
    let whole = Right {
        fields: None,
        masked,
        ..right(Rows::All)
    };
    rig.grant("H53.30", "ho_so_tthc", &whole);
    let with = |field: &str, value: Value| {
        let mut record = dossier("S-to", "Bùi Văn Lớn", "H53.11");
        record.data[field] = value;
        record
    };
    rig.keep(0, with("ghi_chu", json!("ngắn")));
    rig.settle();
    assert_eq!(rig.copies(2, "bui van lon").unwrap()[0]["ghi_chu"], "ngắn");

    let long = "a".repeat(ENTRY_BYTES_MAX - 560);
    rig.keep(0, with("ghi_chu", json!(long)));
    rig.settle();
    assert_eq!(rig.copies(2, "bui van lon").unwrap()[0]["ghi_chu"], *long);

    // Each masked letter becomes four signs.
    rig.keep(0, with("dong", json!(vec!["a"; 20_000])));
    rig.settle();
    assert!(rig.copies(2, "bui van lon").unwrap().is_empty());
    rig.keep(0, with("dong", json!(["a"])));
    rig.settle();
    assert_eq!(rig.copies(2, "bui van lon").unwrap()[0]["dong"][0], "****");
}

#[test]
fn a_narrower_right_takes_back_what_it_no_longer_shows() {
    let mut rig = Rig::new(&OFFICES);
    rig.keep(0, dossier("S-1", "Nguyễn Văn Mẫu", "H53.11"));
    rig.set_online(0, true);
    rig.set_online(2, true);
    rig.grant("H53.30", "ho_so_tthc", &right(Rows::All));
    rig.settle();
    assert!(!rig.files_with(2, "0912000111").is_empty());
    let narrow = Right {
        fields: Some(vec!["/nguoi_nop/ho_ten".to_owned()]),
        masked: Vec::new(),
        ..right(Rows::All)
    };
    rig.grant("H53.30", "ho_so_tthc", &narrow);
    rig.settle();
    let found = rig.copies(2, "nguyen van mau").unwrap();
    assert_eq!(found, [json!({"nguoi_nop": {"ho_ten": "Nguyễn Văn Mẫu"}})]);
    assert!(rig.files_with(2, "0912000111").is_empty());
    assert!(
        rig.files_with(2, "S-1").is_empty(),
        "the key is made of a field that is not granted"
    );
}

#[test]
fn a_document_waits_for_its_office_and_its_statuses_come_back() {
    let mut rig = Rig::new(&OFFICES);
    rig.set_online(0, true);
    rig.set_online(2, true);
    rig.keep(
        0,
        letter("VB-1", &["000.00.12.H53", "H53.30", "H53.77", "H53.11"]),
    );
    rig.settle();
    assert!(rig.documents(1).is_empty() && rig.documents(0).is_empty());
    assert_eq!(rig.documents(2).len(), 1);
    // Two weeks later.
    rig.now_ms += 14 * 86_400_000;
    rig.set_online(1, true);
    rig.settle();
    let found = rig.documents(1);
    assert_eq!(
        (found.len(), found[0].recipient.as_str()),
        (1, "000.00.12.H53")
    );
    assert_eq!(
        rig.inbox(1).original(found[0].document).unwrap().as_deref(),
        Some("PD94bWwgdmVyc2lvbj0iMS4wIj8+PGE+xJE8L2E+"),
        "the original is as it was"
    );
    // What the recipients say goes back to the sender, each once, whatever the order.
    for code in ["06", "01", "06"] {
        let said = json!({"tai_lieu": "VB-1", "tu": {"ma": "H53.11"}, "den": {"ma": "H53.12"},
            "trang_thai": code, "thoi_diem": "2026-11-20T02:15:00+07:00"});
        rig.keep(
            1,
            Record {
                dataset: "trang_thai_giao_nhan",
                id: None,
                subject: code,
                op: Op::Upsert,
                data: said,
                original: None,
            },
        );
    }
    rig.settle();
    let statuses = rig
        .inbox(0)
        .statuses(&"H53.11".parse().unwrap(), &"VB-1".parse().unwrap())
        .unwrap();
    let codes: Vec<&str> = statuses.iter().map(|row| row.code.as_str()).collect();
    assert_eq!(codes, ["06", "01"]);
    assert_eq!(statuses[0].by.as_ref().unwrap().as_str(), "H53.12");
    // An office without a box waits at the hub, and is served when it has one.
    let waiting = rig.registry().undelivered(0, 10).unwrap();
    assert_eq!(
        (waiting.len(), waiting[0].recipient.as_str()),
        (1, "H53.77")
    );
    rig.registry()
        .move_box(
            &"so-c".parse().unwrap(),
            &"H53.77".parse().unwrap(),
            UnixMs(0),
        )
        .unwrap();
    rig.settle();
    assert!(rig.registry().undelivered(0, 10).unwrap().is_empty());
    assert_eq!(
        rig.documents(2).len(),
        1,
        "the same document of the same sender is one"
    );
}

#[test]
fn documents_for_a_box_that_is_away_too_long_wait_and_none_is_dropped() {
    let mut rig = Rig::new(&OFFICES);
    rig.hub.set_down_space(DownSpace {
        lane_bytes_max: [128 << 10; 5],
        ..DownSpace::FIELD
    });
    rig.set_online(0, true);
    let texts: Vec<String> = (0..40_u8).map(incompressible).collect();
    for (n, text) in texts.iter().enumerate() {
        let id = format!("VB-{n}");
        let letter = letter(&id, &["H53.12"]);
        let original = Some(text.as_str());
        rig.keep(0, Record { original, ..letter });
        rig.settle();
    }
    let waiting = rig.registry().undelivered(0, 100).unwrap();
    assert!(!waiting.is_empty() && waiting.iter().all(|row| row.reason == "no_room"));
    rig.set_online(1, true);
    rig.settle();
    assert!(rig.registry().undelivered(0, 100).unwrap().is_empty());
    assert_eq!(rig.documents(1).len(), texts.len());
}

/// Some 12 KB of text that does not shrink.
fn incompressible(seed: u8) -> String {
    let hash = |n: u32| {
        let bytes = [&[seed][..], &n.to_le_bytes()].concat();
        sha256(&bytes)
    };
    let digests = (0..200).flat_map(hash);
    digests.map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_merger_passes_rights_and_documents_on() {
    let mut rig = Rig::with(merged("2026-11-23").catalogue().unwrap(), &OFFICES);
    rig.set_online(0, true);
    rig.grant("H53.12", "ho_so_tthc", &right(of(&["H53.12"])));
    rig.keep(0, dossier("S-1", "Nguyễn Văn Mẫu", "H53.12"));
    rig.keep(0, letter("VB-1", &["H53.12"]));
    rig.settle();
    rig.set_online(2, true);
    rig.settle();
    assert_eq!(rig.copies(2, "mau"), None, "not yet");
    // The merger takes effect while the new office is away.
    rig.set_online(2, false);
    rig.now_ms += 3 * 86_400_000;
    rig.keep(0, letter("VB-2", &["H53.12"]));
    rig.keep(0, dossier("S-2", "Trần Thị Mẫu", "H53.30"));
    rig.settle();
    rig.set_online(2, true);
    rig.settle();
    assert_eq!(
        rig.copies(2, "mau").unwrap().len(),
        2,
        "the old office's and its own"
    );
    let ids: Vec<String> = rig
        .documents(2)
        .iter()
        .map(|row| row.id.to_string())
        .collect();
    assert_eq!(ids, ["VB-2"]);
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(by, code): &(&str, &str)| ((*by).to_owned(), (*code).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn only_an_office_that_was_addressed_says_what_became_of_a_document() {
    let mut rig = Rig::with(merged("2026-11-25").catalogue().unwrap(), &OFFICES);
    for station in 0..3 {
        rig.set_online(station, true);
    }
    rig.keep(0, letter("VB-1", &["000.00.12.H53"]));
    rig.settle();
    rig.keep(2, said("VB-1", "H53.30", "06"));
    rig.keep(2, packet("VB-1", "H53.12", "03"));
    rig.keep(1, said("VB-1", "H53.12", "03"));
    rig.keep(1, said("VB-khac", "H53.12", "06"));
    rig.settle();
    assert_eq!(rig.heard("VB-1"), pairs(&[("H53.12", "03")]));
    // It is data all the same, and noted with its reason.
    let reasons: Vec<String> = rig
        .registry()
        .undelivered(0, 10)
        .unwrap()
        .into_iter()
        .map(|row| row.reason)
        .collect();
    assert_eq!(reasons, ["not_addressed"; 3]);
    let held = |rig: &Rig| rig.status().totals.entries;
    assert_eq!(held(&rig), 5);

    // The sender speaks to those that it has written to, and to nobody else.
    rig.keep(0, said("VB-1", "H53.30", "13"));
    rig.settle();
    let of_letter = |rig: &Rig, station: usize| {
        let (sender, id) = ("H53.11".parse().unwrap(), "VB-1".parse().unwrap());
        rig.inbox(station).statuses(&sender, &id).unwrap()
    };
    assert!(of_letter(&rig, 2).is_empty());
    rig.keep(0, said("VB-1", "H53.12", "13"));
    rig.settle();
    assert!(of_letter(&rig, 1).iter().any(|row| row.code == "13"));

    // From the merger on the successor answers for it, and what it said before is heard.
    rig.now_ms += 5 * 86_400_000;
    rig.settle();
    rig.keep(2, said("VB-1", "H53.12", "15"));
    rig.settle();
    assert_eq!(
        rig.heard("VB-1"),
        pairs(&[
            ("H53.12", "03"),
            ("H53.30", "03"),
            ("H53.30", "06"),
            ("H53.30", "15")
        ])
    );
}

#[test]
fn the_packet_of_an_edxml_system_goes_to_the_sender_of_the_document() {
    let mut rig = Rig::new(&OFFICES);
    for station in 0..3 {
        rig.set_online(station, true);
    }
    // A record without an id of its own is named by its digest.
    rig.keep(
        0,
        Record {
            id: None,
            ..letter("VB-1", &["H53.12", "H53.30"])
        },
    );
    rig.settle();
    let id = rig.documents(1)[0].id.to_string();
    for code in ["06", "03", "06"] {
        rig.keep(1, packet("VB-1", "H53.12", code));
    }
    rig.keep(2, packet("VB-1", "H53.30", "02"));
    rig.settle();
    assert_eq!(
        rig.heard(&id),
        pairs(&[("H53.12", "03"), ("H53.12", "06"), ("H53.30", "02")])
    );
    assert!(rig.documents(0).is_empty(), "a packet is no document");
}

#[test]
fn a_published_catalogue_holds_at_the_hub_from_its_midnight_on() {
    let mut rig = Rig::new(&OFFICES);
    let wall = |rig: &Rig| now(rig.now_ms).wall;
    for station in 0..3 {
        rig.set_online(station, true);
    }
    rig.grant("H53.12", "ho_so_tthc", &right(of(&["H53.12"])));
    rig.keep(0, dossier("S-1", "Nguyễn Văn Mẫu", "H53.12"));
    let tomorrow = day_of(UnixMs(wall(&rig).0 + 86_400_000));
    rig.publish(7, &tomorrow, &merged("2026-01-31"));
    rig.keep(0, letter("VB-1", &["H53.12"]));
    rig.settle();
    assert!(rig.documents(2).is_empty() && rig.copies(2, "mau").is_none());
    assert!(!rig.hub.is_new_day(wall(&rig)));

    // A second before midnight nothing has changed; then nothing but the time passes.
    let begins = midnight(&tomorrow).unwrap().0;
    rig.now_ms = (begins - START_MS - 5_000) as u64;
    rig.keep(0, letter("VB-2", &["H53.12"]));
    rig.settle();
    assert!(wall(&rig).0 < begins, "the test is too slow for its clock");
    assert!(rig.documents(2).is_empty());
    rig.now_ms = (begins - START_MS) as u64;
    assert!(rig.hub.is_new_day(wall(&rig)));
    rig.settle();
    assert_eq!(rig.copies(2, "mau").map(|found| found.len()), Some(1));
    rig.keep(0, letter("VB-3", &["H53.12"]));
    rig.settle();
    let ids = |rig: &Rig| -> Vec<String> {
        let rows = rig.documents(2);
        rows.iter().map(|row| row.id.to_string()).collect()
    };
    assert_eq!(ids(&rig), ["VB-3"]);

    // A clock that is set back takes nothing back.
    rig.now_ms -= 3_600_000;
    rig.keep(0, letter("VB-4", &["H53.12"]));
    rig.settle();
    assert_eq!(ids(&rig), ["VB-3", "VB-4"]);
}

#[test]
fn the_hub_tells_what_waits_for_whom() {
    let mut rig = Rig::new(&OFFICES);
    rig.set_online(0, true);
    rig.keep(0, dossier("S-1", "Nguyễn Văn Mẫu", "H53.12"));
    rig.keep(0, letter("VB-1", &["H53.12", "H53.77"]));
    rig.settle();
    rig.grant("H53.12", "ho_so_tthc", &right(Rows::All));
    rig.settle();
    rig.now_ms += 3_600_000;
    let told = rig.status();
    let of_box = |name: &str| {
        let known = told
            .boxes
            .iter()
            .find(|known| known.box_id.as_str() == name);
        known.unwrap()
    };
    let waiting = of_box("xa-b").down.as_ref().unwrap();
    let lanes: Vec<(Lane, u64, bool)> = waiting
        .lanes
        .iter()
        .map(|lane| (lane.lane, lane.waiting, 3_600 <= lane.oldest_s))
        .collect();
    assert_eq!(lanes[0], (Lane::P1, 1, true), "the letter");
    assert!(
        lanes.iter().any(|lane| lane.0 == Lane::P4),
        "the load: {lanes:?}"
    );
    let load = &of_box("xa-b").loads[0];
    assert_eq!((load.dataset.as_str(), load.subjects), ("ho_so_tthc", 1));
    let undelivered = &of_box("xa-a").undelivered;
    assert_eq!(undelivered.len(), 1);
    assert_eq!(
        (undelivered[0].reason.as_str(), undelivered[0].count),
        ("no_box", 1)
    );
    assert!(3_600 <= undelivered[0].oldest_s);
    assert_eq!(told.totals.undelivered, 1);
    let text = told.to_text();
    for part in [
        "↓ xa-b P1: 1 mục chờ gửi xuống",
        "1 văn bản chưa đến nơi nhận",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }

    rig.set_online(1, true);
    rig.settle();
    let told = rig.status();
    let known = told
        .boxes
        .iter()
        .find(|known| known.box_id.as_str() == "xa-b");
    assert_eq!(known.unwrap().down.as_ref().unwrap().waiting, 0);
    assert!(known.unwrap().loads[0].done);
}
