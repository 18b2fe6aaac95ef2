//! The power is cut before every storage call of a program, one after the other: at the first start,
//! while it takes in, backs up, restores, migrates.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rusqlite::Connection;

use crate::disk::{Disk, FileSystem};
use crate::office::{Office, name_of};
use crate::rig::{Broker, Process, Rig, run, tramd, trucd};
use crate::{AGENCY, XA};

/// What changes a file, a folder, or what of them is on the disk.
const CALLS: [&str; 12] = [
    "write",
    "pwrite64",
    "fdatasync",
    "fsync",
    "ftruncate",
    "fallocate",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "mkdir",
    "copy_file_range",
];
const A_MOMENT: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// So many of the calls of one kind are tried, evenly spread; all of them with `POWER_CUTS`.
fn most() -> usize {
    match std::env::var_os("POWER_CUTS") {
        Some(_) => usize::MAX,
        None => 12,
    }
}

/// A disk that is set back to what it was before each cut.
struct Calls {
    rig: Rig,
    disk: Disk,
}

impl Calls {
    /// A box whose store is on the disk, and whose hub is out of reach.
    fn of_box(kind: FileSystem) -> Calls {
        let mut rig = Rig::start(Broker::Embedded);
        let port = rig.port;
        rig.add_box(XA, AGENCY, port);
        rig.kill_hub();
        let disk = Disk::make(kind, rig.folder.path());
        let text = format!("[store]\npath = \"{}/box.db\"\n", disk.folder.display());
        fs::write(rig.boxes[XA].folder.join("tramd.d/20-disk.toml"), text).unwrap();
        Calls { rig, disk }
    }

    fn office(&self) -> Office {
        let files = self.rig.hub_folder().join("blobs");
        Office::new(AGENCY, self.rig.boxes[XA].http_port, files, 1)
    }

    fn path(&self, name: &str) -> String {
        self.disk.folder.join(name).to_str().unwrap().to_owned()
    }

    fn config(&self) -> PathBuf {
        self.rig.boxes[XA].folder.join("tramd.toml")
    }

    /// Runs a program to its end, and then once for each call, until the call. `work` stays with it while
    /// it runs, `check` looks at what the disk holds after the cut.
    fn each<W>(
        &mut self,
        program: impl Fn(&Calls) -> Command,
        work: impl Fn(&Calls, &mut Process) -> W,
        check: impl Fn(&mut Calls, W),
    ) {
        self.disk.remember();
        let log = self.rig.folder.path().join("strace.log");
        let trace = self.rig.folder.path().join("trace");
        let mut process = Process::start("strace", &mut traced(program(self), &trace), &log);
        work(self, &mut process);
        let ended = process.wait(PATIENCE).expect("the program ends");
        assert!(ended.success(), "{ended}");
        let mut cuts = 0;
        for (name, count) in counts(&fs::read_to_string(trace).unwrap()) {
            let tried = count.min(most());
            for number in (1..=tried).map(|turn| turn * count / tried) {
                self.disk.set_back();
                let mut command = killed_at(&name, number, program(self));
                let mut process = Process::start("strace", &mut command, &log);
                let seen = work(self, &mut process);
                let ended = process.wait(PATIENCE).expect("the program ends");
                self.disk.lose_unsynced();
                println!("{name} {number} of {count}: {ended}");
                // Threads do not always share their work in the same way.
                assert!(was_killed(ended) || ended.success(), "{ended}");
                check(self, seen);
                cuts += usize::from(was_killed(ended));
            }
        }
        assert!(10 < cuts, "the program hardly writes");
    }
}

fn was_killed(ended: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    ended.signal() == Some(9)
}

/// The tracer is a child of the program, so that signals and the exit status are the program's own.
fn strace(options: [String; 4], program: Command) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-qq"]).args(options);
    strace.arg(program.get_program()).args(program.get_args());
    strace
}

fn traced(program: Command, trace: &Path) -> Command {
    let out = trace.to_str().unwrap().to_owned();
    let calls = format!("--trace={}", CALLS.join(","));
    strace(
        ["-o".to_owned(), out, calls, "--signal=none".to_owned()],
        program,
    )
}

