//! Copies with a real store on a real disk: order, loads, withdrawal, search, and deletion.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::look::{After, CopyRecord, CopyView};
use super::*;
use crate::model::UnixMs;
use crate::model::down::Down;
use crate::model::record::Op;
use crate::store::Options;

const OPTIONS: Options = Options {
    quota_bytes: 64 << 20,
    cache_bytes: 1 << 20,
};

struct Stage {
    folder: tempfile::TempDir,
    store: DownStore,
}

impl Stage {
    fn new() -> Stage {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path().join("down.db"));
        Stage { folder, store }
    }

    fn apply(&mut self, downs: &[Down]) {
        self.store.begin().expect("begun");
        for down in downs {
            assert!(self.store.apply(down, UnixMs(0)).expect("applied"));
        }
        self.store.commit().expect("committed");
    }

    fn tidy(&mut self) {
        for _ in 0..1000 {
            if !self.store.tidy(7).expect("tidied") {
                return;
            }
        }
        panic!("there is always more to do");
    }

    fn view(&self) -> CopyView {
        CopyView::open(&self.folder.path().join("down.db")).expect("a view")
    }

    /// Subjects and data that may be read.
    fn read(&self, subjects: &[&str]) -> Vec<(String, String)> {
        let view = self.view();
        let Some(of) = view.dataset(&dataset()).expect("read") else {
            return Vec::new();
        };
        let found = subjects
            .iter()
            .flat_map(|subject| view.by_subject(&of, subject).expect("read"));
        found.map(|record| (record.subject, record.data)).collect()
    }

    fn find(&self, question: &str, limit: u32) -> Vec<String> {
        let view = self.view();
        let of = view.dataset(&dataset()).expect("read").expect("there");
        let (mut subjects, mut after): (Vec<String>, Option<After>) = (Vec::new(), None);
        loop {
            let (found, next) = view.by_words(&of, question, after, limit).expect("read");
            assert!(found.len() <= limit as usize);
            subjects.extend(found.into_iter().map(|record: CopyRecord| record.subject));
            match next {
                Some(next) => after = Some(next),
                None => return subjects,
            }
        }
    }

    /// How many records the status tells of.
    fn held(&self) -> u64 {
        let facts = crate::store::down_status::read(&self.folder.path().join("down.db"));
        let facts = facts.expect("read").expect("there");
        facts.copies.iter().map(|copy| copy.held).sum()
    }

    /// Files of the box in which the text stands, in whatever case it is indexed.
    fn files_with(&self, text: &str) -> Vec<String> {
        let (exact, lower) = (text.as_bytes(), text.to_lowercase());
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.folder.path()).expect("read") {
            let path = entry.expect("read").path();
            let bytes = std::fs::read(&path).expect("read");
            let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
            if holds(exact) || holds(lower.as_bytes()) {
                found.push(
                    path.file_name()
                        .expect("a name")
                        .to_string_lossy()
                        .into_owned(),
                );
            }
        }
        found.sort();
        found
    }
}

fn open(path: PathBuf) -> DownStore {
    let mut store = DownStore::open(&path, OPTIONS, &"xa-a".parse().expect("valid")).expect("open");
    store.set_words(words_of("ten"));
    store
}

fn words_of(field: &'static str) -> Words {
    Words {
        fields: Box::new(move |_| field.to_owned()),
        of: Box::new(move |_, data| {
            let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
            data[field].as_str().unwrap_or_default().to_owned()
        }),
    }
}

fn dataset() -> DatasetId {
    "ho_so_tthc".parse().expect("valid")
}

fn copy(subject: &str, version: u64, load: u64, initial: bool, name: Option<&str>) -> Down {
    Down::Copy(Copy {
        dataset: dataset(),
        schema: 1,
        agency: "H53.12".parse().expect("valid"),
        subject: subject.parse().expect("valid"),
        op: if name.is_some() {
            Op::Upsert
        } else {
            Op::Delete
        },
        version: Version(version),
        at: UnixMs(version as i64),
        load: Version(load),
        initial,
        attachments: Vec::new(),
        data: name.map(|name| {
            let data = serde_json::json!({ "ten": name }).to_string();
            RawValue::from_string(data).expect("JSON")
        }),
    })
}

