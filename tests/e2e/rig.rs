//! Real processes on loopback: a hub, its broker, boxes. Everything started is killed on drop.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

pub const TOKEN: &str = "thu-nghiem-0123456789abcdef";
pub const DATASET: &str = "ho_so_tthc";

/// Which broker stands between boxes and hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broker {
    /// In the process of `trucd`.
    Embedded,
    /// Debian's Mosquitto with the configuration that `trucd init` writes.
    Mosquitto,
}

/// A process that dies with its owner.
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Process {
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Process {
            child,
            name: name.to_owned(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Waits for an orderly end.
    pub fn wait(&mut self, most: Duration) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + most;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

pub struct Rig {
    pub folder: tempfile::TempDir,
    pub broker: Broker,
    pub port: u16,
    hub: Option<Process>,
    mosquitto: Option<Process>,
    pub boxes: BTreeMap<String, TheBox>,
    environment: BTreeMap<&'static str, OsString>,
}

pub struct TheBox {
    pub folder: PathBuf,
    pub http_port: u16,
    pub process: Option<Process>,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("bound").port()
}

/// `TRUCD_BIN` may name another build of the hub's program.
/// A way to a local port that brings back no more than so much.
pub fn slow_way(target: u16, bytes_per_second: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else {
                continue;
            };
            std::thread::spawn(move || carry(near, far, bytes_per_second));
        }
    });
    port
}

fn carry(near: TcpStream, far: TcpStream, bytes_per_second: u64) {
    let (mut up_from, mut up_to) = (&near, far.try_clone().expect("a socket"));
    let (mut down_from, mut down_to) = (&far, near.try_clone().expect("a socket"));
    std::thread::scope(|both| {
        both.spawn(move || {
            let _ = std::io::copy(&mut up_from, &mut up_to);
            let _ = up_to.shutdown(Shutdown::Both);
        });
        let mut piece = [0; 16_384];
        while let Ok(length @ 1..) = down_from.read(&mut piece) {
            std::thread::sleep(Duration::from_micros(
                length as u64 * 1_000_000 / bytes_per_second,
            ));
            if down_to.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        let _ = down_to.shutdown(Shutdown::Both);
    });
}

pub fn trucd() -> Command {
    Command::new(
        std::env::var_os("TRUCD_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_trucd").into()),
    )
}

/// `TRAMD_BIN` may name another build of the box's program, such as the one for ARM.
pub fn tramd() -> Command {
    Command::new(
        std::env::var_os("TRAMD_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_tramd").into()),
    )
}

