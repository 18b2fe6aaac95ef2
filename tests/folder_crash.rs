//! Kind `folder` with the real program: SIGKILL at any moment with files in many formats, and a
//! share that is unmounted and mounted again. `ROUNDS=1000` makes the long form.
#![cfg(all(feature = "edge", feature = "hub"))]
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

#[path = "bed/one_box.rs"]
#[allow(dead_code)]
mod one_box;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use one_box::{AGENCY, XA, configure, one_box, subjects};
use rig::{Process, Rig, dossier, tramd, wait_for};
use zip::write::{SimpleFileOptions, ZipWriter};

const LONG: Duration = Duration::from_secs(90);
const FIELDS: [&str; 10] = [
    "ma_ho_so",
    "ma_tthc",
    "co_quan_tiep_nhan",
    "co_quan_giai_quyet",
    "nguoi_nop.loai",
    "nguoi_nop.ho_ten",
    "ngay_tiep_nhan",
    "trang_thai_goc",
    "trang_thai_chuan",
    "le_phi",
];

/// A box with a drop folder of dossiers and one of station files.
fn rig_with_folders() -> Rig {
    let rig = one_box();
    for folder in ["ho-so", "tram"] {
        fs::create_dir(rig.folder.path().join(folder)).unwrap();
    }
    let sources = "[[source]]\nname = \"ho-so\"\nkind = \"folder\"\ndataset = \"ho_so_tthc\"\npath = \"../../ho-so\"\nrescan = \"1 s\"\n\
                   [[source]]\nname = \"tram\"\nkind = \"folder\"\ndataset = \"quan_trac_moi_truong\"\npath = \"../../tram\"\nrescan = \"1 s\"\n";
    configure(&rig, "20-folder.toml", sources);
    rig
}

/// Names of the files below a folder, without the reasons.
fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => names.extend(files(&entry.path())),
            false => names.push(entry.file_name().into_string().unwrap()),
        }
    }
    names.retain(|name| !name.ends_with(".reason.txt"));
    names
}

/// Why files of a drop folder were refused.
fn reasons(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder.join("refused")).into_iter().flatten();
    let paths = files.map(|file| file.unwrap().path());
    let reasons = paths.filter(|path| path.extension().is_some_and(|end| end == "txt"));
    let texts = reasons.filter(|path| path.to_string_lossy().ends_with(".reason.txt"));
    texts
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

fn code(n: u32) -> String {
    format!("{AGENCY}-261120-{n:06}")
}

fn cells(n: u32) -> [String; 10] {
    let text = |text: &str| text.to_owned();
    [
        code(n),
        text("1.001193"),
        text(AGENCY),
        text(AGENCY),
        text("ca_nhan"),
        text("Lê Thị Mận"),
        text("20/11/2026 08:12"),
        text("Đang thụ lý"),
        text("DANG_XU_LY"),
        text("1"),
    ]
}

fn csv(numbers: &[u32]) -> Vec<u8> {
    let mut text = FIELDS.join(";") + "\n";
    for n in numbers {
        writeln!(text, "{}", cells(*n).join(";")).unwrap();
    }
    text.into_bytes()
}

