//! Three offices, a hub and Mosquitto over two weeks in which one office after the other is away, with
//! SIGKILLs at random moments all along. `STORY_SEED` repeats the moments of a run; with
//! `STORY_STRIKES=all` no chance to strike is left out, and a run takes twice as long.
//!
//! The weeks pass by starting the programs on a later day (libfaketime); where that is not possible
//! everything happens within one day.

mod stage;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::rig::{Rig, faketime, free_port, wait_for};
use stage::{
    A, Axis, B, C, Chaos, LONG, OFFICES, call, catalogue_of_its_own, catalogue_version, day_of,
    dossier, files_with, found, golden, inbox, letter, number_of, post, stage, statuses,
};

/// Whom the records are about; written so nowhere else.
const PERSON: &str = "Phùng Thị Quỳnh Trâm";
const FORGOTTEN: &str = "Vương Đắc Bảo Lộc";
const DOSSIERS: u32 = 40;
const STATION_FILE: &str = "TNI_KCNA_NUO001_20261120080500.txt";

#[test]
fn offices_work_together_through_two_weeks_of_outages() {
    let mut story = Story::begin();
    story.copies_and_a_catalogue_of_a_later_day();
    story.two_offices_go_away();
    story.an_office_is_merged();
    story.one_is_back_without_a_network();
    story.what_was_taken_away_leaves_no_trace();
    story.letters_arrive_byte_for_byte();
    story.statuses_go_back();
    story.all_is_as_it_should_be();
}

struct Story {
    rig: Rig,
    chaos: Chaos,
    axis: Axis,
    documents: [Vec<u8>; 2],
    station: &'static [u8],
    /// Folder of the catalogue that is published.
    set: PathBuf,
    /// Whether days can pass.
    can_wait: bool,
}

impl Story {
    fn begin() -> Story {
        let chaos = Chaos::new();
        let (axis, axis_port) = (Axis::default(), free_port());
        axis.serve(axis_port);
        let rig = stage(axis_port);
        let other = String::from_utf8(golden("rubbish-before-declaration")).expect("UTF-8");
        let other = other.replace("142/UBND-VP", "143/UBND-VP");
        Story {
            set: catalogue_of_its_own(&rig),
            rig,
            chaos,
            axis,
            documents: [golden("document"), other.into_bytes()],
            station: b"\xef\xbb\xbfCOD\t41,7\tmg/L\t20261120080500\t00\t\n",
            can_wait: faketime().is_some(),
        }
    }

    fn until(&mut self, what: &str, done: impl Fn(&Rig) -> bool) {
        self.chaos.until(&mut self.rig, what, done);
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.rig.boxes[name].folder.clone()
    }

    fn later(&self, days: u32) -> u32 {
        if self.can_wait { days } else { 0 }
    }

    fn publish(&self, effective: &str) {
        let set = self.set.to_str().expect("UTF-8");
        self.rig
            .trucd(&["catalogue", "publish", set, "--effective", effective], 0);
    }

    fn copies_and_a_catalogue_of_a_later_day(&mut self) {
        for agency in ["H53.20", "H53.30"] {
            let rows = ["--rows", "agency=H53.12"];
            let right = [&["grant", "add", agency, "ho_so_tthc"][..], &rows].concat();
            self.rig.trucd(&right, 0);
        }
        for number in 0..DOSSIERS {
            let person = if number == 7 { FORGOTTEN } else { PERSON };
            let record = dossier(number, person);
            post(&self.rig, A, "/v1/records/ho_so_tthc", &record);
        }
        let dropped = self.folder(A).join("quan-trac").join(STATION_FILE);
        fs::write(dropped, self.station).expect("written");
        self.until("B and C have copies", |rig| {
            [B, C].iter().all(|name| {
                found(rig, name, "phung thi quynh tram") == Some(20)
                    && found(rig, name, FORGOTTEN) == Some(1)
            })
        });
        let text = fs::read_to_string(self.set.join("ho_so_tthc.toml")).expect("shipped");
        let text = text.replacen("id = \"ho_so_tthc\"", "id = \"ho_so_moi\"", 1);
        let text = text.replacen("code = \"D02\"", "code = \"D91\"", 1);
        fs::write(self.set.join("ho_so_moi.toml"), text).expect("written");
        self.publish(&day_of(&self.rig, A, self.later(5).into()));
        let which = if self.can_wait { "next" } else { "current" };
        self.until("every box has the catalogue", |rig| {
            OFFICES
                .iter()
                .all(|(name, _)| catalogue_version(rig, name, which) == 1)
        });
    }