/// The program, killed before such a call of a thread; strace counts each kind of call for itself.
fn killed_at(name: &str, number: usize, program: Command) -> Command {
    let null = "/dev/null".to_owned();
    let inject = format!("--inject={name}:signal=KILL:when={number}");
    strace(
        ["-o".to_owned(), null, format!("--trace={name}"), inject],
        program,
    )
}

/// How many calls of each kind the busiest thread made.
fn counts(trace: &str) -> BTreeMap<String, usize> {
    let mut by_thread = BTreeMap::new();
    for line in trace.lines().filter(|line| !line.contains("resumed>")) {
        let mut words = line.split_whitespace();
        let thread = words.next().unwrap().to_owned();
        let call = words.next().unwrap_or_default();
        if let Some((name, _)) = call.split_once('(') {
            *by_thread.entry((name.to_owned(), thread)).or_insert(0) += 1;
        }
    }
    let mut counts = BTreeMap::new();
    for ((name, _), count) in by_thread {
        let most = counts.entry(name).or_insert(0);
        *most = count.max(*most);
    }
    counts
}

/// Asks for an orderly end, unless it is over.
fn end(process: &mut Process) {
    if process.wait(A_MOMENT).is_none() {
        process.signal(nix::sys::signal::Signal::SIGTERM);
    }
}

/// Files that are named by their digests are whole.
fn assert_whole(blobs: &Path) -> usize {
    let mut count = 0;
    for group in fs::read_dir(blobs).into_iter().flatten().flatten() {
        for file in fs::read_dir(group.path()).into_iter().flatten().flatten() {
            let name = file.file_name().into_string().unwrap();
            if name.len() == 64 {
                assert_eq!(name_of(&fs::read(file.path()).unwrap()), name);
                count += 1;
            }
        }
    }
    count
}

fn stored(path: &Path) -> i64 {
    let store = Connection::open(path).unwrap();
    let count = store.query_row("SELECT coalesce(sum(entries), 0) FROM outbox", [], |row| {
        row.get(0)
    });
    count.unwrap()
}

#[test]
fn a_cut_at_any_call_of_the_first_start_and_of_intake_loses_nothing_accepted() {
    let mut calls = Calls::of_box(FileSystem::Ext4);
    calls.each(
        |calls| {
            let mut command = tramd();
            command.args(["run", "--config"]).arg(calls.config());
            command
        },
        |calls, process| {
            let mut office = calls.office();
            office.do_some(8, || process.wait(A_MOMENT).is_none());
            end(process);
            office
        },
        |calls, office| {
            calls.rig.start_box(XA);
            office.ask_again().unwrap();
            assert_whole(&calls.disk.folder.join("blobs"));
            let trouble = &calls.rig.status(XA)["store"]["trouble"];
            assert!(trouble.is_null(), "{trouble}");
            calls.rig.kill_box(XA);
        },
    );
}

fn take_in(calls: &mut Calls, deeds: u32) {
    calls.rig.start_box(XA);
    calls.office().do_some(deeds, || true);
    calls.rig.kill_box(XA);
}

#[test]
fn a_cut_at_any_call_of_a_backup_leaves_a_whole_one_or_none() {
    let mut calls = Calls::of_box(FileSystem::Xfs);
    take_in(&mut calls, 12);
    let count = stored(Path::new(&calls.path("box.db")));
    // Another place for the same box, where a backup is tried.
    let trial = calls.rig.folder.path().join("trial");
    run(
        Command::new("cp")
            .arg("-r")
            .arg(&calls.rig.boxes[XA].folder)
            .arg(&trial),
        0,
    );
    let store = trial.join("trial.db");
    let text = format!("[store]\npath = \"{}\"\n", store.display());
    fs::write(trial.join("tramd.d/20-disk.toml"), text).unwrap();
    let restored = |archive: &str| {
        let config = trial.join("tramd.toml");
        run(
            tramd()
                .args(["restore", "--replace", archive, "--config"])
                .arg(config),
            0,
        );
        assert_eq!(stored(&store), count, "{archive}");
    };
    calls.each(
        |calls| {
            let mut command = tramd();
            command.args(["backup", &calls.path("xa.tar.zst"), "--config"]);
            command.arg(calls.config());
            command
        },
        |_, _| (),
        |calls, ()| {
            if Path::new(&calls.path("xa.tar.zst")).exists() {
                restored(&calls.path("xa.tar.zst"));
            }
            let again = calls.path("again.tar.zst");
            run(
                tramd()
                    .args(["backup", &again, "--config"])
                    .arg(calls.config()),
                0,
            );
            restored(&again);
        },
    );
}

