//! `tramd check`: each check's failures, reached for real, with what it says to do in both languages, and
//! the shape of its JSON (`docs/check.md`).
#![cfg(all(feature = "edge", feature = "hub"))]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot set its stage has failed; it waits for real processes"
)]

#[path = "bed/one_box.rs"]
#[allow(dead_code)]
mod one_box;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use one_box::{SOON, XA, config, configure, one_box};
use rig::{DATASET, Rig, dossier, free_port, run, tramd, wait_for};
use rusqlite::Connection;
use serde_json::Value;

const DOCUMENT: &str = include_str!("../docs/check.md");
const IDS: [&str; 13] = [
    "configuration",
    "catalogue",
    "store",
    "disk",
    "clock",
    "certificate",
    "name",
    "tcp",
    "tls",
    "mqtt",
    "receipt",
    "sources",
    "page",
];
const DAY_MS: i64 = 86_400_000;

fn folder(rig: &Rig) -> PathBuf {
    rig.boxes[XA].folder.clone()
}

/// A box whose store is there, and which does not run.
fn stopped_box() -> Rig {
    let mut rig = one_box();
    let file = rig.folder.path().join("mot.json");
    fs::write(&file, dossier(one_box::AGENCY, 1)).unwrap();
    one_box::said(&rig, &["put", DATASET, file.to_str().unwrap()], 0);
    rig.boxes.get_mut(XA).unwrap().process = None;
    rig
}

/// What the checks found, by id; the report is as described, and who fails says what to do.
#[track_caller]
fn checks_of(command: &mut Command, code: i32) -> BTreeMap<String, Value> {
    let output = run(command, code);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&report), ["checks", "failed", "warnings"]);
    let mut found = BTreeMap::new();
    let mut counts = [0, 0];
    let checks = report["checks"].as_array().unwrap();
    let ids: Vec<&str> = checks.iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(ids, IDS, "in this order");
    for check in checks {
        assert_eq!(
            keys(check),
            [
                "detail_en",
                "detail_vi",
                "hint_en",
                "hint_vi",
                "id",
                "name_en",
                "name_vi",
                "outcome"
            ]
        );
        let word = |key: &str| check[key].as_str().unwrap();
        match word("outcome") {
            "failed" => counts[0] += 1,
            "warning" => counts[1] += 1,
            "ok" | "skipped" => assert_eq!([word("hint_vi"), word("hint_en")], ["", ""]),
            other => panic!("{other}"),
        }
        if ["failed", "warning"].contains(&word("outcome")) {
            let is_vietnamese =
                |text: &str| text.chars().any(|c| c.is_alphabetic() && !c.is_ascii());
            assert!(is_vietnamese(word("hint_vi")), "{check}");
            assert!(
                !word("hint_en").is_empty() && !is_vietnamese(word("hint_en")),
                "{check}"
            );
        }
        found.insert(word("id").to_owned(), check.clone());
    }
    assert_eq!(report["failed"], counts[0]);
    assert_eq!(report["warnings"], counts[1]);
    assert_eq!(
        code,
        i32::from(0 < counts[0]),
        "the exit code says whether one failed"
    );
    found
}

#[track_caller]
fn checks(rig: &Rig, code: i32) -> BTreeMap<String, Value> {
    let mut command = tramd();
    command
        .args(["check", "--json", "--config"])
        .arg(config(rig));
    checks_of(&mut command, code)
}

/// One check's outcome, and parts of what it says: found, to be done, and the latter in English.
#[track_caller]
fn assert_says(found: &BTreeMap<String, Value>, id: &str, outcome: &str, says: [&str; 3]) {
    let check = &found[id];
    assert_eq!(check["outcome"], outcome, "{check}");
    for (key, part) in ["detail_vi", "hint_vi", "hint_en"].iter().zip(says) {
        let text = check[*key].as_str().unwrap();
        assert!(text.contains(part), "{part:?} in {key}: {check}");
    }
}

