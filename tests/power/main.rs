//! Power cuts under the real programs, by methods that drop what was not synced. SIGKILL proves nothing
//! of the kind: SQLite passes it without syncing at all. So each proof has its negative control, the
//! same cuts with `synchronous=NORMAL`, which must lose something.
//!
//! `POWER_CUTS=20000` makes the box's and the hub's cuts so many; only root can mount.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot set its stage has failed; it waits for real processes"
)]

mod calls;
mod disk;
mod office;

#[path = "../sim/dice.rs"]
#[allow(dead_code)]
mod dice;
#[path = "../e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dice::Dice;
use disk::{Disk, FileSystem};
use office::{Lost, Office};
use rig::{Broker, Process, Rig, wait_for};
use serde_json::Value;

const XA: &str = "xa-tan-bien";
const AGENCY: &str = "H53.12";
/// The programs work so long at most between a start and the cut.
const WORK_MS_MAX: u64 = 120;
/// A control must have lost something after so many cuts.
const CONTROL_CUTS: u32 = 40;
const PATIENCE: Duration = Duration::from_secs(120);

/// What lies on the disk whose power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Box,
    Hub,
}

fn cuts(usual: u32) -> u32 {
    std::env::var("POWER_CUTS").map_or(usual, |count| count.parse().expect("a number"))
}

/// Says that the work is over, also when the test fails meanwhile.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Stage {
    rig: Rig,
    disk: Disk,
    office: Office,
    dice: Dice,
    who: Who,
}

impl Stage {
    fn set(who: Who, kind: FileSystem, is_weak: bool) -> Stage {
        let seed = std::process::id().into();
        println!("{who:?} on {kind:?}, weak: {is_weak}, seed {seed}");
        let mut rig = Rig::start(Broker::Embedded);
        let port = rig.port;
        rig.add_box(XA, AGENCY, port);
        let disk = Disk::make(kind, rig.folder.path());
        let place = disk.folder.to_str().unwrap();
        match who {
            Who::Box => {
                let text = format!("[store]\npath = \"{place}/box.db\"\n");
                let file = rig.boxes[XA].folder.join("tramd.d/20-disk.toml");
                fs::write(file, text).unwrap();
            }
            Who::Hub => {
                rig.kill_hub();
                move_hub_to(&rig, place);
            }
        }
        if is_weak {
            rig.set("LIENTHONG_WEAK_SYNC", "1");
        }
        let files = match who {
            Who::Box => rig.hub_folder().join("blobs"),
            Who::Hub => disk.folder.join("blobs"),
        };
        rig.start_hub();
        rig.start_box(XA);
        let office = Office::new(AGENCY, rig.boxes[XA].http_port, files, seed);
        Stage {
            rig,
            disk,
            office,
            dice: Dice::new(seed + 1),
            who,
        }
    }

    /// Some work, then the cut in the middle of it, then a start; what was promised must be there.
    fn cut_once(&mut self) -> Result<(), Lost> {
        let (begun, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let work = Duration::from_millis(self.dice.below(WORK_MS_MAX));
        let until = Instant::now() + PATIENCE;
        let before = match self.who {
            Who::Box => 0,
            Who::Hub => received(&self.rig),
        };
        thread::scope(|both| {
            let _ended = Ended(&stop);
            let office = &mut self.office;
            both.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    office.work(&begun, &stop);
                    thread::sleep(Duration::from_millis(2));
                }
            });
            let is_at_work = || match self.who {
                Who::Box => begun.load(Ordering::Relaxed),
                Who::Hub => before < received(&self.rig),
            };
            while !is_at_work() {
                assert!(Instant::now() < until, "{:?} takes nothing", self.who);
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(work);
            let process = take(&mut self.rig, self.who);
            self.disk.cut(process);
        });
        match self.who {
            Who::Box => {
                self.rig.launch_box(XA);
                self.office.ask_again()
            }
            Who::Hub => {
                let (promised, kept) = (received(&self.rig), self.applied());
                // A box that runs on would wait longer and longer before it tries again.
                self.rig.kill_box(XA);
                self.rig.start_hub();
                self.rig.start_box(XA);
                match promised <= kept {
                    true => Ok(()),
                    false => Err(Lost(format!("receipts to {promised}, kept to {kept}"))),
                }
            }
        }
    }

    /// How many entries of the box the hub has, by its own status while it does not run.
    fn applied(&self) -> u64 {
        let status = self.rig.trucd(&["status", "--json"], 0);
        let status: Value = serde_json::from_str(&status).unwrap();
        let logs = status["boxes"][0]["logs"].as_array().unwrap();
        let logs = logs.iter().filter(|log| log["current"] == true);
        logs.map(|log| log["applied"].as_u64().unwrap()).sum()
    }

    fn drain(&mut self) {
        self.office.finish();
        wait_for("the box has receipts for everything", PATIENCE, || {
            self.rig.waiting(XA) == 0
        });
    }

    /// Everything that the box said it has is at the hub, once and in whole.
    fn check(mut self) {
        self.drain();
        wait_for("all files are at the hub", PATIENCE, || {
            self.office.is_file_at_hub()
        });
        self.rig.assert_exactly(XA, AGENCY, self.office.taken);
        self.rig.trucd(&["verify", "--attachments"], 0);
        println!(
            "{} records, {} files",
            self.office.taken,
            self.office.files.len()
        );
    }
}