#[test]
fn a_cut_at_any_call_of_a_restore_leaves_the_old_store_or_the_new() {
    let mut calls = Calls::of_box(FileSystem::Xfs);
    take_in(&mut calls, 12);
    let blobs = calls.disk.folder.join("blobs");
    let files = assert_whole(&blobs);
    assert!(0 < files);
    let store = PathBuf::from(calls.path("box.db"));
    let old = stored(&store);
    let archive = calls.path("xa.tar.zst");
    run(
        tramd()
            .args(["backup", &archive, "--config"])
            .arg(calls.config()),
        0,
    );
    take_in(&mut calls, 20);
    // The files are in the archive alone.
    fs::remove_dir_all(&blobs).unwrap();
    let new = stored(&store);
    assert_ne!(old, new);
    let restore = |calls: &Calls| {
        let mut command = tramd();
        command.args(["restore", "--replace", &archive, "--config"]);
        command.arg(calls.config());
        command
    };
    calls.each(
        restore,
        |_, _| (),
        |calls, ()| {
            calls.rig.start_box(XA);
            let waiting = calls.rig.waiting(XA) as i64;
            calls.rig.kill_box(XA);
            assert!(
                waiting == old || waiting == new,
                "{waiting} of {old} or {new}"
            );
            if waiting == old {
                assert_eq!(assert_whole(&blobs), files);
            }
            run(&mut restore(calls), 0);
            calls.rig.start_box(XA);
            assert_eq!(calls.rig.waiting(XA) as i64, old);
            assert_eq!(assert_whole(&blobs), files);
            calls.rig.kill_box(XA);
        },
    );
}

#[test]
fn a_cut_at_any_call_of_a_migration_leaves_the_old_schema_or_the_new() {
    let mut rig = Rig::start(Broker::Embedded);
    rig.kill_hub();
    let disk = Disk::make(FileSystem::Ext4, rig.folder.path());
    crate::move_hub_to(&rig, disk.folder.to_str().unwrap());
    let path = disk.folder.join("trucd.db");
    let packed = fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/store/hub-v1.db.zst"
    ));
    let old = zstd::decode_all(packed.unwrap().as_slice()).unwrap();
    for name in ["trucd.db-wal", "trucd.db-shm"] {
        let _ = fs::remove_file(disk.folder.join(name));
    }
    fs::write(&path, old).unwrap();
    let facts = |path: &Path| -> (i64, i64) {
        let store = Connection::open(path).unwrap();
        let number = |sql: &str| store.query_row(sql, [], |row| row.get(0)).unwrap();
        (
            number("PRAGMA user_version"),
            number("SELECT count(*) FROM entry"),
        )
    };
    let (version, entries) = facts(&path);
    assert_eq!(version, 1);
    let mut calls = Calls { rig, disk };
    calls.each(
        |calls| {
            let mut command = trucd();
            command
                .args(["run", "--config"])
                .arg(calls.rig.hub_folder().join("trucd.toml"));
            command
        },
        |calls, process| {
            let is_up = || std::net::TcpStream::connect(("127.0.0.1", calls.rig.port)).is_ok();
            while process.wait(A_MOMENT).is_none() && !is_up() {
                std::thread::sleep(Duration::from_millis(5));
            }
            end(process);
        },
        |calls, ()| {
            let found = facts(&path);
            assert!(found.0 <= 2 && found.1 == entries, "{found:?}");
            calls.rig.start_hub();
            calls.rig.kill_hub();
            assert_eq!(facts(&path), (2, entries));
        },
    );
}
