//! How long a look-up takes in a copy of a million records: by subject, by a rare and by a common
//! name, with and without diacritics. Run with `cargo bench --bench lookup [-- ROWS]`.

#![allow(clippy::disallowed_methods, reason = "a bench reads the real clock")]

use std::time::{Duration, Instant};

use lienthong::model::down::{Copy, Down, Load, Version};
use lienthong::model::record::Op;
use lienthong::model::{DatasetId, UnixMs};
use lienthong::store::Options;
use lienthong::store::copies::Words;
use lienthong::store::copies::look::{CopyState, CopyView};
use lienthong::store::down::DownStore;
use serde_json::value::RawValue;

const ROWS: u64 = 1_000_000;
const ROWS_PER_COMMIT: u64 = 5_000;
const ASKED: u64 = 200;
const FAMILY: [&str; 8] = ["Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Đặng", "Võ", "Bùi"];
const MIDDLE: [&str; 6] = ["Văn", "Thị", "Đức", "Minh", "Ngọc", "Hữu"];
const GIVEN: [&str; 10] = [
    "Mẫu", "Đô", "Lan", "Hùng", "Khôi", "Mận", "Tám", "Sáu", "Út", "Bảy",
];

fn main() {
    let rows = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(ROWS);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("down.db");
    let options = Options {
        quota_bytes: 8 << 30,
        cache_bytes: 1 << 20,
    };
    let box_id = "xa-a".parse().expect("a box id");
    let mut store = DownStore::open(&path, options, &box_id).expect("a store");
    store.set_words(Words {
        fields: Box::new(|_| "/ten".to_owned()),
        of: Box::new(|_, data| {
            let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
            data["ten"].as_str().unwrap_or_default().to_owned()
        }),
    });
    let begun = Instant::now();
    fill(&mut store, rows);
    println!("{rows} records taken in: {:?}", begun.elapsed());
    let bytes = std::fs::metadata(&path).expect("the file").len();
    println!("file: {} MiB", bytes >> 20);

    let view = CopyView::open(&path).expect("a view");
    let of = view.dataset(&dataset()).expect("read").expect("there");
    let subject = |n: u64| format!("H53.12-{:07}", n * 7_919 % rows);
    ask("subject", |n| {
        view.by_subject(&of, &subject(n)).expect("read").len()
    });
    let name = |n: u64| format!("so{}", n * 104_729 % rows);
    ask("rare word", |n| words(&view, &of, &name(n)));
    ask("nguyen van mau", |_| words(&view, &of, "nguyen van mau"));
    ask("Đặng Thị Út", |_| words(&view, &of, "Đặng Thị Út"));
    ask("tran", |_| words(&view, &of, "tran"));
    ask("a name that is not there", |_| {
        words(&view, &of, "nguyen xuan quynh")
    });
}

fn fill(store: &mut DownStore, rows: u64) {
    let mut version = 1;
    for first in (0..rows).step_by(ROWS_PER_COMMIT as usize) {
        store.begin().expect("begun");
        for n in first..rows.min(first + ROWS_PER_COMMIT) {
            version += 1;
            store
                .apply(&record(n, version), UnixMs(0))
                .expect("applied");
        }
        store.commit().expect("committed");
    }
    store.begin().expect("begun");
    let end = Load {
        dataset: dataset(),
        load: Version(1),
        subjects: rows,
        seen: rows,
        done: true,
        at: UnixMs(0),
    };
    store.apply(&Down::Load(end), UnixMs(0)).expect("applied");
    store.commit().expect("committed");
}

fn record(n: u64, version: u64) -> Down {
    let pick = |names: &[&'static str], by: u64| names[(n / by % names.len() as u64) as usize];
    let name = format!(
        "{} {} {} so{n}",
        pick(&FAMILY, 1),
        pick(&MIDDLE, 8),
        pick(&GIVEN, 48)
    );
    let data = serde_json::json!({
        "ma_ho_so": format!("H53.12-{n:07}"), "ten": name, "trang_thai": "DANG_XU_LY",
        "ngay_hen_tra": "2026-12-01T17:00:00+07:00", "ghi_chu": "hồ sơ mẫu để đo",
    });
    Down::Copy(Copy {
        dataset: dataset(),
        schema: 1,
        agency: "H53.12".parse().expect("a code"),
        subject: format!("H53.12-{n:07}").parse().expect("a subject"),
        op: Op::Upsert,
        version: Version(version),
        at: UnixMs(0),
        load: Version(1),
        initial: true,
        attachments: Vec::new(),
        data: Some(RawValue::from_string(data.to_string()).expect("JSON")),
    })
}

fn dataset() -> DatasetId {
    "ho_so_tthc".parse().expect("a dataset")
}

fn words(view: &CopyView, of: &CopyState, question: &str) -> usize {
    view.by_words(of, question, None, 20).expect("read").0.len()
}

fn ask(what: &str, question: impl Fn(u64) -> usize) {
    let mut took: Vec<Duration> = Vec::new();
    let mut found = 0;
    for n in 0..ASKED {
        let begun = Instant::now();
        found += question(n);
        took.push(begun.elapsed());
    }
    took.sort();
    let at = |part: usize| took[(took.len() - 1) * part / 100];
    println!(
        "{what}: median {:?}, 99 % {:?}, longest {:?}, {} records each",
        at(50),
        at(99),
        at(100),
        found / ASKED as usize
    );
}