    /// A sends and deletes while they are away, and the hub withdraws.
    fn two_offices_go_away(&mut self) {
        [B, C].into_iter().for_each(|name| self.rig.kill_box(name));
        for (name, whom) in [(B, PERSON), (B, FORGOTTEN), (C, FORGOTTEN)] {
            let held = files_with(&self.folder(name), whom);
            assert!(!held.is_empty(), "the search finds what is there");
        }
        self.send(letter("VB-1", 1, "H53.20"));
        for (number, document) in self.documents.iter().enumerate() {
            let path = self.folder(A).join(format!("van-ban/vb-{number}.edxml"));
            fs::write(path, document).expect("written");
        }
        let deleted = dossier(7, FORGOTTEN);
        post(&self.rig, A, "/v1/records/ho_so_tthc?op=delete", &deleted);
        self.rig
            .trucd(&["grant", "withdraw", "H53.20", "ho_so_tthc"], 0);
        self.until("the hub has it all", |rig| {
            let entries = rig.entries(A);
            let count = |kind: &str| {
                entries
                    .iter()
                    .filter(|entry| entry["type"] == *kind)
                    .count()
            };
            count("van_ban_dien_tu/1") == 3
                && count("ho_so_tthc/1") == DOSSIERS as usize + 1
                && count("quan_trac_moi_truong/1") == 1
        });
    }

    /// A letter to an office that has no box, and one after that office has become part of C's.
    fn an_office_is_merged(&mut self) {
        self.pass_to(7);
        self.send(letter("VB-2", 2, "H53.21"));
        self.until("the letter is at the hub", |rig| is_at_hub(rig, "VB-2"));
        let yesterday = day_of(&self.rig, A, -1);
        let agencies = self.set.join("codes/agencies.toml");
        let text = fs::read_to_string(&agencies).expect("shipped");
        let merger = format!(
            "\n[[agency]]\ncode = \"H53.21\"\nname = \"Xã Cũ\"\nvalid_to = \"{yesterday}\"\nreplaced_by = [\"H53.30\"]\n"
        );
        fs::write(&agencies, text + &merger).expect("written");
        self.publish(&day_of(&self.rig, A, 0));
        self.send(letter("VB-3", 3, "000.00.21.H53"));
        self.until("the later letter is at the hub", |rig| {
            is_at_hub(rig, "VB-3")
        });
    }

    /// B lives on what it has: a catalogue whose day has come meanwhile, and the copy.
    fn one_is_back_without_a_network(&mut self) {
        self.pass_to(14);
        self.rig.kill_broker();
        self.rig.start_box(B);
        wait_for("B sees that the catalogue's day has come", LONG, || {
            catalogue_version(&self.rig, B, "current") == 1
        });
        let (_, known) = call(&self.rig, B, "/v1/catalogue");
        assert!(known.to_string().contains("ho_so_moi"), "{known}");
        let copies = found(&self.rig, B, FORGOTTEN);
        assert_eq!(copies, Some(1), "nobody has told it yet");
    }

    fn what_was_taken_away_leaves_no_trace(&mut self) {
        self.rig.start_broker();
        self.rig.start_box(C);
        self.until("B may read no longer", |rig| {
            found(rig, B, PERSON).is_none()
        });
        self.until("C has forgotten one", |rig| {
            found(rig, C, FORGOTTEN) == Some(0)
        });
        wait_for("no byte of it is on their disks", LONG, || {
            self.traces().is_empty()
        });
        let others = found(&self.rig, C, PERSON);
        assert_eq!(others, Some(20), "C still reads the others");
    }

    /// Files that hold what B and C must not have any more.
    fn traces(&self) -> Vec<PathBuf> {
        let forgotten = [FORGOTTEN, "vuong dac bao loc"];
        let withdrawn = [&[PERSON, "phung thi quynh tram"][..], &forgotten].concat();
        let look = |name, whom: &str| files_with(&self.folder(name), whom);
        let mut found: Vec<PathBuf> = withdrawn.iter().flat_map(|whom| look(B, whom)).collect();
        found.extend(forgotten.iter().flat_map(|whom| look(C, whom)));
        found
    }