#[track_caller]
fn assert_failed(found: &BTreeMap<String, Value>, id: &str, says: [&str; 3]) {
    assert_says(found, id, "failed", says);
}

#[test]
fn the_report_is_described_and_the_text_says_the_same() {
    let rig = stopped_box();
    let found = checks(&rig, 0);
    for id in IDS {
        assert!(
            DOCUMENT.contains(&format!("`{id}`")),
            "{id} is not described"
        );
        // Whether a time server is heard, and how much is free, is this machine's business.
        if !["clock", "disk"].contains(&id) {
            assert_eq!(found[id]["outcome"], "ok", "{}", found[id]);
        }
    }
    let text = one_box::said(&rig, &["check"], 0);
    for id in IDS {
        assert!(
            text.contains(found[id]["name_vi"].as_str().unwrap()),
            "{text}"
        );
        assert!(
            text.contains(found[id]["name_en"].as_str().unwrap()),
            "{text}"
        );
    }
    assert!(text.contains("0 mục hỏng"), "{text}");
}

#[test]
fn configuration_and_catalogue() {
    let rig = one_box();
    configure(&rig, "20-alarm.toml", "[alarms]\ndataset = \"khong_co\"\n");
    let found = checks(&rig, 0);
    assert_says(
        &found,
        "catalogue",
        "warning",
        [
            "bộ dữ liệu trong",
            "Thêm tệp khong_co.toml",
            "Add khong_co.toml",
        ],
    );
    configure(
        &rig,
        "20-alarm.toml",
        "[store]\nqouta = \"1 GiB\"\n[hub]\nkeep_alive = \"soon\"\n",
    );
    let found = checks(&rig, 1);
    let says = ["store.qouta", "tramd config", "See also: tramd config"];
    assert_failed(&found, "configuration", says);
    assert!(
        found["configuration"]["detail_en"]
            .as_str()
            .unwrap()
            .contains("hub.keep_alive")
    );
    for id in &IDS[1..] {
        let says = ["cần các mục trước đạt đã", "", ""];
        assert_says(&found, id, "skipped", says);
    }
}

#[test]
fn store_and_disk() {
    let rig = stopped_box();
    let path = folder(&rig).join("box.db");
    let whole = fs::read(&path).unwrap();
    let alter = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();

    alter("UPDATE box SET box_id = 'xa-khac'");
    let says = ["trạm khác", "Kiểm tra box.id", "box.id"];
    assert_failed(&checks(&rig, 1), "store", says);
    alter("UPDATE box SET box_id = 'xa-tan-bien'; PRAGMA user_version = 99");
    let says = ["phiên bản mới hơn", "Cài lại phiên bản mới hơn", "newer"];
    assert_failed(&checks(&rig, 1), "store", says);
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(folder(&rig).join(format!("box.db{suffix}")));
    }
    fs::write(&path, vec![b'x'; whole.len()]).unwrap();
    let says = ["hỏng", "phục hồi bản sao lưu", "backup"];
    assert_failed(&checks(&rig, 1), "store", says);

    fs::remove_file(&path).unwrap();
    let found = checks(&rig, 0);
    assert_says(&found, "store", "ok", ["sẽ được tạo", "", ""]);
    assert_says(
        &found,
        "receipt",
        "skipped",
        ["chưa có kho dữ liệu", "", ""],
    );
    configure(
        &rig,
        "20-store.toml",
        "[store]\npath = \"/khong-co/tramd.db\"\n",
    );
    let found = checks(&rig, 1);
    let says = [
        "không ghi được vào thư mục /khong-co",
        "Tạo thư mục",
        "Make the folder",
    ];
    assert_failed(&found, "store", says);
    assert_failed(
        &found,
        "disk",
        ["", "Kiểm tra đường dẫn store.path", "Check store.path"],
    );
    configure(&rig, "20-store.toml", "[store]\nquota = \"4000 GiB\"\n");
    let says = ["còn trống", "giảm store.quota", "lower store.quota"];
    assert_says(&checks(&rig, 0), "disk", "warning", says);

    // A disk of its own that is nearly full.
    let script = format!(
        "mount -t tmpfs -o size=8m none /mnt && exec \"$0\" check --json --config {}",
        config(&rig).display()
    );
    configure(&rig, "20-store.toml", "[store]\npath = \"/mnt/tramd.db\"\n");
    let mut command = Command::new("unshare");
    command
        .args(["-rm", "sh", "-c", &script])
        .arg(tramd().get_program());
    let says = [
        "còn trống",
        "Giải phóng phân vùng dữ liệu",
        "Free the data partition",
    ];
    assert_failed(&checks_of(&mut command, 1), "disk", says);
}

