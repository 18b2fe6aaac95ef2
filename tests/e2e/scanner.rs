//! A real clamd with one signature of our own, at a box and at the hub: what it knows is kept by
//! neither, and while it is away nothing is taken unscanned.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lienthong::evidence::sha256;

use crate::rig::{Broker, Process, Rig, TOKEN, agent, wait_for};

const LONG: Duration = Duration::from_secs(60);
const SCANNED: &str = "xa-tan-bien";
const UNSCANNED: &str = "phuong-hai";
const KNOWN_TO_CLAMD: &[u8] = b"MAGN-MA-DOC-THU-NGHIEM";

struct Clamd {
    folder: PathBuf,
    process: Option<Process>,
}

impl Clamd {
    fn new(folder: &Path) -> Clamd {
        let folder = folder.join("clamd");
        fs::create_dir_all(folder.join("db")).expect("a folder");
        let hex: String = KNOWN_TO_CLAMD
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        fs::write(folder.join("db/thu.ndb"), format!("Thu.Mau:0:*:{hex}\n")).expect("written");
        let shown = folder.display();
        let config = format!(
            "Foreground yes\nLocalSocket {shown}/socket\nDatabaseDirectory {shown}/db\nFixStaleSocket yes\n"
        );
        fs::write(folder.join("clamd.conf"), config).expect("written");
        Clamd {
            folder,
            process: None,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    fn start(&mut self) {
        let mut command = Command::new("/usr/sbin/clamd");
        command.arg("-c").arg(self.folder.join("clamd.conf"));
        let log = self.folder.join("log");
        self.process = Some(Process::start("clamd", &mut command, &log));
        wait_for("clamd listens", LONG, || {
            UnixStream::connect(self.socket()).is_ok()
        });
    }

    fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }
}

fn name(content: &[u8]) -> String {
    sha256(content).iter().map(|b| format!("{b:02x}")).collect()
}

/// The box's status for a file that is put, and the code of its problem.
fn put(rig: &Rig, the_box: &str, content: &[u8]) -> (u16, String) {
    let port = rig.boxes[the_box].http_port;
    let mut answer = agent()
        .put(format!(
            "http://127.0.0.1:{port}/v1/blobs/{}",
            name(content)
        ))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/pdf")
        .send(content)
        .expect("the box answers");
    let text = answer.body_mut().read_to_string().unwrap_or_default();
    (answer.status().as_u16(), text)
}

/// Everything that a folder's files hold of the content that clamd knows.
fn holds(folder: &Path) -> bool {
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read(path)
                .unwrap_or_default()
                .windows(KNOWN_TO_CLAMD.len())
                .any(|part| part == KNOWN_TO_CLAMD)
            {
                return true;
            }
        }
    }
    false
}

#[test]
fn what_clamd_knows_is_kept_by_no_box_and_by_no_hub() {
    let mut rig = Rig::start(Broker::Embedded);
    let mut clamd = Clamd::new(rig.folder.path());
    clamd.start();
    let scanner = format!(
        "\n[attachments.scanner]\nclamd = \"{}\"\ntimeout = \"10 s\"\n",
        clamd.socket().display()
    );
    rig.kill_hub();
    let settings = rig.hub_folder().join("trucd.toml");
    let text = fs::read_to_string(&settings).expect("init wrote it");
    fs::write(&settings, text + &scanner).expect("written");
    rig.start_hub();
    for (the_box, agency) in [(SCANNED, "H53.12"), (UNSCANNED, "H53.13")] {
        rig.add_box(the_box, agency, rig.port);
    }
    let drop_in = rig.boxes[SCANNED].folder.join("tramd.d/20-scanner.toml");
    fs::write(drop_in, scanner).expect("written");
    rig.start_box(SCANNED);
    rig.start_box(UNSCANNED);

    // More than a piece of the scanner's stream, with what clamd knows across two pieces.
    let mut bad = vec![b'x'; 64 * 1024 - 7];
    bad.extend_from_slice(KNOWN_TO_CLAMD);
    bad.extend_from_slice(&[b'y'; 100_000]);
    let good = vec![b'z'; 200_000];
    let (status, said) = put(&rig, SCANNED, &bad);
    assert_eq!(status, 422, "{said}");
    assert!(!holds(&rig.boxes[SCANNED].folder), "nothing of it is left");
    assert_eq!(put(&rig, SCANNED, &good).0, 201);
    clamd.kill();
    let later = vec![b'w'; 1_000];
    let (status, said) = put(&rig, SCANNED, &later);
    assert_eq!(status, 503, "{said}");
    clamd.start();
    assert_eq!(put(&rig, SCANNED, &later).0, 201);

    // A box that scans nothing hands it on, and the hub looks for itself.
    assert_eq!(put(&rig, UNSCANNED, &bad).0, 201);
    attach(&rig, UNSCANNED, "H53.13", &bad);
    attach(&rig, SCANNED, "H53.12", &good);
    let hub = rig.hub_folder();
    let kept = |content: &[u8]| {
        let name = name(content);
        hub.join("blobs").join(&name[..2]).join(name).is_file()
    };
    wait_for("the good one is kept", LONG, || kept(&good));
    wait_for("the bad one is set apart", LONG, || {
        fs::read_dir(hub.join("blobs/quarantine")).is_ok_and(|mut files| files.next().is_some())
    });
    assert!(!kept(&bad));
    for (the_box, count) in [(SCANNED, 1), (UNSCANNED, 1)] {
        assert_eq!(rig.at_hub(the_box).len(), count, "records do not wait");
    }
    rig.verify();
}

/// Hands in a dossier that names the file.
fn attach(rig: &Rig, the_box: &str, agency: &str, content: &[u8]) {
    let data: serde_json::Value =
        serde_json::from_str(&crate::rig::dossier(agency, 1)).expect("JSON");
    let event = serde_json::json!({
        "specversion": "1.0", "id": "tep-1", "source": "urn:mot-cua", "type": "ho_so_tthc", "data": data,
        "attachments": [{"name": "don.pdf", "mime": "application/pdf", "bytes": content.len(),
            "sha256": name(content)}],
    });
    let port = rig.boxes[the_box].http_port;
    let answer = agent()
        .post(format!("http://127.0.0.1:{port}/v1/records/ho_so_tthc"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/cloudevents+json")
        .send(event.to_string())
        .expect("the box answers");
    assert_eq!(answer.status(), 201);
}
