//! Kind `ftp` against real clients: curl, lftp, Python's ftplib, and a socket that behaves badly.
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
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use one_box::{AGENCY, SOON, XA, configure, one_box, said, source, subjects};
use rcgen::{CertificateParams, KeyPair};
use rig::{Rig, free_port, run, tramd, wait_for};

const PASSWORD: &str = "mat-khau-thu";
/// Counts are written down every half minute.
const COUNTED: Duration = Duration::from_secs(40);

/// A box that serves FTPS and plain FTP to some stations.
struct Bed {
    rig: Rig,
    plain: u16,
    secure: u16,
}

/// A range of passive ports that nobody else has, most probably.
fn passive_ports(count: u16) -> String {
    let first = 20_000 + free_port() % 12_000;
    format!("{first}-{}", first + count - 1)
}

fn sha256(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn certificate(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]);
    let certificate = params.unwrap().self_signed(&key).unwrap();
    fs::write(folder.join("ftp.crt"), certificate.pem()).unwrap();
    fs::write(folder.join("ftp.key"), key.serialize_pem()).unwrap();
}

impl Bed {
    fn start(stations: u32, more: &str) -> Bed {
        let mut bed = Bed::new(stations, more);
        bed.rig.start_box(XA);
        bed.wait_until_serving();
        bed
    }

    fn new(stations: u32, more: &str) -> Bed {
        let rig = one_box();
        let folder = rig.boxes[XA].folder.clone();
        certificate(&folder);
        let (plain, secure) = (free_port(), free_port());
        let mut text = format!(
            "[[source]]\nname = \"tram-do\"\nkind = \"ftp\"\ndataset = \"quan_trac_moi_truong\"\n\
             path = \"../../ftp\"\nlisten = \"127.0.0.1:{secure}\"\ncertificate = \"../ftp.crt\"\n\
             key = \"../ftp.key\"\nplain = true\nplain_listen = \"127.0.0.1:{plain}\"\n\
             passive_ports = \"{}\"\n{more}\n",
            passive_ports(40)
        );
        for n in 0..stations {
            let sha256 = sha256(PASSWORD);
            text += &format!("[[source.login]]\nname = \"tram-{n}\"\nsha256 = \"{sha256}\"\n");
        }
        configure(&rig, "20-ftp.toml", &text);
        Bed { rig, plain, secure }
    }

    fn wait_until_serving(&self) {
        let port = self.plain;
        wait_for("FTP serves", SOON, || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    fn home(&self, station: u32) -> PathBuf {
        self.rig
            .folder
            .path()
            .join("ftp")
            .join(format!("tram-{station}"))
    }

    fn local(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.rig.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// Names below a station's sub-folder, without the reasons.
    fn files(&self, station: u32, sub: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut folders = vec![self.home(station).join(sub)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => names.push(entry.file_name().into_string().unwrap()),
                }
            }
        }
        names.retain(|name| !name.ends_with(".reason.txt"));
        names.sort();
        names
    }

    /// How often each measurement stands at the hub, once nothing waits.
    fn at_hub(&self) -> BTreeMap<String, u32> {
        self.rig.wait_until_drained(XA, Duration::from_secs(60));
        subjects(&self.rig, "quan_trac")
    }

    fn source(&self, name: &str) -> serde_json::Value {
        source(&self.rig, name)
    }

    fn curl(&self, arguments: &[&str], url: &str) -> Output {
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "--max-time",
            "60",
            "-u",
            &format!("tram-0:{PASSWORD}"),
        ]);
        command.args(arguments).arg(url).output().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("ftp://127.0.0.1:{}/{path}", self.plain)
    }

    fn python(&self, station: u32, script: &str) -> Output {
        let (plain, secure) = (self.plain, self.secure);
        let script = format!(
            "import ftplib, io, ssl, socket, sys\n\
             PLAIN, SECURE, USER, PASSWORD = {plain}, {secure}, 'tram-{station}', '{PASSWORD}'\n\
             def plain():\n    f = ftplib.FTP(); f.connect('127.0.0.1', PLAIN, 30); f.login(USER, PASSWORD); return f\n\
             def secure():\n    c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE\n    \
             f = ftplib.FTP_TLS(context=c); f.connect('127.0.0.1', SECURE, 30); f.login(USER, PASSWORD); f.prot_p(); return f\n\
             {script}"
        );
        Command::new("python3")
            .args(["-c", &script])
            .output()
            .unwrap()
    }
}