#[test]
fn clock_and_certificate() {
    let rig = stopped_box();
    let report = checks(&rig, 0)["certificate"]["detail_en"].clone();
    let days: i64 = report
        .as_str()
        .unwrap()
        .split(" days left")
        .next()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    // The store knows a time that is surely past; the machine's clock stands before it.
    let store = folder(&rig).join("box.db");
    let now_ms = i64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_millis(),
    )
    .unwrap();
    let at = |ahead_days: i64| {
        let floor = now_ms + ahead_days * DAY_MS;
        let connection = Connection::open(&store).unwrap();
        connection
            .execute("UPDATE box SET time_floor_ms = ?1", [floor])
            .unwrap();
    };
    at(1);
    let found = checks(&rig, 1);
    let says = [
        "chậm hơn mốc chắc chắn",
        "timedatectl set-time",
        "Set the clock",
    ];
    assert_failed(&found, "clock", says);
    at(days - 20);
    let says = [
        "còn 2",
        "Tự gia hạn chưa xong",
        "The renewal has not come through",
    ];
    assert_says(&checks(&rig, 1), "certificate", "warning", says);
    at(days - 4);
    assert_failed(&checks(&rig, 1), "certificate", ["còn ", says[1], says[2]]);
    at(days + 2);
    let found = checks(&rig, 1);
    let says = ["còn -", "trucd box reissue", "trucd box reissue"];
    assert_failed(&found, "certificate", says);

    fs::write(folder(&rig).join("box.key"), "no key").unwrap();
    let found = checks(&rig, 1);
    let says = ["box.key", "Chép lại bộ khóa", "Copy the key material"];
    assert_failed(&found, "certificate", says);
    assert_says(&found, "name", "skipped", ["cần các mục trước", "", ""]);
}

/// Answers whoever connects with these bytes, and closes.
fn answers(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(bytes);
        }
    });
    port
}

