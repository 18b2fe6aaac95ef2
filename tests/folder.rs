//! The drop folder with real files, a real engine and a real store.
#![cfg(feature = "edge")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use lienthong::catalogue::Catalogue;
use lienthong::edge::blobs::{BlobContent, Blobs};
use lienthong::edge::config::table::{Constant, Filled, NamedFile, TableConfig};
use lienthong::edge::config::{
    Config, FileFormat, FolderConfig, HttpConfig, HubConfig, StoreConfig,
};
use lienthong::edge::door::Door;
use lienthong::edge::folder::{FolderSource, watch};
use lienthong::edge::intake::{Input, Intake, Reply, channel};
use lienthong::engine::sending::{self, EdgeEngine, Effect, Event, Space};
use lienthong::evidence::SigningKey;
use lienthong::formats::station::mapping::StationMapping;
use lienthong::model::{ClockQuality, Epoch, Lane, Seq, UnixMs};
use lienthong::pack::{Pack, Unpacker};
use lienthong::shell::clock::Clock;
use lienthong::shell::scan::{Scanner, ScannerKind};
use lienthong::store::edge::EdgeStore;
use lienthong::store::edge_status::EdgeView;
use lienthong::store::log::LogStore;
use lienthong::store::{Options, StoreError};
use lienthong::sync::Limits;

const OPTIONS: Options = Options {
    quota_bytes: 256 << 20,
    cache_bytes: 1 << 20,
};
const DEADLINE: Duration = Duration::from_secs(30);

/// A box with a drop folder: engine thread and watcher, both real.
struct Bed {
    place: tempfile::TempDir,
    key: Vec<u8>,
    clock: Clock,
    /// The lanes have room only while this is true.
    room: Arc<AtomicBool>,
    /// Steps that took records.
    commits: Arc<AtomicUsize>,
    folder: FolderConfig,
    dataset: &'static str,
    inotify: bool,
    blobs_bytes_max: u64,
    scanner: Option<Scanner>,
}

/// The running half of a bed.
struct Running {
    stop: tokio::sync::watch::Sender<bool>,
    watcher: tokio::task::JoinHandle<()>,
    intake: Intake,
    engine: std::thread::JoinHandle<()>,
    queue_end: tokio::sync::mpsc::Sender<()>,
}

impl Bed {
    fn new() -> Bed {
        let place = tempfile::tempdir().unwrap();
        let drop_folder = place.path().join("nhan");
        fs::create_dir(&drop_folder).unwrap();
        Bed {
            place,
            key: SigningKey::generate(),
            clock: Clock::start(UnixMs(0)),
            room: Arc::new(AtomicBool::new(true)),
            commits: Arc::default(),
            folder: FolderConfig {
                path: drop_folder,
                format: None,
                patterns: Vec::new(),
                recursive: false,
                settle_ms: 100,
                rescan_ms: 200,
                done_keep_ms: 0,
                station: StationMapping::default(),
                table: TableConfig::default(),
            },
            dataset: "quan_trac_moi_truong",
            inotify: true,
            blobs_bytes_max: 64 << 20,
            scanner: None,
        }
    }

    fn path(&self) -> &Path {
        &self.folder.path
    }