fn assert_ok(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{error}");
    said
}

/// A station's file of minute `n`.
fn name(n: u32) -> String {
    format!("HN_KCNA_NUO001_20261120{:02}{:02}00.txt", n / 60, n % 60)
}

fn content(n: u32) -> String {
    let at = format!("20261120{:02}{:02}00", n / 60, n % 60);
    format!(
        "pH\t7.{}\t-\t{at}\t00\r\nCOD\t48.3\tmg/L\t{at}\t00\r\n",
        n % 10
    )
}

/// A client that says exactly what it is told to.
struct Raw {
    control: BufReader<TcpStream>,
}

impl Raw {
    fn connect(port: u16) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut raw = Raw {
            control: BufReader::new(stream),
        };
        assert_eq!(raw.answer().0, 220);
        raw
    }

    fn logged_in(port: u16, user: &str) -> Raw {
        let mut raw = Raw::connect(port);
        assert_eq!(raw.say(&format!("USER {user}")).0, 331);
        assert_eq!(raw.say(&format!("PASS {PASSWORD}")).0, 230);
        raw
    }

    fn answer(&mut self) -> (u32, String) {
        loop {
            let mut line = String::new();
            self.control.read_line(&mut line).unwrap();
            let code = line.get(..3).and_then(|code| code.parse().ok());
            if let (Some(code), Some(" ")) = (code, line.get(3..4)) {
                return (code, line.trim().to_owned());
            }
            assert!(!line.is_empty(), "the connection ended");
        }
    }

    fn say(&mut self, line: &str) -> (u32, String) {
        self.control
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
            .unwrap();
        self.answer()
    }

    /// A data connection, after `command` was answered with 150.
    fn data(&mut self, command: &str) -> TcpStream {
        let (code, text) = self.say("EPSV");
        assert_eq!(code, 229, "{text}");
        let port = text.split('|').nth(3).unwrap().parse().unwrap();
        let data = TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(self.say(command).0, 150, "{command}");
        data
    }

    fn store(&mut self, name: &str, content: &[u8]) -> (u32, String) {
        let mut data = self.data(&format!("STOR {name}"));
        data.write_all(content).unwrap();
        drop(data);
        self.answer()
    }
}

