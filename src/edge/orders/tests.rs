//! Catalogues and commands against a real store, door and engine, with a process that dies between
//! any two steps.

use std::path::PathBuf;
use std::sync::Mutex;

use super::*;
use crate::catalogue::bundle::{Bundle, PART_BYTES};
use crate::edge::config::load::Loaded;
use crate::edge::generations::Generations;
use crate::edge::intake::{self, Input};
use crate::evidence::{CatalogueClaim, CommandClaim, SigningKey, sha256};
use crate::model::down::{CatalogueNews, CataloguePart, Command, Down, day_of, midnight};
use crate::model::{BoxId, Epoch};
use crate::store::edge::EdgeStore;
use crate::store::orders::{AuditRow, CatalogueState, by_preference};

const DAY_MS: i64 = 86_400_000;

/// A box's folder with its configuration, and the hub's key.
struct Rig {
    folder: tempfile::TempDir,
    hub: SigningKey,
}

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn shipped() -> Bundle {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
    Bundle::read(&folder).expect("the shipped catalogue")
}

impl Rig {
    fn new() -> Rig {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(
            "[box]\nid = \"xa-tan-bien\"\nagency = \"H53.12\"\n[store]\npath = {:?}\n\
             [hub]\naddresses = [\"127.0.0.1:1\"]\nreceipt_keys = [\"hub.pub\"]\n\
             [catalogue]\npath = {:?}\n\
             [[http.token]]\nname = \"mot-cua\"\nsha256 = \"{}\"\ndatasets = [\"ho_tich\"]\n",
            folder.path().join("tramd.db"),
            Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue"),
            "0".repeat(64)
        );
        std::fs::write(folder.path().join("tramd.toml"), text).expect("written");
        let hub = SigningKey::from_pkcs8(&SigningKey::generate()).expect("own key");
        Rig { folder, hub }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("down.db")
    }

    fn down(&self) -> DownStore {
        let options = Options {
            quota_bytes: 64 << 20,
            cache_bytes: 1 << 20,
        };
        let box_id: BoxId = "xa-tan-bien".parse().expect("valid");
        DownStore::open(&self.store(), options, &box_id).expect("the store")
    }

    /// As the transport does it.
    fn receive(&self, entries: &[Down]) {
        let mut store = self.down();
        store.begin().expect("begun");
        for entry in entries {
            // Through the wire's form and back.
            let bytes = serde_json::to_vec(entry).expect("plain JSON");
            let entry = serde_json::from_slice(&bytes).expect("our own");
            assert!(store.apply(&entry, now()).expect("applied"));
        }
        store.commit().expect("committed");
    }

    /// A process begins: the configuration is read, and nothing else has happened.
    fn start(&self) -> (Orders, tokio::sync::mpsc::Receiver<Input>) {
        let Loaded {
            config, catalogue, ..
        } = load(&self.folder.path().join("tramd.toml")).expect("sound");
        let config = Arc::new(config);
        let clock = Clock::start(UnixMs(0));
        let (intake, queue) = intake::channel();
        let door = Arc::new(Door::new(&config, catalogue, intake, clock.clone()));
        let orders = Orders {
            reader: Reader::new(Arc::clone(&config), clock.clone(), None),
            hub_keys: vec![self.hub.public_key()],
            rotation: Rotation::new(
                Generations::of(&config),
                SigningKey::from_pkcs8(&SigningKey::generate())
                    .expect("own key")
                    .into(),
                tokio::sync::mpsc::channel(1).0,
            ),
            config,
            door,
            clock,
        };
        (orders, queue)
    }