    fn letters_arrive_byte_for_byte(&mut self) {
        self.until("B's letters are there", |rig| {
            inbox(rig, B).len() == 3 && edxml_files(&rig.boxes[B].folder).len() == 2
        });
        let expected: BTreeSet<Vec<u8>> = self.documents.iter().cloned().collect();
        let handed: BTreeSet<Vec<u8>> = edxml_files(&self.folder(B)).into_iter().collect();
        assert!(handed == expected, "edXML in B's folder as it went in");
        self.until("the successor has its letters", |rig| {
            inbox(rig, C).len() == 2
        });
        let mut letters = inbox(&self.rig, C);
        letters.sort();
        assert_eq!(letters, ["VB-2", "VB-3"]);
        wait_for("the axis has the documents", LONG, || {
            self.axis.documents().len() == 2
        });
        assert!(
            self.axis.documents() == expected,
            "edXML at the axis as it went in"
        );
        let written = format!("luu/NUO001/2026/11/20/{STATION_FILE}");
        let written = fs::read(self.rig.hub_folder().join(written));
        assert_eq!(written.expect("the station's file"), self.station);
    }

    /// What B's software says reaches A: each once, the highest shown, whatever the order.
    fn statuses_go_back(&mut self) {
        let number = number_of(&self.rig, B, "VB-1");
        for (code, expected) in [("06", 201), ("03", 201), ("06", 200), ("02", 201)] {
            let path = format!("/v1/inbox/{number}/status");
            let status = post(&self.rig, B, &path, &json!({ "code": code }));
            assert_eq!(status, expected, "{code}");
            if code == "03" {
                self.chaos.strike(&mut self.rig);
            }
        }
        self.until("A has heard", |rig| statuses(rig, "VB-1").0.len() == 4);
        let (mut codes, shown) = statuses(&self.rig, "VB-1");
        codes.sort();
        assert_eq!(codes, ["01", "02", "03", "06"]);
        assert_eq!(shown, "06");
    }

    fn all_is_as_it_should_be(&mut self) {
        for (name, _) in OFFICES {
            self.rig.wait_until_drained(name, LONG);
            assert_eq!(catalogue_version(&self.rig, name, "current"), 2);
        }
        check_hub(&self.rig);
        // Once more with the files at rest: a checkpoint moves bytes while they are looked for.
        [B, C].into_iter().for_each(|name| self.rig.kill_box(name));
        assert_eq!(self.traces(), Vec::<PathBuf>::new());
        println!(
            "{} strikes, {:?}",
            self.chaos.strikes,
            self.chaos.begun.elapsed()
        );
    }

    fn send(&self, letter: Value) {
        post(&self.rig, A, "/v1/records/van_ban_dien_tu", &letter);
    }

    /// Everything that runs is killed and started on a later day.
    fn pass_to(&mut self, days: u32) {
        let days = self.later(days);
        let rig = &mut self.rig;
        rig.set_days_ahead(days);
        rig.kill_broker();
        rig.kill_hub();
        rig.kill_box(A);
        rig.start_broker();
        rig.start_hub();
        rig.start_box(A);
    }
}

fn is_at_hub(rig: &Rig, id: &str) -> bool {
    rig.entries(A).iter().any(|entry| entry["id"] == id)
}

/// Contents of the documents that were handed out, whole ones only.
fn edxml_files(folder: &Path) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder.join("den")).expect("a folder");
    files
        .filter_map(|file| {
            let path = file.expect("an entry").path();
            let is_whole = path.extension().is_some_and(|kind| kind == "edxml");
            is_whole.then(|| fs::read(&path).expect("a file"))
        })
        .collect()
}

/// The hub's logs: nothing twice, nothing missing, evidence whole.
fn check_hub(rig: &Rig) {
    let dossiers = rig.at_hub(A);
    assert_eq!(dossiers.len(), DOSSIERS as usize);
    for (code, times) in dossiers {
        // The one that was deleted is named twice.
        let expected = if code == crate::rig::code("H53.12", 7) {
            2
        } else {
            1
        };
        assert_eq!(times, expected, "{code}");
    }
    let said: Vec<String> = rig
        .entries(B)
        .iter()
        .filter(|entry| entry["data"]["tai_lieu"] == "VB-1")
        .map(|entry| entry["data"]["trang_thai"].to_string())
        .collect();
    let different: BTreeSet<&String> = said.iter().collect();
    assert_eq!((said.len(), different.len()), (4, 4), "{said:?}");
    rig.verify();
}