#[test]
fn curl_lftp_and_ftplib_upload_and_look_at_what_they_sent() {
    let bed = Bed::start(1, "");
    // curl, plain and with TLS.
    let file = bed.local(&name(0), content(0));
    assert_ok(&bed.curl(&["-T", &file], &bed.url("")));
    let file = bed.local(&name(1), content(1));
    let secure = format!("ftp://127.0.0.1:{}/NUO001/2026/11/20/", bed.secure);
    assert_ok(&bed.curl(
        &["-k", "--ssl-reqd", "--ftp-create-dirs", "-T", &file],
        &secure,
    ));
    let head = assert_ok(&bed.curl(&["-I"], &bed.url(&name(0))));
    assert!(
        head.contains(&format!("Content-Length: {}", content(0).len())),
        "{head}"
    );
    // ftplib, plain and with TLS.
    for (n, how) in [(2, "plain"), (3, "secure")] {
        let script = format!(
            "f = {how}()\nf.storbinary('STOR {name}', io.BytesIO({content:?}.encode()))\n\
             assert f.voidcmd('TYPE I') and f.size('{name}') == {size}\n\
             assert len(f.sendcmd('MDTM {name}').split()[1]) == 14\n\
             assert '{name}' in f.nlst()\nlines = []\nf.dir(lines.append)\n\
             assert any('{name}' in l and l.startswith('-rw') for l in lines), lines\nf.quit()\n",
            name = name(n),
            content = content(n),
            size = content(n).len()
        );
        assert_ok(&bed.python(0, &script));
    }
    // lftp, which renames, sets times and looks around.
    let files: Vec<String> = (4..6).map(|n| bed.local(&name(n), content(n))).collect();
    for (file, (port, tls)) in files.iter().zip([(bed.plain, "no"), (bed.secure, "yes")]) {
        let script = format!(
            "set ssl:verify-certificate no; set ftp:ssl-force {tls}; set ftp:ssl-protect-data {tls}; set xfer:use-temp-file yes; \
             set cmd:fail-exit yes; open -u tram-0,{PASSWORD} -p {port} 127.0.0.1; mkdir -p -f x/y; cd x/y; put {file}; ls; quit"
        );
        let said = assert_ok(&Command::new("lftp").args(["-c", &script]).output().unwrap());
        assert!(
            said.contains(Path::new(file).file_name().unwrap().to_str().unwrap()),
            "{said}"
        );
    }
    let expected: Vec<String> = (0..6).map(name).collect();
    assert_eq!(bed.files(0, "done"), expected);
    let at_hub = bed.at_hub();
    assert_eq!(
        (at_hub.len(), at_hub.values().max()),
        (6, Some(&1)),
        "{at_hub:?}"
    );
    wait_for("the count shows", COUNTED, || {
        let source = bed.source("tram-0");
        source["kind"] == "ftp" && source["accepted"] == 6
    });
}

#[test]
fn a_repeat_is_harmless_and_a_refused_file_stops_nobody() {
    let bed = Bed::start(1, "");
    let mut raw = Raw::logged_in(bed.plain, "tram-0");
    for _ in 0..3 {
        assert_eq!(raw.store(&name(0), content(0).as_bytes()).0, 226);
    }
    let (code, text) = raw.store(&name(1), b"khong phai so lieu\r\n");
    assert_eq!(code, 226, "a logger would repeat it for ever");
    assert!(text.contains("kept apart"), "{text}");
    assert_eq!(raw.store(&name(2), content(2).as_bytes()).0, 226);
    assert_eq!(bed.files(0, "refused"), [name(1)]);
    let reason = fs::read_to_string(bed.home(0).join("refused").join(name(1) + ".reason.txt"));
    assert!(reason.unwrap().contains("Cách xử lý"));
    let at_hub = bed.at_hub();
    assert_eq!(
        (at_hub.len(), at_hub.values().max()),
        (2, Some(&1)),
        "{at_hub:?}"
    );
    wait_for("the refusal shows", COUNTED, || {
        bed.source("tram-0")["refused"] == 1
    });
}

#[test]
fn who_wants_errors_for_refused_files_gets_them() {
    let bed = Bed::start(1, "refused_reply = \"550\"");
    let mut raw = Raw::logged_in(bed.plain, "tram-0");
    assert_eq!(raw.store(&name(1), b"khong phai so lieu\r\n").0, 550);
    assert_eq!(bed.files(0, "refused"), [name(1)]);
}