/// The library that shows a program another day; none where it cannot be used, such as with a program
/// for another processor.
pub fn faketime() -> Option<PathBuf> {
    if std::env::var_os("TRAMD_BIN").is_some() {
        return None;
    }
    let folders = fs::read_dir("/usr/lib").ok()?;
    folders
        .filter_map(|folder| Some(folder.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .find(|library| library.is_file())
}

/// Runs a command to its end; panics with its output unless it exits with `code`.
pub fn run(command: &mut Command, code: i32) -> Output {
    let output = command.output().expect("the program starts");
    assert_eq!(
        output.status.code(),
        Some(code),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

impl Rig {
    /// A hub that was initialised, with its broker, both running.
    pub fn start(broker: Broker) -> Rig {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let hub = folder.path().join("hub");
        run(
            trucd()
                .arg("init")
                .arg(&hub)
                .args(["--listen", &listen, "--ip", "127.0.0.1"]),
            0,
        );
        let path = hub.join("trucd.toml");
        let text = fs::read_to_string(&path).expect("init wrote it");
        // Several hubs run on this machine, so none may take the usual port for its status.
        let mut settings = text.replace("127.0.0.1:8490", &format!("127.0.0.1:{}", free_port()));
        if broker == Broker::Mosquitto {
            settings = settings
                .replace("broker = \"embedded\"", "broker = \"external\"")
                .replace("# addresses = ", "addresses = ");
            assert!(
                settings.contains("\"external\"") && settings.contains("\naddresses"),
                "{text}"
            );
        }
        fs::write(&path, settings).expect("written");
        let mut rig = Rig {
            folder,
            broker,
            port,
            hub: None,
            mosquitto: None,
            boxes: BTreeMap::new(),
            environment: BTreeMap::new(),
        };
        rig.start_broker();
        rig.start_hub();
        rig
    }

    pub fn hub_folder(&self) -> PathBuf {
        self.folder.path().join("hub")
    }

    fn hub_config(&self) -> PathBuf {
        self.hub_folder().join("trucd.toml")
    }

    /// What is started from now on lives so many days later; with 0 by the machine's clock.
    pub fn set_days_ahead(&mut self, days: u32) {
        self.set_hours_ahead(24 * days);
    }

    pub fn set_hours_ahead(&mut self, hours: u32) {
        if hours == 0 {
            self.environment.remove("LD_PRELOAD");
            return;
        }
        let library = faketime().expect("the package faketime");
        self.set("LD_PRELOAD", library);
        self.set("FAKETIME", format!("+{hours}h"));
        self.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    /// What is started from now on has this in its environment.
    pub fn set(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.environment.insert(name, value.into());
    }

    fn in_environment(&self, mut command: Command) -> Command {
        command.envs(&self.environment);
        command
    }

    /// Starts what boxes connect to.
    pub fn start_broker(&mut self) {
        match self.broker {
            Broker::Embedded => self.start_hub(),
            Broker::Mosquitto => {
                if self.mosquitto.is_none() {
                    let config = self.hub_folder().join("mosquitto.conf");
                    let mut command = self.in_environment(Command::new("/usr/sbin/mosquitto"));
                    command.arg("-c").arg(config);
                    let log = self.folder.path().join("mosquitto.log");
                    self.mosquitto = Some(Process::start("mosquitto", &mut command, &log));
                }
                wait_for("the broker listens", Duration::from_secs(20), || {
                    std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                });
            }
        }
    }

    /// Takes away what boxes connect to, without a word to them.
    pub fn kill_broker(&mut self) {
        match self.broker {
            Broker::Embedded => self.kill_hub(),
            Broker::Mosquitto => {
                if let Some(process) = self.mosquitto.take() {
                    process.kill();
                }
            }
        }
    }

    /// Mosquitto only: stops it in its tracks, or lets it go on.
    pub fn signal_broker(&self, signal: nix::sys::signal::Signal) {
        self.mosquitto
            .as_ref()
            .expect("mosquitto runs")
            .signal(signal);
    }

    pub fn start_hub(&mut self) {
        if self.hub.is_some() {
            return;
        }
        let mut command = self.in_environment(trucd());
        command.args(["run", "--config"]).arg(self.hub_config());
        let log = self.folder.path().join("trucd.log");
        self.hub = Some(Process::start("trucd", &mut command, &log));
        wait_for("the broker listens", Duration::from_secs(20), || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    pub fn kill_hub(&mut self) {
        if let Some(process) = self.take_hub() {
            process.kill();
        }
    }

    pub fn take_hub(&mut self) -> Option<Process> {
        self.hub.take()
    }

    /// The hub hands on by the catalogue as it is shipped.
    pub fn use_shipped_catalogue(&mut self) {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/catalogue");
        self.kill_hub();
        let settings = self.hub_folder().join("trucd.toml");
        let text = fs::read_to_string(&settings).expect("init wrote it");
        let text = format!("{text}\n[catalogue]\npath = \"{shipped}\"\n");
        fs::write(&settings, text).expect("written");
        self.start_hub();
    }

    /// Registers a box and writes its configuration; `hub_port` is where it looks for the hub.
    pub fn add_box(&mut self, name: &str, agency: &str, hub_port: u16) {
        let out = self.folder.path().join(name);
        let hub = format!("127.0.0.1:{hub_port}");
        run(
            trucd()
                .args([
                    "box", "add", name, "--agency", agency, "--hub", &hub, "--out",
                ])
                .arg(&out)
                .arg("--config")
                .arg(self.hub_config()),
            0,
        );
        let http_port = free_port();
        let token: String = sha256(TOKEN.as_bytes());
        fs::create_dir_all(out.join("tramd.d")).expect("a folder");
        let drop_in = format!(
            "[store]\npath = \"../box.db\"\nquota = \"8 GiB\"\n[http]\nlisten = \"127.0.0.1:{http_port}\"\n\
             [[http.token]]\nname = \"mot-cua\"\nsha256 = \"{token}\"\ndatasets = [\"{DATASET}\"]\n\
             [catalogue]\npath = \"{}\"\n",
            concat!(env!("CARGO_MANIFEST_DIR"), "/catalogue")
        );
        fs::write(out.join("tramd.d/10-test.toml"), drop_in).expect("written");
        let folder = out;
        self.boxes.insert(
            name.to_owned(),
            TheBox {
                folder,
                http_port,
                process: None,
            },
        );
    }

    /// Starts a box without waiting for it.
    pub fn launch_box(&mut self, name: &str) {
        let log = self.folder.path().join(format!("{name}.log"));
        let mut command = self.in_environment(tramd());
        let the_box = self.boxes.get_mut(name).expect("added");
        command
            .args(["run", "--config"])
            .arg(the_box.folder.join("tramd.toml"));
        the_box.process = Some(Process::start(name, &mut command, &log));
    }

    pub fn start_box(&mut self, name: &str) {
        self.launch_box(name);
        let the_box = &self.boxes[name];
        let url = format!("http://127.0.0.1:{}/healthz", the_box.http_port);
        wait_for("the box takes in", Duration::from_secs(60), || {
            agent().get(&url).call().is_ok()
        });
    }

    pub fn kill_box(&mut self, name: &str) {
        if let Some(process) = self.boxes.get_mut(name).expect("added").process.take() {
            process.kill();
        }
    }

    pub fn process(&mut self, name: &str) -> &mut Process {
        self.boxes
            .get_mut(name)
            .expect("added")
            .process
            .as_mut()
            .expect("started")
    }

    pub fn pid(&self, name: &str) -> u32 {
        self.boxes[name].process.as_ref().expect("started").pid()
    }

    pub fn hub_pid(&self) -> u32 {
        self.hub.as_ref().expect("started").pid()
    }

    pub fn status(&self, name: &str) -> serde_json::Value {
        let port = self.boxes[name].http_port;
        agent()
            .get(format!("http://127.0.0.1:{port}/status.json"))
            .call()
            .expect("the box answers")
            .body_mut()
            .read_json()
            .expect("status is JSON")
    }

    pub fn waiting(&self, name: &str) -> u64 {
        let status = self.status(name);
        let lanes = status["lanes"].as_array().expect("lanes");
        lanes
            .iter()
            .map(|lane| lane["waiting"].as_u64().expect("a number"))
            .sum()
    }

    pub fn wait_until_drained(&self, name: &str, most: Duration) {
        wait_for("nothing waits any more", most, || self.waiting(name) == 0);
    }

    /// What the hub's log of a box holds, read with our own SQL.
    pub fn entries(&self, name: &str) -> Vec<serde_json::Value> {
        let path = self.hub_folder().join("trucd.db");
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .expect("the hub's database");
        let mut statement = connection
            .prepare(
                "SELECT entry.entry FROM entry JOIN log ON log.log = entry.place >> 40
                 WHERE log.box_id = ?1 AND entry.same_as IS NULL",
            )
            .expect("the tables are there");
        let rows = statement
            .query_map([name], |row| row.get::<_, Vec<u8>>(0))
            .expect("read");
        rows.map(|row| serde_json::from_slice(&row.expect("read")).expect("an entry is JSON"))
            .collect()
    }

    /// How often each dossier stands in the hub's log of a box.
    pub fn at_hub(&self, name: &str) -> BTreeMap<String, u32> {
        let mut found = BTreeMap::new();
        for entry in self.entries(name) {
            if let Some(code) = entry["data"]["ma_ho_so"].as_str() {
                *found.entry(code.to_owned()).or_insert(0) += 1;
            }
        }
        found
    }

    /// The hub holds exactly the dossiers `0..count` of this box, each once, and its evidence is
    /// whole.
    pub fn assert_exactly(&self, name: &str, agency: &str, count: u32) {
        let found = self.at_hub(name);
        let doubled: Vec<_> = found
            .iter()
            .filter(|(_, times)| **times != 1)
            .take(5)
            .collect();
        assert!(doubled.is_empty(), "doubled: {doubled:?}");
        let lost: Vec<_> = (0..count)
            .map(|n| code(agency, n))
            .filter(|code| !found.contains_key(code))
            .collect();
        assert!(
            lost.is_empty(),
            "{} lost, first {:?}",
            lost.len(),
            lost.first()
        );
        assert_eq!(found.len(), count as usize, "more than was handed in");
        self.verify();
    }

    pub fn verify(&self) {
        run(
            trucd().args(["verify", "--config"]).arg(self.hub_config()),
            0,
        );
    }

    pub fn trucd(&self, arguments: &[&str], code: i32) -> String {
        let output = run(
            self.in_environment(trucd())
                .args(arguments)
                .arg("--config")
                .arg(self.hub_config()),
            code,
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default()
    }
}

/// Dossier number `n` of an agency.
pub fn code(agency: &str, n: u32) -> String {
    format!("{agency}-2611{:02}-{:06}", n / 900_000 + 1, n % 900_000 + 1)
}

pub fn dossier(agency: &str, n: u32) -> String {
    format!(
        r#"{{"ma_ho_so":"{}","ma_tthc":"1.001193","ten_tthc":"Đăng ký khai sinh","co_quan_tiep_nhan":"{agency}","co_quan_giai_quyet":"{agency}","kenh":"truc_tuyen","muc_dvc":"toan_trinh","nguoi_nop":{{"loai":"ca_nhan","ho_ten":"Trần Thị Bích {n}"}},"ngay_tiep_nhan":"2026-11-20T08:12:45+07:00","trang_thai_goc":"Đang thụ lý","trang_thai_chuan":"DANG_XU_LY","buoc":3,"phi":8000}}"#,
        code(agency, n)
    )
}

/// Hands in dossiers as NDJSON under an idempotency key; true when the box says that they are kept.
pub fn hand_in(http_port: u16, agency: &str, numbers: std::ops::Range<u32>) -> bool {
    let key = format!("{agency}:{}-{}", numbers.start, numbers.end);
    let body: Vec<String> = numbers.map(|n| dossier(agency, n)).collect();
    let answer = agent()
        .post(format!("http://127.0.0.1:{http_port}/v1/records/{DATASET}"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/x-ndjson")
        .header("idempotency-key", key)
        .send(body.join("\n"));
    match answer {
        Ok(mut answer) => {
            let status = answer.status().as_u16();
            let text = answer.body_mut().read_to_string().unwrap_or_default();
            assert!(
                matches!(status, 200 | 201 | 503),
                "the box answers {status}: {text}"
            );
            status != 503
        }
        Err(_) => false,
    }
}

/// Hands in until all is kept, as a careful office program does.
pub fn hand_in_all(http_port: u16, agency: &str, count: u32, group: u32) {
    for start in (0..count).step_by(group as usize) {
        let until = Instant::now() + Duration::from_secs(60);
        while !hand_in(http_port, agency, start..(start + group).min(count)) {
            assert!(Instant::now() < until, "the box does not come back");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

pub fn wait_for(what: &str, most: Duration, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + most;
    while !done() {
        assert!(
            Instant::now() < until,
            "waited {most:?} in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// An HTTP client that takes every status for an answer.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .into()
}

fn sha256(bytes: &[u8]) -> String {
    ring::digest::digest(&ring::digest::SHA256, bytes)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