    fn drop_file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path().join(name), content).unwrap();
    }

    fn store(&self) -> PathBuf {
        self.place.path().join("box.db")
    }

    fn start(&self) -> Running {
        let (intake, mut queue) = channel();
        let key = self.key.clone();
        let (store, room, commits) = (
            self.store(),
            Arc::clone(&self.room),
            Arc::clone(&self.commits),
        );
        let clock = self.clock.clone();
        let (opened, is_open) = std::sync::mpsc::sync_channel(1);
        let (queue_end, mut ended) = tokio::sync::mpsc::channel::<()>(1);
        let engine = std::thread::spawn(move || {
            let mut had_room = room.load(Ordering::SeqCst);
            let mut engine = open_engine(&store, &key, had_room);
            opened.send(()).unwrap();
            loop {
                let Ok(first) = queue.try_recv() else {
                    if ended.try_recv() == Err(tokio::sync::mpsc::error::TryRecvError::Disconnected)
                    {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                if had_room != room.load(Ordering::SeqCst) {
                    had_room = !had_room;
                    drop(engine);
                    engine = open_engine(&store, &key, had_room);
                }
                let mut inputs = vec![first];
                while let Ok(input) = queue.try_recv() {
                    inputs.push(input);
                }
                let mut events = Vec::new();
                let mut permits = Vec::new();
                for input in inputs {
                    match input {
                        Input::Event(event) => events.push(event),
                        Input::Submit(submission, permit) => {
                            permits.push(permit);
                            events.push(Event::Submit(submission));
                        }
                        _ => {}
                    }
                }
                if !permits.is_empty() {
                    commits.fetch_add(1, Ordering::SeqCst);
                }
                for effect in engine.step(clock.now(), events).unwrap() {
                    if let Effect::Answer { reply, answer } = effect {
                        let _ = reply.send(Ok(answer));
                    }
                }
                engine.finish().unwrap();
            }
        });
        is_open.recv().unwrap();
        let config = self.config();
        let catalogue = Catalogue::load(&config.catalogue).unwrap();
        let door = Door::new(&config, catalogue, intake.clone(), self.clock.clone());
        let source = FolderSource {
            name: "thu-muc".parse().unwrap(),
            dataset: self.dataset.parse().unwrap(),
            folder: self.folder.clone(),
            inotify: self.inotify,
        };
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let watcher = tokio::spawn(watch(source, Arc::new(door), self.clock.clone(), stopped));
        Running {
            stop,
            watcher,
            intake,
            engine,
            queue_end,
        }
    }

    fn config(&self) -> Config {
        Config {
            file: PathBuf::new(),
            box_id: "xa-tan-bien".parse().unwrap(),
            agency: "H53.12".parse().unwrap(),
            store: StoreConfig {
                path: self.store(),
                quota_bytes: OPTIONS.quota_bytes,
                tail_keep_ms: 0,
                tail_bytes: 0,
                reserve_bytes: 0,
                once_keys: 10_000,
                blobs_bytes_max: self.blobs_bytes_max,
                blob_bytes_max: 1 << 30,
                blob_types: Vec::new(),
                received_bytes_max: 64 << 20,
                received_keep_ms: 86_400_000,
                scanner: self.scanner.clone(),
                card_rated_bytes: 1 << 40,
            },
            hub: HubConfig {
                addresses: Vec::new(),
                authority: PathBuf::new(),
                certificate: PathBuf::new(),
                key: PathBuf::new(),
                receipt_keys: Vec::new(),
                seal_key: PathBuf::new(),
                allow_tls12: false,
                keep_alive_ms: 30_000,
                bandwidth: lienthong::model::order::Timetable::default(),
            },
            http: HttpConfig {
                listen: "127.0.0.1:0".parse().unwrap(),
                tls: None,
                name: "tram".to_owned(),
                mdns: false,
                tokens: Vec::new(),
                body_bytes_max: 1 << 20,
                connections_max: 8,
                per_address_max: 8,
            },
            catalogue: Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue"),
            sources: Vec::new(),
            inboxes: Vec::new(),
            backup: None,
            stick_folder: None,
            alarm_dataset: "an_toan_thiet_bi".parse().unwrap(),
            log_level: "info".to_owned(),
        }
    }

    /// Entries in the store, over all lanes.
    fn stored(&self) -> u64 {
        let view = EdgeView::open(&self.store()).unwrap();
        Lane::ALL
            .into_iter()
            .map(|lane| view.lane(lane).unwrap().newest.0)
            .sum()
    }

    fn entries(&self) -> Vec<serde_json::Value> {
        let box_id = "xa-tan-bien".parse().unwrap();
        let store = EdgeStore::open(&self.store(), OPTIONS, &box_id, Epoch(9)).unwrap();
        let mut entries = Vec::new();
        let (mut unpacker, mut pack) = (Unpacker::default(), Pack::default());
        for lane in Lane::ALL {
            store
                .read(lane, Seq(1), |block| {
                    let (count, raw_bytes) = (block.entries as usize, block.raw_bytes as usize);
                    unpacker
                        .unpack(block.body, count, raw_bytes, &mut pack)
                        .unwrap();
                    entries.extend(
                        pack.iter()
                            .map(|entry| serde_json::from_slice(entry).unwrap()),
                    );
                    Ok::<_, StoreError>(true)
                })
                .unwrap();
        }
        entries
    }

    /// Files below a sub-folder, without the reasons.
    fn files_in(&self, sub: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut folders = vec![self.path().join(sub)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    names.push(entry.file_name().into_string().unwrap());
                }
            }
        }
        names.retain(|name| !name.ends_with(".reason.txt"));
        names.sort();
        names
    }

    fn reason(&self, name: &str) -> String {
        fs::read_to_string(
            self.path()
                .join("refused")
                .join(format!("{name}.reason.txt")),
        )
        .unwrap()
    }
}

impl Running {
    async fn stop(self) {
        self.stop.send(true).unwrap();
        self.watcher.await.unwrap();
        drop((self.intake, self.queue_end));
        tokio::task::spawn_blocking(|| self.engine.join().unwrap())
            .await
            .unwrap();
    }
}

fn open_engine(store: &Path, key: &[u8], has_room: bool) -> EdgeEngine<Reply> {
    let mut epochs = 40;
    EdgeEngine::open(sending::Config {
        store: store.to_owned(),
        options: OPTIONS,
        box_id: "xa-tan-bien".parse().unwrap(),
        key: SigningKey::from_pkcs8(key).unwrap().into(),
        hub_keys: Vec::new(),
        limits: Limits::FIELD,
        space: Space {
            lane_bytes_max: [if has_room { 64 << 20 } else { 10 }; 5],
            tail_ms: 0,
            tail_bytes: 0,
            once_keys: 10_000,
            blob_bytes_max: 64 << 20,
        },
        content: Box::new(BlobContent(Arc::new(Blobs::beside(store, 64 << 20)))),
        mint: Box::new(move || {
            epochs += 1;
            Epoch(epochs)
        }),
    })
    .unwrap()
}