#[test]
fn an_upload_that_ends_early_leaves_nothing() {
    let bed = Bed::start(1, "");
    let half = &content(0).into_bytes()[..30];
    // The client dies: both connections end together, without a word.
    let mut raw = Raw::logged_in(bed.plain, "tram-0");
    let mut data = raw.data(&format!("STOR {}", name(0)));
    data.write_all(half).unwrap();
    drop((data, raw));
    // It asks for the end.
    let mut raw = Raw::logged_in(bed.plain, "tram-0");
    let mut data = raw.data(&format!("STOR {}", name(0)));
    data.write_all(half).unwrap();
    assert_eq!(raw.say("ABOR").0, 426);
    assert_eq!(raw.answer().0, 226);
    // It announced more than it sent.
    assert_eq!(raw.say("ALLO 1000").0, 200);
    assert_eq!(raw.store(&name(0), half).0, 426);
    // TLS is cut without its own end.
    let script = format!(
        "f = secure()\nc = f.transfercmd('STOR {}')\nc.send(b'pH\\t7.1\\t-\\t20261120000000\\t00\\r\\n')\n\
         s = socket.socket(fileno=c.detach()); s.shutdown(socket.SHUT_RDWR); s.close()\n\
         try:\n    f.voidresp(); sys.exit('taken')\nexcept ftplib.error_temp as e:\n    assert '426' in str(e), e\n",
        name(0)
    );
    assert_ok(&bed.python(0, &script));
    // A client that is killed in the middle.
    let script = format!(
        "import os\nf = plain()\nc = f.transfercmd('STOR {}')\nc.send(b'pH\\t7.1\\t-\\t20261120000000\\t00\\r\\n')\nos._exit(0)\n",
        name(0)
    );
    assert_ok(&bed.python(0, &script));
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(
        fs::read_dir(bed.home(0).join("incoming")).unwrap().count(),
        0
    );
    assert_eq!(bed.at_hub(), BTreeMap::new());
    assert!(bed.files(0, "done").is_empty() && bed.files(0, "refused").is_empty());
    let script = "f = plain()\nassert f.nlst() == [], f.nlst()\n";
    assert_ok(&bed.python(0, script));
}

/// A logger that closes TLS without saying so is believed only to the byte that it announced.
#[test]
fn tls_that_ends_without_its_end_is_whole_only_with_all_that_was_announced() {
    let bed = Bed::start(1, "");
    let upload = |n: u32, announced: usize, expected: &str| {
        let script = format!(
            "f = secure()\nf.voidcmd('ALLO {announced}')\nc = f.transfercmd('STOR {}')\nc.send({:?}.encode())\n\
             s = socket.socket(fileno=c.detach()); s.shutdown(socket.SHUT_RDWR); s.close()\n\
             try:\n    answer = f.voidresp()\nexcept ftplib.error_temp as e:\n    answer = str(e)\nassert answer.startswith('{expected}'), answer\n",
            name(n),
            content(n)
        );
        assert_ok(&bed.python(0, &script));
    };
    let bytes = content(0).len();
    upload(0, bytes, "226");
    upload(1, bytes + 1, "426");
    upload(2, bytes - 1, "426");
    assert_eq!(bed.files(0, "done"), [name(0)]);
    assert_eq!(bed.at_hub().len(), 1);
}