fn load(version: u64, seen: u64, done: bool) -> Down {
    Down::Load(Load {
        dataset: dataset(),
        load: Version(version),
        subjects: 3,
        seen,
        done,
        at: UnixMs(version as i64),
    })
}

fn withdraw(version: u64) -> Down {
    Down::Withdraw(Withdraw {
        dataset: dataset(),
        version: Version(version),
        at: UnixMs(version as i64),
    })
}

#[test]
fn a_change_that_overtook_its_load_stays() {
    let mut stage = Stage::new();
    // P2 came first: one subject changed, one is gone, before the load that named both.
    stage.apply(&[
        copy("a", 20, 10, false, Some("mới")),
        copy("b", 21, 10, false, None),
    ]);
    stage.apply(&[
        load(10, 0, false),
        copy("a", 11, 10, true, Some("cũ")),
        copy("b", 12, 10, true, Some("cũ")),
        copy("c", 13, 10, true, Some("c")),
    ]);
    let of = stage
        .view()
        .dataset(&dataset())
        .expect("read")
        .expect("there");
    assert!(!of.complete);
    stage.apply(&[load(10, 3, true)]);
    stage.tidy();
    let pair = |subject: &str, name: &str| (subject.to_owned(), format!(r#"{{"ten":"{name}"}}"#));
    assert_eq!(
        stage.read(&["a", "b", "c"]),
        [pair("a", "mới"), pair("c", "c")]
    );
    let of = stage
        .view()
        .dataset(&dataset())
        .expect("read")
        .expect("there");
    assert!(of.complete && (of.subjects, of.seen) == (3, 3) && of.as_of == UnixMs(21));
    assert_eq!(stage.view().count(&of).expect("read"), 2);
    assert_eq!(stage.held(), 2);
}

#[test]
fn a_new_load_drops_what_it_did_not_name() {
    let mut stage = Stage::new();
    stage.apply(&[
        load(1, 0, false),
        copy("a", 2, 1, true, Some("A")),
        copy("b", 3, 1, true, Some("B")),
        load(1, 2, true),
    ]);
    stage.apply(&[load(10, 0, false), copy("b", 11, 10, true, Some("B"))]);
    stage.apply(&[copy("c", 12, 10, false, Some("C"))]);
    assert_eq!(
        stage.read(&["a", "b", "c"]).len(),
        3,
        "until it has ended, nothing is missing"
    );
    stage.apply(&[load(10, 2, true)]);
    stage.tidy();
    assert_eq!(stage.read(&["a", "b", "c"]).len(), 2);
    assert_eq!(stage.held(), 2);
    // What an older load still says is no news.
    stage.apply(&[load(1, 2, true)]);
    let of = stage
        .view()
        .dataset(&dataset())
        .expect("read")
        .expect("there");
    assert!(of.complete);
}

#[test]
fn a_withdrawn_dataset_is_unreadable_at_once_and_then_gone() {
    let mut stage = Stage::new();
    let mut downs = vec![load(1, 0, false)];
    for n in 0..40 {
        downs.push(copy(
            &format!("s{n}"),
            2 + n,
            1,
            true,
            Some(&format!("DAUVET{n} Nguyễn")),
        ));
    }
    downs.push(load(1, 40, true));
    stage.apply(&downs);
    assert_eq!(stage.find("dauvet7 nguyen", 5), ["s7"]);
    stage.apply(&[withdraw(50)]);
    assert_eq!(stage.view().dataset(&dataset()).expect("read"), None);
    // What was on its way when the right ended shows nothing.
    stage.apply(&[
        copy("late", 49, 1, true, Some("DAUVET late")),
        load(1, 40, true),
    ]);
    assert_eq!(stage.view().dataset(&dataset()).expect("read"), None);
    stage.tidy();
    assert_eq!(stage.files_with("DAUVET"), [""; 0]);
    assert_eq!(stage.held(), 0);
    // A new right begins anew.
    stage.apply(&[copy("x", 61, 60, false, Some("X")), load(60, 0, false)]);
    assert_eq!(stage.read(&["s1", "late", "x"]).len(), 1);
}

#[test]
fn a_deleted_record_is_in_no_file_of_the_box() {
    let mut stage = Stage::new();
    let named = "DAUVETMATTICH Nguyễn";
    stage.apply(&[
        load(1, 0, false),
        copy("DAUVETMATTICH-1", 2, 1, true, Some(named)),
        load(1, 1, true),
    ]);
    stage.apply(&[copy("b", 3, 1, false, Some("khác"))]);
    assert!(
        !stage.files_with("DAUVETMATTICH").is_empty(),
        "the search can find it"
    );
    stage.apply(&[copy("DAUVETMATTICH-1", 4, 1, false, None)]);
    stage.tidy();
    assert_eq!(stage.files_with("DAUVETMATTICH"), [""; 0]);
    // Also with a load on its way, when the row has to stay without its content.
    stage.apply(&[
        load(10, 0, false),
        copy("DAUVETMATTICH-2", 11, 10, true, Some(named)),
    ]);
    stage.apply(&[copy("DAUVETMATTICH-2", 12, 10, false, None)]);
    stage.tidy();
    assert_eq!(stage.files_with("DAUVETMATTICH"), [""; 0]);
    assert_eq!(stage.find("khac", 5), ["b"]);
    assert_eq!(stage.held(), 1);
}

#[test]
fn another_catalogue_has_other_words_looked_through() {
    let mut stage = Stage::new();
    let mut downs = vec![load(1, 0, false)];
    for n in 0..40 {
        let Down::Copy(mut named) = copy(&format!("s{n}"), 2 + n, 1, true, Some("Mẫu")) else {
            panic!("a copy");
        };
        let data = format!(r#"{{"ten":"Tên{n}","dia_chi":"Thôn{n}"}}"#);
        named.data = Some(RawValue::from_string(data).expect("JSON"));
        downs.push(Down::Copy(named));
    }
    downs.push(load(1, 40, true));
    stage.apply(&downs);
    stage.tidy();
    assert_eq!(stage.find("ten39", 5), ["s39"]);
    assert_eq!(stage.find("thon39", 5), [""; 0]);

    // It holds from a midnight on; a restart comes in the middle of the work.
    stage.store.set_words(words_of("dia_chi"));
    assert!(stage.store.tidy(7).expect("tidied"));
    stage.store = open(stage.folder.path().join("down.db"));
    stage.store.set_words(words_of("dia_chi"));
    // What comes meanwhile is taken by the new ones at once.
    stage.apply(&[copy("s3", 99, 1, false, Some("Ai đó"))]);
    stage.tidy();
    assert_eq!(stage.find("thon39", 5), ["s39"]);
    assert_eq!(stage.find("thon0", 5), ["s0"]);
    assert_eq!(stage.find("ten39", 5), [""; 0], "the former words are gone");
    assert_eq!(stage.find("ai do", 5), [""; 0]);

    // A dataset that is no longer looked through keeps no words at all.
    stage.store.set_words(words_of("khong_co"));
    stage.tidy();
    assert_eq!(stage.find("thon39", 5), [""; 0]);
    assert_eq!(stage.files_with("thon39"), [""; 0]);
}

#[test]
fn a_restart_goes_on_deleting() {
    let mut stage = Stage::new();
    stage.apply(&[
        load(1, 0, false),
        copy("a", 2, 1, true, Some("DAUVET")),
        withdraw(5),
    ]);
    let path = stage.folder.path().join("down.db");
    stage.store = open(path);
    stage.tidy();
    assert_eq!(stage.files_with("DAUVET"), [""; 0]);
}

#[test]
fn names_are_found_with_and_without_diacritics_exact_ones_first() {
    let mut stage = Stage::new();
    let names = [
        ("1", "Nguyen Van Do"),
        ("2", "Nguyễn Văn Đỗ"),
        ("3", "Nguye\u{302}\u{303}n Va\u{306}n Đo\u{302}\u{303}"),
        ("4", "Nguyễn Vân Độ"),
        ("5", "Trần Thị Mẫu"),
    ];
    let mut downs = vec![load(1, 0, false)];
    for (n, (subject, name)) in names.iter().enumerate() {
        downs.push(copy(subject, 2 + n as u64, 1, true, Some(name)));
    }
    downs.push(load(1, 5, true));
    stage.apply(&downs);
    for limit in [1, 2, 10] {
        assert_eq!(
            stage.find("nguyen van do", limit),
            ["1", "2", "3", "4"],
            "{limit}"
        );
        assert_eq!(
            stage.find("Nguyễn Văn Đỗ", limit),
            ["2", "3", "1", "4"],
            "{limit}"
        );
        assert_eq!(
            stage.find("ĐỖ nguyễn", limit),
            ["2", "3", "1", "4"],
            "any order, {limit}"
        );
        assert_eq!(
            stage.find("thị mẫ", limit),
            ["5"],
            "the last word may be begun"
        );
        assert_eq!(stage.find("van nguyen x", limit), [""; 0]);
        assert_eq!(
            stage.find("\"*) OR (", limit),
            [""; 0],
            "no language of its own"
        );
    }
    stage.apply(&[copy("2", 20, 1, false, Some("Lê Văn Tám"))]);
    assert_eq!(
        stage.find("Đỗ", 10),
        ["3", "1", "4"],
        "the former name is forgotten"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// However the two lanes are mixed, the end is what the hub said last of each subject.
    #[test]
    fn the_newest_wins_in_every_mixture(
        said in prop::collection::vec((0..4u8, any::<bool>()), 1..12),
        begun in 0..12usize,
        turns in prop::collection::vec(any::<bool>(), 0..40),
    ) {
        // The hub's history: changes of four subjects; at one moment a load of what there is then.
        let begun = begun.min(said.len());
        let (mut p2, mut p4, mut state) = (Vec::new(), Vec::new(), [None; 4]);
        let mut version = 100;
        for (n, (subject, there)) in said.iter().enumerate() {
            if n == begun {
                version += 1;
            }
            version += 1;
            state[usize::from(*subject)] = there.then_some(version);
            if n < begun {
                continue;
            }
            p2.push((*subject, version, *there));
        }
        // The load begins before the first of the changes that follow it, and looks at each subject
        // at some later moment: here, at the end.
        for (subject, there) in state.iter().enumerate() {
            version += 1;
            if there.is_some() {
                p4.push((subject as u8, version));
            }
        }
        let name = |subject: u8| format!("s{subject}");
        let mut lanes = [
            p2.iter().map(|&(subject, version, there)| {
                copy(&name(subject), version, 100, false, there.then_some("x"))
            }).collect::<Vec<_>>(),
            std::iter::once(load(100, 0, false))
                .chain(p4.iter().map(|&(subject, version)| copy(&name(subject), version, 100, true, Some("x"))))
                .chain([load(100, 4, true)])
                .collect(),
        ];
        lanes.iter_mut().for_each(|lane| lane.reverse());
        let mut stage = Stage::new();
        for turn in turns {
            if let Some(down) = lanes[usize::from(turn)].pop() {
                stage.apply(&[down]);
            }
        }
        for lane in &mut lanes {
            while let Some(down) = lane.pop() {
                stage.apply(&[down]);
            }
        }
        stage.tidy();
        let there: Vec<String> = stage.read(&["s0", "s1", "s2", "s3"]).into_iter().map(|(subject, _)| subject).collect();
        let expected: Vec<String> = (0..4u8).filter(|subject| state[usize::from(*subject)].is_some()).map(name).collect();
        prop_assert_eq!(there, expected);
    }
}