fn record(number: usize) -> String {
    let (minute, second) = (number / 60 % 60, number % 60);
    let hour = number / 3_600;
    format!(
        r#"{{ "tram": "NUO001", "co_so": "KCNA", "thoi_diem": "2026-11-20T{hour:02}:{minute:02}:{second:02}+07:00", "gia_tri": [{{"k": "COD", "v": 12.50, "u": "mg/L", "s": "00"}}] }}"#
    )
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(DEADLINE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

const STATION_NAME: &str = "HN_KCNA_NUO001_20261120080500.txt";
const STATION: &[u8] =
    b"pH\t7.20\t-\t20261120080500\t00\r\nCOD\t12.5\tmg/L\t20261120080500\t00\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_file_is_taken_only_when_it_has_settled() {
    let mut bed = Bed::new();
    bed.folder.settle_ms = 600;
    let running = bed.start();
    // Every prefix is a file of whole records, which would be taken if it were read too early.
    let mut content = String::new();
    for number in 0..8 {
        content.push_str(&record(number));
        content.push('\n');
        bed.drop_file("a.ndjson", &content);
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(bed.path().join("a.ndjson").exists());
        assert_eq!(bed.stored(), 0, "taken while it grew");
    }
    eventually("taken", || bed.files_in("done") == ["a.ndjson"]).await;
    running.stop().await;
    assert_eq!(bed.stored(), 8);
    let entries = bed.entries();
    assert_eq!(entries[0]["data"]["gia_tri"][0]["k"], "COD");
    assert_eq!(entries[0]["source"], "thu-muc");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_commit_and_move_takes_nothing_twice() {
    let bed = Bed::new();
    bed.drop_file("a.json", record(1));
    let running = bed.start();
    eventually("taken", || bed.files_in("done") == ["a.json"]).await;
    running.stop().await;
    assert_eq!(bed.stored(), 1);
    // As after a crash: committed, but the file is still there.
    let day = fs::read_dir(bed.path().join("done")).unwrap().next();
    let done = day.unwrap().unwrap().path().join("a.json");
    fs::rename(done, bed.path().join("a.json")).unwrap();
    let running = bed.start();
    eventually("moved again", || bed.files_in("done") == ["a.json"]).await;
    // Another content under the same name is something new, and overwrites nothing.
    bed.drop_file("a.json", record(2));
    eventually("the new one", || {
        bed.files_in("done") == ["a.1.json", "a.json"]
    })
    .await;
    running.stop().await;
    assert_eq!(bed.stored(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_fault_has_its_reason() {
    let bed = Bed::new();
    bed.drop_file("cut.json", r#"{"tram": "NUO001", "#);
    bed.drop_file(
        "fields.ndjson",
        format!("{}\n{{\"tram\": \"NUO001\"}}\n", record(1)),
    );
    bed.drop_file("what.pdf", "a;b");
    bed.drop_file("KHONGHOPLE.txt", "pH 7\r\n");
    bed.drop_file("TRAM01_20261120080500.txt", STATION);
    bed.drop_file("big.json", vec![b' '; 9 << 20]);
    bed.drop_file("id.json", format!("{}{}", r#"{"id": 5,"#, &record(1)[1..]));
    let first = format!("{}{}", r#"{"id": "m1","#, &record(1)[1..]);
    let other = format!("{}{}", r#"{"id": "m1","#, &record(2)[1..]);
    bed.drop_file("first.json", first);
    let running = bed.start();
    eventually("all refused", || {
        bed.files_in("refused").len() == 7 && bed.files_in("done").len() == 1
    })
    .await;
    bed.drop_file("other.json", other);
    eventually("the repeat", || bed.files_in("refused").len() == 8).await;
    running.stop().await;
    assert_eq!(bed.stored(), 1, "a file is taken whole or not at all");
    for (name, parts) in [
        ("cut.json", &["dòng 1, cột", "line 1, column"][..]),
        (
            "fields.ndjson",
            &["bản ghi 2 (dòng 2), trường /co_so", "field /gia_tri"],
        ),
        ("what.pdf", &["phần mở rộng", ".ndjson"]),
        ("KHONGHOPLE.txt", &["dòng 1, cột"]),
        ("TRAM01_20261120080500.txt", &["trường /co_so"]),
        ("big.json", &["9437184 byte", "Chia thành nhiều tệp"]),
        ("id.json", &["trường /id"]),
        ("other.json", &["mã này đã dùng", "mã (id) mới"]),
    ] {
        let reason = bed.reason(name);
        for part in parts {
            assert!(reason.contains(part), "{name}: {part} in {reason}");
        }
        let (vietnamese, english) = reason.split_once("--- English ---").unwrap();
        assert!(vietnamese.contains("Cách xử lý: "), "{reason}");
        assert!(english.contains("What to do: "), "{reason}");
    }
    let view = EdgeView::open(&bed.store()).unwrap();
    let sources = view.sources().unwrap();
    assert_eq!(sources[0].tally.accepted, 1);
    assert!(sources[0].tally.refused >= 8, "{sources:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_files_name_says_what_its_records_do() {
    let bed = Bed::new();
    bed.drop_file("1.json", record(1));
    bed.drop_file("2.Delete.json", record(1));
    bed.drop_file("3.snapshot.ndjson", record(2));
    bed.drop_file("4.deleted.json", record(3));
    let running = bed.start();
    eventually("all are taken", || bed.files_in("done").len() == 4).await;
    running.stop().await;
    let ops: Vec<_> = bed
        .entries()
        .iter()
        .map(|entry| entry["op"].as_str().unwrap_or("upsert").to_owned())
        .collect();
    assert_eq!(bed.stored(), 4);
    for (op, times) in [("upsert", 2), ("delete", 1), ("snapshot", 1)] {
        let found = ops.iter().filter(|found| *found == op).count();
        assert_eq!(found, times, "{op} in {ops:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_secret_is_refused_and_raises_the_alarm() {
    let mut bed = Bed::new();
    bed.dataset = "van_ban_dien_tu";
    bed.drop_file(
        "mat.json",
        r#"{"do_mat": "mat", "trich_yeu": "NOI-DUNG-MAT"}"#,
    );
    let running = bed.start();
    eventually("refused", || bed.files_in("refused") == ["mat.json"]).await;
    running.stop().await;
    let reason = bed.reason("mat.json");
    assert!(
        reason.contains("bí mật nhà nước") && reason.contains("/do_mat"),
        "{reason}"
    );
    assert!(!reason.contains("NOI-DUNG-MAT"));
    let events = EdgeView::open(&bed.store()).unwrap().events(10).unwrap();
    assert!(
        events
            .iter()
            .any(|event| event.level == "alarm" && event.code == "state_secret"),
        "{events:?}"
    );
    let stored = bed.entries();
    assert!(
        stored
            .iter()
            .all(|entry| !entry.to_string().contains("NOI-DUNG-MAT"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn links_folders_and_unfinished_files_are_left_alone() {
    let bed = Bed::new();
    let outside = bed.place.path().join("outside.json");
    fs::write(&outside, record(1)).unwrap();
    std::os::unix::fs::symlink(&outside, bed.path().join("link.json")).unwrap();
    fs::create_dir(bed.path().join("folder.json")).unwrap();
    nix::unistd::mkfifo(&bed.path().join("pipe.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in [".hidden.json", "a.json.part", "b.tmp", "c.json~"] {
        bed.drop_file(name, record(2));
    }
    bed.drop_file("good.json", record(3));
    let running = bed.start();
    eventually("the good one", || bed.files_in("done") == ["good.json"]).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    running.stop().await;
    assert_eq!(bed.stored(), 1);
    assert!(outside.exists() && bed.path().join("link.json").is_symlink());
    assert!(bed.path().join("c.json~").exists());
    assert!(bed.files_in("refused").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_place_of_done_leads_nowhere() {
    let bed = Bed::new();
    let outside = bed.place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, bed.path().join("done")).unwrap();
    bed.drop_file("a.json", record(1));
    let running = bed.start();
    eventually("committed", || bed.stored() == 1).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(bed.path().join("a.json").exists());
    fs::remove_file(bed.path().join("done")).unwrap();
    eventually("moved at last", || bed.files_in("done") == ["a.json"]).await;
    running.stop().await;
    assert_eq!(bed.stored(), 1);
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_inotify_the_rescan_finds_files_and_the_folder_may_go_away() {
    let mut bed = Bed::new();
    bed.inotify = false;
    let away = bed.place.path().join("away");
    fs::rename(bed.path(), &away).unwrap();
    let running = bed.start();
    tokio::time::sleep(Duration::from_millis(300)).await;
    fs::rename(&away, bed.path()).unwrap();
    bed.drop_file("a.json", record(1));
    eventually("found", || bed.files_in("done") == ["a.json"]).await;
    running.stop().await;
    assert_eq!(bed.stored(), 1);
    let events = EdgeView::open(&bed.store()).unwrap().events(10).unwrap();
    let codes: Vec<&str> = events.iter().map(|event| event.code.as_str()).collect();
    assert_eq!(codes, ["source_works", "source_failed"], "once each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_file_is_kept_byte_for_byte() {
    let mut bed = Bed::new();
    // Two hours after the measurement at least.
    bed.clock = Clock::start(UnixMs(1_795_143_900_000));
    bed.drop_file(STATION_NAME, STATION);
    let running = bed.start();
    eventually("taken", || bed.files_in("done") == [STATION_NAME]).await;
    running.stop().await;
    let entries = bed.entries();
    let original = entries[0]["original"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(original)
        .unwrap();
    assert_eq!(bytes, STATION);
    assert_eq!(entries[0]["data"]["tram"], "NUO001");
    assert_eq!(entries[0]["data"]["lich_su"], true, "it came hours late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_file_that_comes_in_time_is_not_historical() {
    let bed = Bed::new();
    let now = bed.clock.now();
    let digits: String = now.wall.to_string()[..19]
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let name = format!("HN_KCNA_NUO001_{digits}.txt");
    bed.drop_file(&name, format!("pH\t7.20\t-\t{digits}\t00\r\n"));
    let running = bed.start();
    eventually("taken", || bed.files_in("done").len() == 1).await;
    running.stop().await;
    // Under a clock that is not believed nothing can be called new.
    let is_historical = now.quality == ClockQuality::Floor;
    assert_eq!(bed.entries()[0]["data"]["lich_su"], is_historical);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_files_come_in_few_commits_and_in_order() {
    let mut bed = Bed::new();
    bed.folder.format = Some(FileFormat::Json);
    for number in 0..1_000 {
        bed.drop_file(&format!("{number:04}.json"), record(number));
    }
    let running = bed.start();
    eventually("all taken", || bed.files_in("done").len() == 1_000).await;
    running.stop().await;
    assert_eq!(bed.stored(), 1_000);
    let commits = bed.commits.load(Ordering::SeqCst);
    assert!(commits <= 200, "{commits} commits");
    let times: Vec<String> = bed
        .entries()
        .iter()
        .map(|entry| entry["time"].to_string())
        .collect();
    assert!(times.is_sorted(), "the oldest file first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_lane_leaves_the_file_until_there_is_room() {
    let bed = Bed::new();
    bed.room.store(false, Ordering::SeqCst);
    bed.drop_file("a.json", record(1));
    let running = bed.start();
    eventually("tried", || 2 <= bed.commits.load(Ordering::SeqCst)).await;
    assert!(bed.path().join("a.json").exists());
    assert_eq!(bed.stored(), 0);
    bed.room.store(true, Ordering::SeqCst);
    eventually("taken", || bed.files_in("done") == ["a.json"]).await;
    running.stop().await;
    assert_eq!(bed.stored(), 1);
    assert!(bed.files_in("refused").is_empty());
}

/// A table of dossiers: the settings and the file of a golden case.
fn dossiers(case: &str) -> (TableConfig, Vec<u8>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = |field: &str| Constant::Text(field.to_owned());
    let column = |field: &str| -> Filled { toml::Value::from(field).try_into().unwrap() };
    let mut table = TableConfig::default();
    for (heading, field) in [
        ("Số hồ sơ", "ma_ho_so"),
        ("Mã thủ tục", "ma_tthc"),
        ("Họ tên", "nguoi_nop.ho_ten"),
        ("Ngày nhận", "ngay_tiep_nhan"),
        ("Trạng thái", "trang_thai_goc"),
    ] {
        table.columns.insert(heading.to_owned(), column(field));
    }
    for (field, value) in [
        ("co_quan_tiep_nhan", "H53.12"),
        ("co_quan_giai_quyet", "H53.12"),
        ("nguoi_nop.loai", "ca_nhan"),
        ("trang_thai_chuan", "DANG_XU_LY"),
    ] {
        table.constants.insert(field.to_owned(), text(value));
    }
    (table, fs::read(root.join(case)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_taken_whole_and_what_was_found_is_told_once() {
    let mut bed = Bed::new();
    bed.dataset = "ho_so_tthc";
    let (table, csv) = dossiers("csv/tcvn3-found/input.csv");
    let (_, book) = dossiers("sheet/xlsx/input.xlsx");
    bed.folder.table = table;
    bed.drop_file("1.csv", &csv);
    bed.drop_file("2.csv", &csv);
    bed.drop_file("3.xlsx", book);
    bed.drop_file("4.csv", [&csv[..], b"3;H53\r\n"].concat());
    let running = bed.start();
    eventually("taken", || bed.files_in("done").len() == 3).await;
    eventually("refused", || bed.files_in("refused") == ["4.csv"]).await;
    running.stop().await;
    assert_eq!(bed.stored(), 6, "two rows of each file that is right");
    for entry in bed.entries() {
        let name = entry["data"]["nguoi_nop"]["ho_ten"].as_str().unwrap();
        assert!(
            ["Lê Thị Mận", "Trần \"Tư\" Đời", "Trần Tư Đời"].contains(&name),
            "{name}"
        );
    }
    let reason = bed.reason("4.csv");
    assert!(reason.contains("dòng 4, cột 3: dòng có 2 ô"), "{reason}");
    let events = EdgeView::open(&bed.store()).unwrap().events(20).unwrap();
    let notes: Vec<&str> = events
        .iter()
        .filter(|event| event.code == "file_notes")
        .map(|event| event.detail.as_str())
        .collect();
    assert!(
        notes
            .iter()
            .any(|note| note.contains("bảng mã tcvn3, do trạm tự nhận ra")),
        "{notes:?}"
    );
    assert!(
        notes.iter().all(|note| note.contains("STT, Lệ phí")),
        "{notes:?}"
    );
    assert_eq!(notes.len(), 2, "once for what stays the same: {notes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_names_files_beside_it_and_nothing_else() {
    let mut bed = Bed::new();
    bed.dataset = "ho_so_tthc";
    bed.folder.patterns = vec!["*.csv".to_owned()];
    bed.folder.table = dossiers("csv/tcvn3-found/input.csv").0;
    bed.folder.table.attachments = vec![NamedFile {
        column: "Tệp quét".to_owned(),
        mime: None,
        is_optional: true,
    }];
    bed.folder.table.attachment_bytes_max = 100;
    let row = |number: u32, file: &str| {
        format!("H53.12-261120-000{number},1.001193,Lê Thị Mận,20/11/2026,Mới,{file}\n")
    };
    let head = "Số hồ sơ,Mã thủ tục,Họ tên,Ngày nhận,Trạng thái,Tệp quét\n";
    let table = |rows: &[String]| head.to_owned() + &rows.concat();
    fs::create_dir(bed.path().join("quet")).unwrap();
    bed.drop_file("quet/Đơn 1.pdf", b"%PDF-mot");
    fs::write(bed.path().parent().unwrap().join("ngoai.txt"), "ngoài").unwrap();
    bed.drop_file("quet/lon.bin", [7; 101]);
    bed.drop_file("1.csv", table(&[row(1, "quet/Đơn 1.pdf"), row(2, "")]));
    bed.drop_file("2.csv", table(&[row(3, ""), row(4, "../ngoai.txt")]));
    bed.drop_file("3.csv", table(&[row(5, "quet/khong-co.pdf")]));
    bed.drop_file("4.csv", table(&[row(6, "quet\\lon.bin")]));
    let running = bed.start();
    eventually("taken", || bed.files_in("done") == ["1.csv"]).await;
    eventually("refused", || {
        bed.files_in("refused") == ["2.csv", "3.csv", "4.csv"]
    })
    .await;
    running.stop().await;
    for (file, line, why) in [
        ("2.csv", "dòng 3", "đường dẫn tương đối"),
        ("3.csv", "dòng 2", "không thấy tệp đính kèm"),
        ("4.csv", "dòng 2", "attachment_max"),
    ] {
        let reason = bed.reason(file);
        assert!(reason.contains(line) && reason.contains(why), "{reason}");
    }
    let mut entries = bed.entries();
    entries.retain(|entry| entry.get("chunk").is_none());
    assert_eq!(entries.len(), 2);
    let files: Vec<&serde_json::Value> = entries
        .iter()
        .filter_map(|entry| entry.get("attachments"))
        .collect();
    let [files] = files.as_slice() else {
        panic!("one row has a file: {files:?}");
    };
    let file = &files[0];
    assert_eq!(
        (file["name"].as_str(), file["mime"].as_str()),
        (Some("Đơn 1.pdf"), Some("application/pdf"))
    );
    let kept = Blobs::beside(&bed.store(), 100).get(file["sha256"].as_str().unwrap());
    assert_eq!(kept.unwrap().as_deref(), Some(&b"%PDF-mot"[..]));
    assert!(
        entries
            .iter()
            .all(|entry| !entry.to_string().contains("attachment:"))
    );
    assert!(
        bed.path().join("quet/Đơn 1.pdf").exists(),
        "it stays where it is"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_leaves_its_attachments_beside_the_store_before_its_record() {
    let mut bed = Bed::new();
    bed.dataset = "van_ban_dien_tu";
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/edxml");
    let small = fs::read(golden.join("document/input.edxml")).unwrap();
    // The same with an attachment that is larger than an entry may be.
    let big = vec![0x5a_u8; 300_000];
    let encoded = base64::engine::general_purpose::STANDARD.encode(&big);
    let text = String::from_utf8(small.clone()).unwrap();
    let start = text.find("<edXML:ContentTransferEncoded>").unwrap() + 30;
    let end = text.find("</edXML:ContentTransferEncoded>").unwrap();
    let large = format!("{}{encoded}{}", &text[..start], &text[end..])
        .replace("142/UBND-VP<", "143/UBND-VP<");
    bed.drop_file("1.edxml", &small);
    bed.drop_file("2.xml", &large);
    bed.drop_file(
        "3.edxml",
        fs::read(golden.join("broken-wrong-namespace/input.edxml")).unwrap(),
    );
    let running = bed.start();
    eventually("taken", || {
        bed.files_in("done").len() == 2 && bed.files_in("refused").len() == 1
    })
    .await;
    running.stop().await;
    let reason = bed.reason("3.edxml");
    assert!(reason.contains("http://www.go.vn/eDoc"), "{reason}");
    let mut entries = bed.entries();
    entries.retain(|entry| entry.get("chunk").is_none());
    assert_eq!(entries.len(), 2);
    let of = |id: &str| {
        entries
            .iter()
            .find(|entry| entry["subject"].as_str().unwrap().ends_with(id))
            .unwrap()
    };
    let first = of("142/UBND-VP");
    let original = base64::engine::general_purpose::STANDARD
        .decode(first["original"].as_str().unwrap())
        .unwrap();
    assert_eq!(original, small, "the document as it came");
    assert_eq!(first["attachments"][0]["name"], "142.pdf");
    let second = of("143/UBND-VP");
    assert!(second.get("original").is_none());
    let blob = |attachment: &serde_json::Value| {
        let digest = attachment["sha256"].as_str().unwrap();
        fs::read(
            bed.place
                .path()
                .join("blobs")
                .join(&digest[..2])
                .join(digest),
        )
        .unwrap()
    };
    assert_eq!(
        blob(&first["attachments"][0]),
        b"%PDF-1.7\n\x00\xff\xfe binary \r\n"
    );
    assert_eq!(blob(&second["attachments"][0]), big);
    assert_eq!(
        blob(&second["attachments"][1]),
        large.as_bytes(),
        "too large for the entry"
    );
    assert_eq!(second["attachments"][1]["name"], "2.xml");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_infected_document_is_refused_once_and_the_next_one_taken() {
    let mut bed = Bed::new();
    bed.dataset = "van_ban_dien_tu";
    let log = bed.place.path().join("scans");
    let script = format!("echo . >> {}; ! grep -q binary \"$1\"", log.display());
    bed.scanner = Some(Scanner {
        kind: ScannerKind::Command(["/bin/sh", "-c", &script, "scan"].map(str::to_owned).into()),
        timeout_ms: 10_000,
        accepts_unscanned: false,
    });
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/edxml");
    let sick = fs::read(golden.join("document/input.edxml")).unwrap();
    let text = String::from_utf8(sick.clone()).unwrap();
    let start = text.find("<edXML:ContentTransferEncoded>").unwrap() + 30;
    let end = text.find("</edXML:ContentTransferEncoded>").unwrap();
    let clean = base64::engine::general_purpose::STANDARD.encode(b"%PDF-1.7 sach");
    bed.drop_file("1.edxml", &sick);
    bed.drop_file(
        "2.edxml",
        format!("{}{clean}{}", &text[..start], &text[end..]),
    );
    let running = bed.start();
    eventually("both are through", || {
        bed.files_in("done") == ["2.edxml"] && bed.files_in("refused") == ["1.edxml"]
    })
    .await;
    // Some looks later it is where it was, and was scanned no second time.
    tokio::time::sleep(Duration::from_millis(800)).await;
    running.stop().await;
    let reason = bed.reason("1.edxml");
    assert!(
        reason.contains("mã độc") && reason.contains("malware"),
        "{reason}"
    );
    assert_eq!(fs::read(bed.path().join("refused/1.edxml")).unwrap(), sick);
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 2);
    assert_eq!(bed.stored(), 2, "the clean one, and its attachment's chunk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_waits_while_there_is_no_room_for_its_attachments() {
    let mut bed = Bed::new();
    bed.dataset = "van_ban_dien_tu";
    bed.blobs_bytes_max = 3;
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/edxml");
    bed.drop_file(
        "1.edxml",
        fs::read(golden.join("document/input.edxml")).unwrap(),
    );
    let running = bed.start();
    let events = || EdgeView::open(&bed.store()).unwrap().events(10).unwrap();
    eventually("told", || {
        events()
            .iter()
            .any(|event| event.code == "attachments_not_kept")
    })
    .await;
    running.stop().await;
    assert!(bed.path().join("1.edxml").exists(), "it waits");
    assert_eq!(bed.stored(), 0);
    bed.blobs_bytes_max = 1 << 20;
    let running = bed.start();
    eventually("taken", || bed.files_in("done") == ["1.edxml"]).await;
    running.stop().await;
    assert_eq!(bed.stored(), 2, "the record, and its attachment's chunk");
}

#[tokio::test(flavor = "multi_thread")]
async fn sub_folders_are_looked_through_and_keep_their_names() {
    let mut bed = Bed::new();
    bed.folder.recursive = true;
    bed.folder.patterns = vec!["*.json".to_owned(), "tram/*.txt".to_owned()];
    for folder in ["tram/2026/11", ".an", "done/2026-01-01", "refused"] {
        fs::create_dir_all(bed.path().join(folder)).unwrap();
    }
    let outside = bed.place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("x.json"), record(9)).unwrap();
    std::os::unix::fs::symlink(&outside, bed.path().join("link")).unwrap();
    bed.drop_file("a.json", record(1));
    bed.drop_file("tram/2026/11/a.json", record(2));
    bed.drop_file("tram/2026/11/b.json", "{");
    bed.drop_file(&format!("tram/2026/11/{STATION_NAME}"), STATION);
    for left in [
        ".an/c.json",
        "done/2026-01-01/old.json",
        "refused/old.json",
        "other.txt",
    ] {
        bed.drop_file(left, record(3));
    }
    let running = bed.start();
    eventually("taken", || bed.stored() == 3).await;
    let refused = bed.path().join("refused/tram/2026/11/b.json");
    eventually("refused in its place", || refused.exists()).await;
    // A file that comes into a new sub-folder later.
    fs::create_dir(bed.path().join("moi")).unwrap();
    bed.drop_file("moi/d.json", record(4));
    eventually("found", || bed.stored() == 4).await;
    eventually("moved", || !bed.path().join("moi/d.json").exists()).await;
    running.stop().await;
    let mut day = fs::read_dir(bed.path().join("done"))
        .unwrap()
        .map(|day| day.unwrap().path());
    let day = day.find(|day| !day.ends_with("2026-01-01")).unwrap();
    for file in ["a.json", "tram/2026/11/a.json", "moi/d.json"] {
        assert!(day.join(file).exists(), "{file}");
    }
    assert!(day.join("tram/2026/11").join(STATION_NAME).exists());
    assert!(
        bed.path()
            .join("refused/tram/2026/11/b.json.reason.txt")
            .exists()
    );
    for left in [
        ".an/c.json",
        "done/2026-01-01/old.json",
        "refused/old.json",
        "other.txt",
    ] {
        assert!(bed.path().join(left).exists(), "{left}");
    }
    assert!(outside.join("x.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_comes_and_goes_refuses_nothing() {
    let bed = Bed::new();
    let away = bed.place.path().join("away");
    let running = bed.start();
    let events = || EdgeView::open(&bed.store()).unwrap().events(50).unwrap();
    let told = |code: &str| events().iter().filter(|event| event.code == code).count();
    for round in 0..4 {
        bed.drop_file(&format!("{round}.json"), record(round));
        bed.drop_file(&format!("{round}.ndjson"), record(100 + round));
        // In the middle of the work, or before it.
        tokio::time::sleep(Duration::from_millis(60 * round as u64)).await;
        fs::rename(bed.path(), &away).unwrap();
        eventually("the folder is missed", || {
            told("source_failed") == round + 1
        })
        .await;
        fs::rename(&away, bed.path()).unwrap();
        eventually("it works again", || told("source_works") == round + 1).await;
    }
    eventually("all are taken", || bed.files_in("done").len() == 8).await;
    running.stop().await;
    assert_eq!(bed.stored(), 8, "once each");
    assert!(bed.files_in("refused").is_empty());
    let sources = EdgeView::open(&bed.store()).unwrap().sources().unwrap();
    assert_eq!(sources[0].tally.refused, 0, "{sources:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_that_are_unknown_or_closed_are_taken_with_a_flag_and_impossible_ones_refused() {
    let mut bed = Bed::new();
    bed.dataset = "ho_so_tthc";
    let dossier = |number: u32, received_by: &str, code: &str| {
        format!(
            r#"{{"ma_ho_so":"{code}-{number:04}","ma_tthc":"1.001193","co_quan_tiep_nhan":"{received_by}","co_quan_giai_quyet":"H53.12","nguoi_nop":{{"loai":"ca_nhan","ho_ten":"Lê Thị Mận"}},"ngay_tiep_nhan":"2026-11-20T08:12:45+07:00","trang_thai_goc":"Mới nộp","trang_thai_chuan":"MOI_NOP"}}"#
        )
    };
    bed.drop_file("known.json", dossier(1, "H53.20", "H53.12-261120"));
    bed.drop_file("closed.json", dossier(2, "H39.5", "H53.12-261120"));
    bed.drop_file("unknown.json", dossier(3, "G99.1", "H53.12-261120"));
    bed.drop_file("impossible.json", dossier(4, "H64.1", "H53.12-260231"));
    let running = bed.start();
    eventually("taken", || bed.files_in("done").len() == 3).await;
    eventually("refused", || bed.files_in("refused") == ["impossible.json"]).await;
    running.stop().await;
    let entries = bed.entries();
    let flags = |number: u32| {
        let subject = format!("H53.12-261120-{number:04}");
        let entry = entries
            .iter()
            .find(|entry| entry["subject"] == subject.as_str())
            .unwrap();
        entry.get("codeflags").cloned().unwrap_or_default()
    };
    assert_eq!(flags(1), serde_json::Value::Null);
    assert_eq!(
        flags(2),
        serde_json::json!(["/co_quan_tiep_nhan agency-code closed"])
    );
    assert_eq!(
        flags(3),
        serde_json::json!(["/co_quan_tiep_nhan agency-code unknown"])
    );
    let reason = bed.reason("impossible.json");
    assert!(
        reason.contains("/co_quan_tiep_nhan: ") && reason.contains("H01 đến H63"),
        "{reason}"
    );
    assert!(
        reason.contains("/ma_ho_so: ") && reason.contains("có trong lịch"),
        "{reason}"
    );
}