#[test]
fn what_was_taken_is_known_after_a_restart_and_to_who_tries_the_source() {
    let mut bed = Bed::start(2, "");
    let script = format!(
        "f = plain()\nf.mkd('NUO001')\nf.cwd('NUO001')\nf.storbinary('STOR {}', io.BytesIO({:?}.encode()))\n\
         lines = dict(f.mlsd())\nassert lines['{0}']['size'] == '{}', lines\nassert len(lines['{0}']['modify']) == 14, lines\n\
         assert 'type=file' in f.sendcmd('MLST {0}')\nassert dict(f.mlsd('/'))['NUO001']['type'] == 'dir'\n",
        name(0),
        content(0),
        content(0).len()
    );
    assert_ok(&bed.python(0, &script));
    let mut raw = Raw::logged_in(bed.plain, "tram-0");
    assert_eq!(raw.store(&name(1), b"khong phai so lieu").0, 226);
    assert_eq!(raw.store("sau.txt.tmp", b"x").0, 226);
    bed.rig.kill_box(XA);
    bed.rig.start_box(XA);
    bed.wait_until_serving();
    let mut raw = Raw::logged_in(bed.plain, "tram-0");
    assert_eq!(raw.say("CWD NUO001").0, 250);
    assert_eq!(
        raw.say(&format!("SIZE {}", name(0))).1,
        format!("213 {}", content(0).len())
    );
    assert_eq!(raw.say(&format!("MDTM {}", name(0))).0, 213);
    let try_source = |name: &str| said(&bed.rig, &["sources", "try", name], 0);
    let said = try_source("tram-do");
    for part in [
        format!("/ taken   {}", name(0)),
        format!("/ refused {}", name(1)),
        "/ waits       /sau.txt.tmp".to_owned(),
        "tram-1 (tram-1):\n  chưa có tệp nào".to_owned(),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    let said = try_source("tram-1");
    assert!(
        said.contains("no file has come yet") && !said.contains("tram-0"),
        "{said}"
    );
}

#[test]
fn a_client_that_says_goodbye_too_early_is_understood() {
    let bed = Bed::start(1, "");
    let mut raw = Raw::logged_in(bed.plain, "tram-0");
    let mut data = raw.data(&format!("STOR {}", name(0)));
    data.write_all(content(0).as_bytes()).unwrap();
    raw.control.get_mut().write_all(b"QUIT\r\n").unwrap();
    drop((data, raw));
    wait_for("the file is taken", SOON, || {
        bed.files(0, "done") == [name(0)]
    });
}

#[test]
fn a_renamed_file_is_taken_under_its_last_name() {
    let mut bed = Bed::start(1, "");
    let mut raw = Raw::logged_in(bed.plain, "tram-0");
    let waits = format!("{}.tmp", name(0));
    let (code, text) = raw.store(&waits, content(0).as_bytes());
    assert_eq!((code, text.contains("final name")), (226, true), "{text}");
    assert_eq!(
        raw.say(&format!("SIZE {waits}")).1,
        format!("213 {}", content(0).len())
    );
    assert!(bed.files(0, "done").is_empty());
    // It waits through a crash.
    bed.rig.kill_box(XA);
    bed.rig.start_box(XA);
    bed.wait_until_serving();
    let mut raw = Raw::logged_in(bed.plain, "tram-0");
    assert_eq!(raw.say(&format!("RNTO {}", name(0))).0, 503);
    assert_eq!(raw.say(&format!("RNFR {waits}")).0, 350);
    assert_eq!(raw.say(&format!("RNTO {}", name(0))).0, 250);
    assert_eq!(bed.files(0, "done"), [name(0)]);
    assert_eq!(raw.say(&format!("SIZE {}", name(0))).0, 213);
    assert_eq!(raw.say(&format!("SIZE {waits}")).0, 550);
    // A file that is final already is taken at once; its rename changes nothing.
    assert_eq!(raw.store(&name(1), content(1).as_bytes()).0, 226);
    assert_eq!(raw.say(&format!("RNFR {}", name(1))).0, 350);
    assert_eq!(raw.say("RNTO da-gui.txt").0, 250);
    assert_eq!(raw.say(&format!("DELE {}", name(0))).0, 250);
    assert_eq!(raw.say(&format!("DELE {}", name(0))).0, 550);
    assert_eq!(bed.at_hub().len(), 2);
}

#[test]
fn what_is_not_offered_is_refused_clearly() {
    let bed = Bed::start(1, "file_max = \"4 KiB\"");
    let mut raw = Raw::logged_in(bed.plain, "tram-0");
    for (line, code, part) in [
        ("APPE a.txt", 502, "whole"),
        ("REST 100", 502, "whole"),
        ("RETR a.txt", 502, "not fetched"),
        ("STOR a.txt", 425, "PASV"),
        ("SIZE a.txt", 550, "No such file"),
        ("STOR ", 501, "parameter"),
        ("STOR a\\b.txt", 553, "path"),
        ("PORT 10,1,2,3,200,1", 504, "own address"),
        ("PORT 127,0,0,1,0,22", 504, "1024"),
        ("XYZZY", 500, "FTP"),
    ] {
        let (found, text) = raw.say(line);
        assert!(found == code && text.contains(part), "{line}: {text}");
    }
    let (code, _) = raw.store(&name(0), &[b'x'; 10_000]);
    assert_eq!(code, 552);
    assert_eq!(raw.say("REST 0").0, 350);
    // Commands before the login, and FTPS without TLS.
    let mut raw = Raw::connect(bed.plain);
    assert_eq!(raw.say("STOR a.txt").0, 530);
    let mut raw = Raw::connect(bed.secure);
    let (code, text) = raw.say("USER tram-0");
    assert!(code == 530 && text.contains("AUTH TLS"), "{text}");
}

#[test]
fn paths_stay_inside() {
    let bed = Bed::start(2, "");
    let mut raw = Raw::logged_in(bed.plain, "tram-0");
    for path in [
        "../tram-1/done/x.txt",
        "/../../../etc/passwd.txt",
        "../../box.key.txt",
    ] {
        let (code, text) = raw.store(path, content(0).as_bytes());
        assert_eq!(code, 226, "{path}: {text}");
    }
    for path in ["../tram-1", "/etc", "../../.."] {
        assert_eq!(raw.say(&format!("CWD {path}")).0, 250, "{path}");
    }
    assert_eq!(raw.say("PWD").1, "257 \"/\" is where you are");
    let mut own = bed.files(0, "refused");
    own.extend(bed.files(0, "done"));
    own.sort();
    assert_eq!(own, ["box.key.txt", "passwd.txt", "x.txt"]);
    assert!(
        bed.files(1, "").is_empty(),
        "the other station's folder is untouched"
    );
    for taken in ["done", "refused", "incoming", "waiting"] {
        assert_eq!(raw.store(taken, content(0).as_bytes()).0, 450, "{taken}");
    }
    assert_eq!(raw.store(&name(1), content(1).as_bytes()).0, 226);
}

#[test]
fn a_guesser_is_locked_out_and_its_neighbours_are_not() {
    let bed = Bed::start(2, "");
    let mut raw = Raw::connect(bed.plain);
    for _ in 0..5 {
        assert_eq!(raw.say("USER tram-0").0, 331);
        assert_eq!(raw.say("PASS sai").0, 530);
    }
    assert_eq!(raw.say("USER tram-0").0, 331);
    let (code, text) = raw.say(&format!("PASS {PASSWORD}"));
    assert!(code == 530 && text.contains("wait"), "{text}");
    let mut neighbour = Raw::logged_in(bed.plain, "tram-1");
    assert_eq!(neighbour.store(&name(0), content(0).as_bytes()).0, 226);
    wait_for("the lock shows", SOON, || {
        let status = bed.rig.status(XA);
        let events = status["events"].as_array().unwrap();
        events.iter().any(|event| event["code"] == "ftp_locked")
    });
}

#[test]
fn a_client_that_behaves_badly_ends_itself_only() {
    let bed = Bed::start(1, "");
    // Rubbish in place of TLS, on the control connection and on a data connection.
    let mut raw = Raw::connect(bed.secure);
    assert_eq!(raw.say("AUTH TLS").0, 234);
    raw.control
        .get_mut()
        .write_all(b"rubbish, not TLS at all\r\n")
        .unwrap();
    let mut rest = Vec::new();
    let _ = raw.control.read_to_end(&mut rest);
    let script = "f = secure()\nhost, port = f.makepasv()\nf.putcmd('STOR a.txt')\ns = socket.create_connection(('127.0.0.1', port))\n\
                  s.send(b'x' * 5000); assert f.getresp().startswith('150')\n\
                  try:\n    f.voidresp(); sys.exit('taken')\nexcept ftplib.error_temp as e:\n    assert '425' in str(e), e\n\
                  f.voidcmd('NOOP')\n";
    assert_ok(&bed.python(0, script));
    // A line without an end.
    let mut raw = Raw::connect(bed.plain);
    let _ = raw.control.get_mut().write_all(&[b'x'; 100_000]);
    let mut rest = Vec::new();
    let _ = raw.control.read_to_end(&mut rest);
    // A command in the clear behind AUTH TLS is nobody's.
    let mut raw = Raw::connect(bed.secure);
    raw.control
        .get_mut()
        .write_all(b"AUTH TLS\r\nUSER tram-0\r\n")
        .unwrap();
    let mut rest = Vec::new();
    let _ = raw.control.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("331"));
    let mut raw = Raw::logged_in(bed.plain, "tram-0");
    assert_eq!(raw.store(&name(0), content(0).as_bytes()).0, 226);
}