/// How many entries the box has a receipt for.
fn received(rig: &Rig) -> u64 {
    let status = rig.status(XA);
    let lanes = status["lanes"].as_array().unwrap();
    lanes
        .iter()
        .map(|lane| lane["received"].as_u64().unwrap())
        .sum()
}

fn take(rig: &mut Rig, who: Who) -> Process {
    match who {
        Who::Box => rig.boxes.get_mut(XA).unwrap().process.take().unwrap(),
        Who::Hub => rig.take_hub().unwrap(),
    }
}

fn move_hub_to(rig: &Rig, place: &str) {
    let folder = rig.hub_folder();
    for file in fs::read_dir(&folder).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        if name.starts_with("trucd.db") {
            let moved = format!("{place}/{name}");
            fs::copy(file.path(), &moved).unwrap();
            fs::File::open(moved).unwrap().sync_all().unwrap();
            fs::remove_file(file.path()).unwrap();
        }
    }
    fs::File::open(place).unwrap().sync_all().unwrap();
    let path = folder.join("trucd.toml");
    let text = fs::read_to_string(&path).unwrap();
    let moved = text.replace("\"trucd.db\"", &format!("\"{place}/trucd.db\""));
    assert_ne!(
        text, moved,
        "the configuration names its database otherwise"
    );
    fs::write(path, moved).unwrap();
    std::os::unix::fs::symlink(format!("{place}/trucd.db"), folder.join("trucd.db")).unwrap();
}

fn nothing_is_lost(who: Who, kind: FileSystem, usual: u32) {
    let mut stage = Stage::set(who, kind, false);
    for number in 0..cuts(usual) {
        if let Err(Lost(what)) = stage.cut_once() {
            panic!("cut {number}: {what}");
        }
    }
    stage.check();
}

/// The negative control.
fn something_is_lost_without_syncing(who: Who) {
    for kind in [FileSystem::Ext4, FileSystem::Xfs] {
        let mut stage = Stage::set(who, kind, true);
        let is_lost = (0..CONTROL_CUTS).any(|_| stage.cut_once().is_err());
        assert!(is_lost, "{kind:?}: cuts that lose nothing prove nothing");
    }
}

#[test]
fn a_box_on_ext4_keeps_what_it_accepted() {
    nothing_is_lost(Who::Box, FileSystem::Ext4, 250);
}

#[test]
fn a_box_on_xfs_keeps_what_it_accepted() {
    nothing_is_lost(Who::Box, FileSystem::Xfs, 250);
}

#[test]
fn a_hub_on_ext4_keeps_what_it_gave_receipts_for() {
    nothing_is_lost(Who::Hub, FileSystem::Ext4, 100);
}

#[test]
fn a_hub_on_xfs_keeps_what_it_gave_receipts_for() {
    nothing_is_lost(Who::Hub, FileSystem::Xfs, 100);
}

#[test]
fn the_cuts_take_from_a_box_what_it_did_not_sync() {
    something_is_lost_without_syncing(Who::Box);
}

#[test]
fn the_cuts_take_from_a_hub_what_it_did_not_sync() {
    something_is_lost_without_syncing(Who::Hub);
}