#[test]
fn the_way_to_the_hub_by_each_step() {
    let mut rig = stopped_box();
    let good = rig.port;
    let hub = |rig: &Rig, addresses: &[String]| {
        configure(
            rig,
            "20-hub.toml",
            &format!("[hub]\naddresses = {addresses:?}\n"),
        );
    };
    let nowhere = "khong-co.invalid:8883".to_owned();
    hub(&rig, std::slice::from_ref(&nowhere));
    let found = checks(&rig, 1);
    let says = [
        "name-lookup",
        "Không tra được địa chỉ",
        "The hub's name has no address",
    ];
    assert_failed(&found, "name", says);
    for id in ["tcp", "tls"] {
        assert_says(&found, id, "skipped", ["bước trước chưa thông", "", ""]);
    }
    // One address is enough to work; that the other does not is told.
    hub(&rig, &[nowhere, format!("127.0.0.1:{good}")]);
    let found = checks(&rig, 0);
    assert_says(&found, "name", "warning", says);
    assert_says(&found, "receipt", "ok", ["biên nhận ký số", "", ""]);

    hub(&rig, &[format!("127.0.0.1:{}", free_port())]);
    let says = ["tcp-refused", "từ chối kết nối", "refuses the connection"];
    assert_failed(&checks(&rig, 1), "tcp", says);
    hub(&rig, &[format!("127.0.0.1:{}", answers(b"220 FTP\r\n"))]);
    let says = ["not-tls", "hub.addresses", "hub.addresses"];
    assert_failed(&checks(&rig, 1), "tls", says);

    // Another authority's certificate.
    hub(&rig, &[format!("127.0.0.1:{good}")]);
    let other = rig.folder.path().join("truc-khac");
    run(
        rig::trucd()
            .arg("init")
            .arg(&other)
            .args(["--listen", "127.0.0.1:0", "--ip", "127.0.0.1"]),
        0,
    );
    let ca = folder(&rig).join("ca.crt");
    let own = fs::read(&ca).unwrap();
    fs::copy(other.join("ca.crt"), &ca).unwrap();
    let found = checks(&rig, 1);
    let is_tls = found["tls"]["outcome"] == "failed" || found["certificate"]["outcome"] == "failed";
    assert!(is_tls, "{found:#?}");
    fs::write(&ca, own).unwrap();

    // The hub signs with a key that the box does not know.
    let key = folder(&rig).join("hub.pub");
    let own = fs::read(&key).unwrap();
    fs::copy(other.join("hub.pub"), &key).unwrap();
    let says = [
        "không có chữ ký của khóa",
        "hub.pub là khóa của nó",
        "hub.pub is its key",
    ];
    assert_failed(&checks(&rig, 1), "receipt", says);
    fs::write(&key, own).unwrap();

    rig.trucd(&["box", "suspend", XA], 0);
    let found = checks(&rig, 1);
    let broken = ["mqtt", "receipt"]
        .into_iter()
        .find(|id| found[*id]["outcome"] == "failed");
    let broken = broken.unwrap_or_else(|| panic!("{found:#?}"));
    assert!(
        found[broken]["hint_vi"].as_str().unwrap().contains("trục"),
        "{found:#?}"
    );
    rig.trucd(&["box", "resume", XA], 0);

    // Beside the daemon it is asked.
    rig.kill_hub();
    rig.start_box(XA);
    wait_for("the link is down", SOON, || {
        rig.status(XA)["link"]["state"] == "down"
    });
    let found = checks(&rig, 1);
    let says = ["dịch vụ chưa nối được", "", "Look at the steps before"];
    assert_failed(&found, "mqtt", says);
    assert_says(&found, "store", "ok", ["dịch vụ đang chạy", "", ""]);
}

#[test]
fn sources_and_the_page() {
    let rig = stopped_box();
    let drop_in = folder(&rig).join("tramd.d/10-test.toml");
    let text = fs::read_to_string(&drop_in).unwrap();
    let (before, after) = text.split_once("[[http.token]]").unwrap();
    let (_, after) = after.split_once("[catalogue]").unwrap();
    fs::write(&drop_in, format!("{before}[catalogue]{after}")).unwrap();
    let says = ["chưa có nguồn nào", "[[http.token]]", "[[http.token]]"];
    assert_says(&checks(&rig, 0), "sources", "warning", says);
    configure(
        &rig,
        "20-sources.toml",
        &format!(
            "[[source]]\nname = \"thu-muc\"\nkind = \"folder\"\ndataset = \"{DATASET}\"\npath = \"/khong-co\"\n"
        ),
    );
    let says = [
        "thu-muc: không có thư mục /khong-co",
        "Tạo thư mục",
        "Make the folder",
    ];
    assert_failed(&checks(&rig, 1), "sources", says);
    fs::remove_file(folder(&rig).join("tramd.d/20-sources.toml")).unwrap();
    configure(
        &rig,
        "20-http.toml",
        &format!("[http]\nlisten = \"0.0.0.0:{}\"\n", free_port()),
    );
    let says = [
        "chưa có chứng thư",
        "systemctl start tramd",
        "systemctl start tramd",
    ];
    assert_says(&checks(&rig, 0), "page", "warning", says);
}