#[test]
fn active_mode_goes_to_the_client_and_nowhere_else() {
    let bed = Bed::start(1, "");
    let script = format!(
        "f = plain()\nf.set_pasv(False)\nf.storbinary('STOR {}', io.BytesIO({:?}.encode()))\nf.quit()\n",
        name(0),
        content(0)
    );
    assert_ok(&bed.python(0, &script));
    assert_eq!(bed.files(0, "done"), [name(0)]);
}

#[test]
fn a_hundred_stations_at_the_five_minute_boundary() {
    let bed = Bed::start(100, "");
    let (plain, secure) = (bed.plain, bed.secure);
    let senders: Vec<_> = (0..100)
        .map(|n| {
            std::thread::spawn(move || {
                // Every tenth with TLS, so that handshakes compete with the others too.
                let (port, tls) = if n % 10 == 0 {
                    (secure, true)
                } else {
                    (plain, false)
                };
                let text = content(7).replace("48.3", &format!("{n}.5"));
                let file = format!("HN_KCNA_NUO{n:03}_20261120000700.txt");
                let url = format!("ftp://127.0.0.1:{port}/{file}");
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join(&file);
                fs::write(&path, text).unwrap();
                let mut command = Command::new("curl");
                command.args([
                    "-sS",
                    "--max-time",
                    "60",
                    "-u",
                    &format!("tram-{n}:{PASSWORD}"),
                    "-T",
                ]);
                command.arg(&path);
                if tls {
                    command.args(["-k", "--ssl-reqd"]);
                }
                command.arg(url).output().unwrap()
            })
        })
        .collect();
    for sender in senders {
        assert_ok(&sender.join().unwrap());
    }
    let at_hub = bed.at_hub();
    assert_eq!((at_hub.len(), at_hub.values().max()), (100, Some(&1)));
}