fn xlsx(numbers: &[u32]) -> Vec<u8> {
    let mut rows = String::new();
    let heading = FIELDS.map(str::to_owned);
    for (row, cells) in std::iter::once(heading)
        .chain(numbers.iter().map(|n| cells(*n)))
        .enumerate()
    {
        write!(rows, "<row r=\"{}\">", row + 1).unwrap();
        for (column, cell) in (b'A'..).zip(cells) {
            let column = char::from(column);
            write!(
                rows,
                "<c r=\"{column}{}\" t=\"inlineStr\"><is><t>{cell}</t></is></c>",
                row + 1
            )
            .unwrap();
        }
        rows.push_str("</row>");
    }
    let sheet = format!("<worksheet><sheetData>{rows}</sheetData></worksheet>");
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in [
        (
            "_rels/.rels",
            "<Relationships><Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>",
        ),
        (
            "xl/workbook.xml",
            "<workbook xmlns:r=\"r\"><sheets><sheet name=\"a\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>",
        ),
        (
            "xl/_rels/workbook.xml.rels",
            "<Relationships><Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" Target=\"worksheets/sheet1.xml\"/></Relationships>",
        ),
        ("xl/worksheets/sheet1.xml", &sheet),
    ] {
        writer
            .start_file(name, SimpleFileOptions::default())
            .unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Dossiers in each of four formats, and a station file; five files with nine records.
fn drop_files(root: &Path, batch: u32) {
    let n = batch * 8;
    let json = |n: u32| dossier(AGENCY, n).replace(&rig_code(n), &code(n));
    let minute = format!("{:02}{:02}00", batch / 60 % 24, batch % 60);
    let station = format!("pH\t7.2\t-\t20261120{minute}\t00\r\n");
    let day = batch / 1440;
    let all: [(String, Vec<u8>); 5] = [
        (format!("ho-so/{n}.json"), json(n).into_bytes()),
        (
            format!("ho-so/{n}.ndjson"),
            format!("{}\n{}\n{}\n", json(n + 1), json(n + 2), json(n + 3)).into_bytes(),
        ),
        (format!("ho-so/{n}.csv"), csv(&[n + 4, n + 5])),
        (format!("ho-so/{n}.xlsx"), xlsx(&[n + 6, n + 7])),
        (
            format!("tram/TNI_KCNA_NUO{day:03}_20261120{minute}.txt"),
            station.into_bytes(),
        ),
    ];
    for (at, (name, content)) in all.into_iter().enumerate() {
        let path = root.join(&name);
        match at % 2 {
            // Written where it stands, in two parts.
            0 => {
                let (first, second) = content.split_at(content.len() / 2);
                let mut file = fs::File::create(path).unwrap();
                file.write_all(first).unwrap();
                std::thread::sleep(Duration::from_millis(5));
                file.write_all(second).unwrap();
            }
            _ => {
                let part = root.join(format!("{name}.tmp"));
                fs::write(&part, content).unwrap();
                fs::rename(part, path).unwrap();
            }
        }
    }
}

/// The code that `dossier` gives.
fn rig_code(n: u32) -> String {
    let record: serde_json::Value = serde_json::from_str(&dossier(AGENCY, n)).unwrap();
    record["ma_ho_so"].as_str().unwrap().to_owned()
}

/// How often each subject stands at the hub.
fn at_hub(rig: &Rig) -> BTreeMap<String, u32> {
    rig.wait_until_drained(XA, LONG);
    subjects(rig, "")
}

#[test]
fn killed_at_any_moment_it_loses_and_doubles_nothing() {
    let rounds: u32 = std::env::var("ROUNDS").map_or(12, |rounds| rounds.parse().unwrap());
    let mut rig = rig_with_folders();
    let root = rig.folder.path().to_owned();
    rig.start_box(XA);
    let batches_each = 3;
    for round in 0..rounds {
        let root = root.clone();
        let writer = std::thread::spawn(move || {
            for batch in round * batches_each..(round + 1) * batches_each {
                drop_files(&root, batch);
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        std::thread::sleep(Duration::from_millis(u64::from(round * 83 % 900)));
        rig.process(XA).signal(Signal::SIGKILL);
        rig.kill_box(XA);
        rig.start_box(XA);
        writer.join().unwrap();
    }
    let batches = rounds * batches_each;
    let done = || files(&root.join("ho-so/done")).len() + files(&root.join("tram/done")).len();
    let refused = || [reasons(&root.join("ho-so")), reasons(&root.join("tram"))].concat();
    wait_for("all files are taken", LONG, || {
        assert!(refused().is_empty(), "{:?}", refused());
        done() == batches as usize * 5
    });
    let at_hub = at_hub(&rig);
    let twice: Vec<_> = at_hub.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(at_hub.len(), batches as usize * 9);
}

/// The box in a mount namespace of its own, so that nothing of the machine changes.
struct Share {
    pid: u32,
    share: PathBuf,
    place: PathBuf,
}

impl Share {
    fn inside(&self, command: &[&str]) -> bool {
        let pid = self.pid.to_string();
        let output = Command::new("nsenter")
            .args(["--mount", "--target", &pid])
            .args(command)
            .output();
        output.is_ok_and(|output| output.status.success())
    }

    fn mount(&self) -> bool {
        let (share, place) = (self.share.to_str().unwrap(), self.place.to_str().unwrap());
        self.inside(&["mount", "--bind", share, place])
    }

    fn unmount(&self) -> bool {
        self.inside(&["umount", "--lazy", self.place.to_str().unwrap()])
    }
}

#[test]
fn a_share_that_is_unmounted_and_mounted_again_loses_and_doubles_nothing() {
    let mut rig = rig_with_folders();
    let root = rig.folder.path().to_owned();
    let share = root.join("share");
    for folder in ["share/ho-so", "share/tram"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let log = root.join("xa.log");
    let program = tramd().get_program().to_owned();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private"])
        .arg(program)
        .args(["run", "--config"])
        .arg(rig.boxes[XA].folder.join("tramd.toml"));
    let process = Process::start(XA, &mut command, &log);
    let pid = process.pid();
    let namespace = |of: String| fs::read_link(format!("/proc/{of}/ns/mnt")).ok();
    let own = namespace("self".to_owned());
    std::thread::sleep(Duration::from_millis(300));
    let shares = [("ho-so", "ho-so"), ("tram", "tram")].map(|(from, place)| Share {
        pid,
        share: share.join(from),
        place: root.join(place),
    });
    rig.boxes.get_mut(XA).unwrap().process = Some(process);
    if namespace(pid.to_string()) == own || !shares.iter().all(Share::mount) {
        println!("SKIPPED: no mount namespace can be made here");
        return;
    }
    let batches = 6;
    for batch in 0..batches {
        drop_files(&share, batch);
        // In the middle of the work, or before it, or after it.
        std::thread::sleep(Duration::from_millis(u64::from(batch) * 400));
        assert!(shares.iter().all(Share::unmount));
        std::thread::sleep(Duration::from_millis(1_200));
        assert!(shares.iter().all(Share::mount));
    }
    let done = || files(&share.join("ho-so/done")).len() + files(&share.join("tram/done")).len();
    wait_for("all files are taken", LONG, || {
        done() == batches as usize * 5
    });
    let refused = [reasons(&share.join("ho-so")), reasons(&share.join("tram"))].concat();
    assert!(refused.is_empty(), "{refused:?}");
    let at_hub = at_hub(&rig);
    let twice: Vec<_> = at_hub.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(at_hub.len(), batches as usize * 9);
}