    fn published(&self, version: u32, day: &str, bundle: &Bundle) -> Vec<Down> {
        let content = bundle.to_content().expect("small enough");
        let sha256: String = sha256(&content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let claim = CatalogueClaim {
            version,
            effective: day,
            bytes: content.len() as u64,
            sha256: &sha256,
            by: "quản trị",
        };
        let signature = encoded(&self.hub.sign(&claim));
        let parts: Vec<&[u8]> = content.chunks(PART_BYTES / 16).collect();
        let mut entries: Vec<Down> = parts
            .iter()
            .enumerate()
            .map(|(part, data)| {
                Down::CataloguePart(CataloguePart {
                    sha256: sha256.clone(),
                    part: part as u32,
                    data: encoded(data),
                })
            })
            .collect();
        entries.push(Down::Catalogue(CatalogueNews {
            version,
            effective: day.to_owned(),
            bytes: content.len() as u64,
            parts: parts.len() as u32,
            by: "quản trị".to_owned(),
            signature,
            sha256: sha256.clone(),
        }));
        entries
    }

    fn command(&self, id: &str, name: &str, arguments: &str, expires: UnixMs) -> Command {
        let box_id: BoxId = "xa-tan-bien".parse().expect("valid");
        let claim = CommandClaim {
            box_id: &box_id,
            id,
            name,
            arguments,
            expires,
            by: "quản trị",
        };
        Command {
            id: id.parse().expect("valid"),
            name: name.to_owned(),
            arguments: RawValue::from_string(arguments.to_owned()).expect("JSON"),
            expires,
            by: "quản trị".to_owned(),
            signature: encoded(&self.hub.sign(&claim)),
        }
    }

    fn states(&self) -> Vec<(u32, CatalogueState)> {
        let rows = self.down().catalogues().expect("read");
        rows.iter()
            .map(|row| (row.news.version, row.state))
            .collect()
    }

    fn audit(&self) -> Vec<AuditRow> {
        let view = OrdersView::open(&self.store()).expect("the store");
        let mut rows = view.audit(100).expect("read");
        rows.reverse();
        rows
    }
}

fn now() -> UnixMs {
    Clock::start(UnixMs(0)).now().wall
}

fn in_days(days: i64) -> String {
    day_of(UnixMs(now().0 + days * DAY_MS))
}

/// A catalogue with another dataset than the shipped one has.
fn with_new_dataset() -> Bundle {
    let text = include_str!("../../../catalogue/ho_tich.toml")
        .replace("id = \"ho_tich\"", "id = \"ho_tich_moi\"")
        .replace("code = \"D03\"", "code = \"D93\"")
        .replace("code = \"D04\"", "code = \"D94\"");
    let code = text
        .lines()
        .find(|line| line.starts_with("code = "))
        .expect("a code");
    let text = text.replacen(code, "code = \"D93\"", 1);
    shipped().with_file("ho_tich_moi.toml", text)
}

#[test]
fn a_catalogue_waits_for_its_midnight_offline_and_through_restarts_and_a_clock_set_back_keeps_it() {
    let rig = Rig::new();
    let day = in_days(2);
    let mut entries = rig.published(7, &day, &with_new_dataset());
    let news = entries.pop().expect("news come last");
    rig.receive(std::slice::from_ref(&news));
    let (orders, _queue) = rig.start();
    orders.round(true).expect("a round");
    assert_eq!(
        rig.states(),
        [(7, CatalogueState::Arriving)],
        "its parts are missing"
    );
    let last = entries.split_off(entries.len() - 1);
    rig.receive(&entries);
    orders.round(false).expect("a round");
    assert_eq!(rig.states(), [(7, CatalogueState::Arriving)]);
    rig.receive(&last);
    rig.receive(&last);
    rig.receive(&[news]);
    let round = orders.round(false).expect("a round");
    assert_eq!(rig.states(), [(7, CatalogueState::Next)]);
    assert_eq!(round.next, midnight(&day));
    assert!(round.catalogue.is_none());
    // The link is down from here on, and the process dies.
    drop(orders);
    let (orders, _queue) = rig.start();
    let new: DatasetId = "ho_tich_moi".parse().expect("valid");
    assert!(orders.door.dataset(&new).is_none());
    let judge = Judge {
        config: &orders.config,
        hub_keys: &orders.hub_keys,
    };
    let due = midnight(&day).expect("a day");
    let before = settle(&mut rig.down(), &judge, UnixMs(due.0 - 1)).expect("settled");
    assert!(before.changed.is_none(), "a millisecond before midnight");
    let after = settle(&mut rig.down(), &judge, due).expect("settled");
    let (catalogue, news) = after.changed.expect("it is midnight");
    assert_eq!(news.version, 7);
    let old: DatasetId = "ho_tich".parse().expect("valid");
    let in_hand = orders.door.dataset(&old).expect("there");
    orders.door.set_catalogue(catalogue);
    assert!(orders.door.dataset(&new).is_some());
    assert_eq!(
        in_hand.id, old,
        "who has a record in hand finishes with what held"
    );
    // A clock that is set back, and a start, take nothing back.
    let again = settle(&mut rig.down(), &judge, UnixMs(0)).expect("settled");
    assert!(again.changed.is_none());
    drop(orders);
    let (orders, _queue) = rig.start();
    assert!(orders.door.dataset(&new).is_some());
    let results: Vec<String> = rig.audit().into_iter().map(|row| row.result).collect();
    assert_eq!(results, ["next", "current"]);
}

#[test]
fn the_higher_version_wins_and_a_later_day_of_a_lower_one_never_comes() {
    let rig = Rig::new();
    let (soon, later) = (in_days(1), in_days(2));
    rig.receive(&rig.published(3, &later, &shipped()));
    rig.receive(&rig.published(4, &soon, &with_new_dataset()));
    let (orders, _queue) = rig.start();
    orders.round(true).expect("a round");
    let judge = Judge {
        config: &orders.config,
        hub_keys: &orders.hub_keys,
    };
    let due = midnight(&soon).expect("a day");
    let changed = settle(&mut rig.down(), &judge, due)
        .expect("settled")
        .changed;
    assert_eq!(changed.expect("due").1.version, 4);
    let due = midnight(&later).expect("a day");
    let changed = settle(&mut rig.down(), &judge, due)
        .expect("settled")
        .changed;
    assert!(changed.is_none());
    assert_eq!(
        rig.states(),
        [(3, CatalogueState::Past), (4, CatalogueState::Current)]
    );
}

#[test]
fn what_is_forged_damaged_or_lacks_a_used_dataset_is_refused_and_the_last_good_one_stays() {
    let rig = Rig::new();
    let today = in_days(0);
    rig.receive(&rig.published(1, &today, &with_new_dataset()));
    let (orders, _queue) = rig.start();
    assert!(orders.round(true).expect("a round").catalogue.is_some());

    // Signed by somebody else.
    let other = Rig::new();
    rig.receive(&other.published(2, &today, &shipped()));
    // A byte of the content is another one.
    let mut damaged = rig.published(3, &today, &shipped().with_file("x.toml", "# 3".to_owned()));
    if let Some(Down::CataloguePart(part)) = damaged.first_mut() {
        part.data.replace_range(40..44, "AAAA");
    }
    rig.receive(&damaged);
    // Lacks what a token of this box hands in.
    let lacking = Bundle::from_content(
        &zstd::bulk::compress(
            serde_json::json!({
                "an_toan_thiet_bi.toml": include_str!("../../../catalogue/an_toan_thiet_bi.toml"),
                "lenh_tram.toml": include_str!("../../../catalogue/lenh_tram.toml"),
            })
            .to_string()
            .as_bytes(),
            1,
        )
        .expect("packed"),
    )
    .expect("a bundle");
    rig.receive(&rig.published(4, &today, &lacking));
    // Does not load.
    let broken = shipped().with_file("ho_tich.toml", "id = ".to_owned());
    rig.receive(&rig.published(5, &today, &broken));

    let round = orders.round(false).expect("a round");
    assert!(round.catalogue.is_none());
    let refused = (2..=5).map(|version| (version, CatalogueState::Refused));
    let expected: Vec<_> = [(1, CatalogueState::Current)]
        .into_iter()
        .chain(refused)
        .collect();
    assert_eq!(rig.states(), expected);
    let reasons: Vec<String> = rig
        .down()
        .catalogues()
        .expect("read")
        .into_iter()
        .map(|row| row.reason)
        .collect();
    for (reason, word) in
        reasons[1..]
            .iter()
            .zip(["signature", "digest", "ho_tich", "ho_tich.toml: 1:6"])
    {
        assert!(reason.contains(word), "{reason} does not say {word}");
    }
    let answers = rig.down().answers().expect("read");
    assert_eq!(answers.len(), 6, "each is told to the hub");
    let (catalogue, news) =
        crate::edge::published::holding(&rig.store(), now()).expect("one holds");
    assert_eq!(news.version, 1);
    assert!(
        catalogue
            .get(&"ho_tich_moi".parse().expect("valid"))
            .is_some()
    );
}

#[test]
fn a_current_catalogue_that_does_not_load_falls_back_to_the_last_good_one() {
    let rig = Rig::new();
    let today = in_days(0);
    rig.receive(&rig.published(1, &today, &with_new_dataset()));
    let (orders, _queue) = rig.start();
    orders.round(true).expect("a round");
    rig.receive(&rig.published(2, &today, &shipped()));
    orders.round(false).expect("a round");
    assert_eq!(
        rig.states(),
        [(1, CatalogueState::Past), (2, CatalogueState::Current)]
    );
    let rows = rig.down().catalogues().expect("read");
    let order: Vec<u32> = by_preference(&rows, now())
        .iter()
        .map(|row| row.news.version)
        .collect();
    assert_eq!(order, [2, 1]);
    assert!(rig.down().content(rows[0].number).expect("read").is_some());
}

#[test]
fn commands_are_done_once_whatever_comes_twice_and_answered() {
    let rig = Rig::new();
    let far = UnixMs(now().0 + DAY_MS);
    let pause = rig.command("c1", "pause_source", r#"{"source":"mot-cua"}"#, far);
    let forged = Command {
        by: "kẻ khác".to_owned(),
        ..rig.command("c5", "restart", "{}", far)
    };
    let entries = [
        pause.clone(),
        rig.command("c2", "format_disk", "{}", far),
        rig.command(
            "c3",
            "set_bandwidth",
            r#"{"hours":["07:30-17:00 256"]}"#,
            UnixMs(now().0 - 1),
        ),
        rig.command("c4", "pause_source", r#"{"source":"khong-co"}"#, far),
        forged,
        rig.command(
            "c6",
            "set_bandwidth",
            r#"{"hours":["00:00-24:00 64"]}"#,
            far,
        ),
        rig.command("c7", "send_diagnostics", "{}", far),
        rig.command("c8", "set_bandwidth", r#"{"hours":["nhanh"]}"#, far),
    ];
    let entries: Vec<Down> = entries.into_iter().map(Down::Command).collect();
    rig.receive(&entries);
    let (orders, _queue) = rig.start();
    let round = orders.round(true).expect("a round");
    orders.door.steering().follow(&round.settings);
    // The hub sends everything again.
    rig.receive(&entries);
    let round = orders.round(false).expect("a round");
    assert_eq!(round.settings.len(), 2);
    let results: Vec<(String, String)> = rig
        .audit()
        .into_iter()
        .map(|row| (row.id, row.result))
        .collect();
    let told: Vec<String> = results
        .iter()
        .map(|(id, result)| format!("{id} {result}"))
        .collect();
    assert_eq!(
        told,
        [
            "c1 done",
            "c2 unknown",
            "c3 expired",
            "c4 failed",
            "c5 refused",
            "c6 done",
            "c7 done",
            "c8 refused"
        ]
    );
    let steering = orders.door.steering();
    assert!(
        steering
            .paused
            .borrow()
            .contains(&"mot-cua".parse().expect("valid"))
    );
    let kbps = steering
        .bandwidth
        .borrow()
        .as_ref()
        .and_then(|table| table.kbps(now()));
    assert_eq!(kbps, Some(64));
    // A start remembers them.
    let (orders, _queue) = rig.start();
    recall(&rig.store(), orders.door.steering());
    assert_eq!(orders.door.steering().paused.borrow().len(), 1);
    let resume = rig.command("c9", "resume_source", r#"{"source":"mot-cua"}"#, far);
    let free = rig.command("c10", "set_bandwidth", r#"{"hours":[]}"#, far);
    rig.receive(&[Down::Command(resume), Down::Command(free)]);
    let round = orders.round(true).expect("a round");
    assert!(round.settings.is_empty());
}

#[test]
fn a_restart_happens_once_and_a_command_that_was_cut_off_is_done_after_the_start() {
    let rig = Rig::new();
    let far = UnixMs(now().0 + DAY_MS);
    rig.receive(&[Down::Command(rig.command("r1", "restart", "{}", far))]);
    let (orders, _queue) = rig.start();
    assert!(orders.round(true).expect("a round").left.restart);
    assert!(
        orders.round(false).expect("a round").left.restart,
        "until it has happened"
    );
    assert!(rig.audit().is_empty());
    let (orders, _queue) = rig.start();
    assert!(!orders.round(true).expect("a round").left.restart);
    assert_eq!(rig.audit()[0].result, "done");
    // Killed between "begun" and the end.
    rig.receive(&[Down::Command(rig.command(
        "u1",
        "update_catalogue",
        "{}",
        far,
    ))]);
    let mut store = rig.down();
    let number = store.open_commands().expect("read")[0].number;
    store
        .set_command(number, crate::store::orders::CommandState::Begun, now())
        .expect("written");
    drop(store);
    let (orders, _queue) = rig.start();
    orders.round(true).expect("a round");
    assert_eq!(rig.audit()[1].result, "done");
}

#[test]
fn answers_reach_the_log_once_though_the_process_dies_before_they_are_forgotten() {
    let rig = Rig::new();
    let far = UnixMs(now().0 + DAY_MS);
    rig.receive(&[Down::Command(rig.command(
        "d1",
        "update_catalogue",
        "{}",
        far,
    ))]);
    let (orders, mut queue) = rig.start();
    let round = orders.round(true).expect("a round");
    assert_eq!(round.answers.len(), 1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let kept: Arc<Mutex<Vec<OnceKey>>> = Arc::default();
    let seen = Arc::clone(&kept);
    runtime.spawn(async move {
        while let Some(input) = queue.recv().await {
            if let Input::Submit(submission, _) = input {
                let once = submission.records[0].once.expect("a key of its own");
                seen.lock().expect("no panic").push(once);
                let stored = Answer::Stored {
                    accepted: Vec::new(),
                    repeated: false,
                };
                let _ = submission.reply.send(Ok(stored));
            }
        }
    });
    let again = round.answers.clone();
    runtime.block_on(orders.answer(round.answers));
    assert!(rig.down().answers().expect("read").is_empty());
    // As if it had died before it forgot: the same key goes in again, and the log takes it once.
    runtime.block_on(orders.answer(again));
    let kept = kept.lock().expect("no panic");
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0], kept[1]);
}

#[test]
fn where_the_logs_stand_is_said_each_night_and_on_command() {
    let rig = Rig::new();
    rig.receive(&[]);
    let box_id: BoxId = "xa-tan-bien".parse().expect("valid");
    let options = Options {
        quota_bytes: 64 << 20,
        cache_bytes: 1 << 20,
    };
    let path = rig.folder.path().join("tramd.db");
    EdgeStore::open(&path, options, &box_id, Epoch(7)).expect("a store");
    let (orders, _queue) = rig.start();
    let said = || rig.down().answers().expect("read").len();
    orders.round(true).expect("a round");
    assert_eq!(
        said(),
        0,
        "a box that has just begun has nothing to compare"
    );
    let two_days_ago = UnixMs(now().0 - 2 * DAY_MS);
    rig.down().note_logs_said(two_days_ago).expect("written");
    for _ in 0..2 {
        orders.round(false).expect("a round");
        assert_eq!(said(), 1, "once a night");
    }
    let in_a_day = UnixMs(now().0 + DAY_MS);
    rig.receive(&[Down::Command(rig.command("c1", "compare", "{}", in_a_day))]);
    orders.round(false).expect("a round");
    let answers = rig.down().answers().expect("read");
    let kinds: Vec<(String, String)> = answers
        .iter()
        .map(|row| {
            let answer: serde_json::Value = serde_json::from_str(&row.answer).expect("JSON");
            let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
            (text("loai"), text("ma"))
        })
        .collect();
    let expected = [
        ("doi_chieu", "nhat-ky"),
        ("doi_chieu", "nhat-ky"),
        ("lenh", "c1"),
    ];
    assert_eq!(
        kinds,
        expected.map(|(kind, of)| (kind.to_owned(), of.to_owned()))
    );
    // The catalogue takes them.
    let dataset = orders
        .door
        .dataset(&ANSWERS.parse().expect("valid"))
        .expect("shipped");
    for answer in answers {
        let data = RawValue::from_string(answer.answer).expect("JSON");
        let incoming = Incoming {
            data: &data,
            op: Op::Upsert,
            original: None,
            id: None,
        };
        let own: SourceName = OWN_SOURCE.parse().expect("valid");
        assert!(orders.door.admit(&dataset, &own, incoming).is_ok());
    }
}