#[test]
fn killed_at_any_moment_it_loses_and_doubles_nothing() {
    let rounds: u32 = std::env::var("ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    let mut bed = Bed::start(1, "");
    let files_each = 8;
    for round in 0..rounds {
        let port = bed.plain;
        let sender = std::thread::spawn(move || {
            // As a logger does: a file goes out of its memory only with 226.
            for n in round * files_each..(round + 1) * files_each {
                let until = std::time::Instant::now() + Duration::from_secs(60);
                while !send_once(port, &name(n), content(n).as_bytes()) {
                    assert!(
                        std::time::Instant::now() < until,
                        "the box does not come back"
                    );
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        });
        std::thread::sleep(Duration::from_millis(u64::from(round * 37 % 400)));
        bed.rig.process(XA).signal(Signal::SIGKILL);
        bed.rig.kill_box(XA);
        bed.rig.start_box(XA);
        sender.join().unwrap();
    }
    let at_hub = bed.at_hub();
    let count = (rounds * files_each) as usize;
    assert_eq!((at_hub.len(), at_hub.values().max()), (count, Some(&1)));
    assert_eq!(
        bed.files(0, "incoming").len() + bed.files(0, "refused").len(),
        0
    );
}

/// True when the box said 226.
fn send_once(port: u16, name: &str, content: &[u8]) -> bool {
    let send = || -> std::io::Result<bool> {
        let mut control = BufReader::new(TcpStream::connect(("127.0.0.1", port))?);
        control
            .get_ref()
            .set_read_timeout(Some(Duration::from_secs(20)))?;
        let say = |control: &mut BufReader<TcpStream>, line: &str| -> std::io::Result<String> {
            if !line.is_empty() {
                control
                    .get_mut()
                    .write_all(format!("{line}\r\n").as_bytes())?;
            }
            let mut answer = String::new();
            control.read_line(&mut answer)?;
            Ok(answer)
        };
        say(&mut control, "")?;
        say(&mut control, "USER tram-0")?;
        say(&mut control, &format!("PASS {PASSWORD}"))?;
        let answer = say(&mut control, "EPSV")?;
        let Some(port) = answer
            .split('|')
            .nth(3)
            .and_then(|port| port.parse::<u16>().ok())
        else {
            return Ok(false);
        };
        let mut data = TcpStream::connect(("127.0.0.1", port))?;
        say(&mut control, &format!("STOR {name}"))?;
        let (first, second) = content.split_at(content.len() / 2);
        data.write_all(first)?;
        std::thread::sleep(Duration::from_millis(5));
        data.write_all(second)?;
        drop(data);
        Ok(say(&mut control, "")?.starts_with("226"))
    };
    send().unwrap_or(false)
}

#[test]
fn plain_ftp_needs_two_words_and_no_personal_data() {
    let bed = Bed::new(1, "");
    let folder = bed.rig.boxes[XA].folder.clone();
    let path = folder.join("tramd.d/20-ftp.toml");
    let text = fs::read_to_string(&path).unwrap();
    let config = folder.join("tramd.toml");
    let faults = |text: &str| {
        fs::write(&path, text).unwrap();
        let output = run(tramd().args(["config", "--config"]).arg(&config), 78);
        String::from_utf8(output.stderr).unwrap()
    };
    let said = faults(&text.replace("plain = true\n", ""));
    assert!(
        said.contains("source[tram-do].plain_listen") && said.contains("plain = true"),
        "{said}"
    );
    let personal = text.clone() + "dataset = \"ho_so_tthc\"\n";
    let said = faults(&personal);
    assert!(
        said.contains("source[tram-do].plain") && said.contains("dữ liệu cá nhân"),
        "{said}"
    );
    let said = faults(&text.replace("[[source.login]]", "[[source.other]]"));
    assert!(said.contains("source[tram-do].login"), "{said}");
    fs::write(&path, text).unwrap();
    let output = run(tramd().args(["config", "--config"]).arg(&config), 0);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        !printed.contains(&sha256(PASSWORD)),
        "hashes are not printed"
    );
}

#[test]
fn plain_ftp_is_shown_red_and_a_taken_port_stops_no_other_source() {
    let mut bed = Bed::new(1, "");
    let holder = std::net::TcpListener::bind(("127.0.0.1", bed.secure)).unwrap();
    bed.rig.start_box(XA);
    wait_for("the fault shows", SOON, || {
        bed.source("tram-do")["fault"]["code"] == "ftp_listen"
    });
    let port = bed.rig.boxes[XA].http_port;
    assert!(rig::hand_in(port, AGENCY, 0..1), "HTTP goes on");
    drop(holder);
    bed.wait_until_serving();
    wait_for("the fault is over", SOON, || {
        bed.source("tram-do")["fault"].is_null()
    });
    assert_eq!(bed.source("tram-do")["warning"]["code"], "plain_ftp");
    let page = rig::agent().get(format!("http://127.0.0.1:{port}/")).call();
    let page = page.unwrap().body_mut().read_to_string().unwrap();
    assert!(
        page.contains("<tr class=\"red\"><th scope=\"row\">tram-do<"),
        "{page}"
    );
    assert!(page.contains("FTP không mã hóa đang bật"), "{page}");
}
