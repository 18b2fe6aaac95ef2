//! Where the offices' story plays: three boxes and a hub with everything that they need, a provincial
//! axis, blows, and what the offices' programs ask and say.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::rig::{Broker, Rig, TOKEN, agent, wait_for};

pub const LONG: Duration = Duration::from_secs(120);
/// The office that sends, the one that is away, and the one that takes another's place.
pub const A: &str = "xa-tan-bien";
pub const B: &str = "so-noi-vu";
pub const C: &str = "xa-hop-nhat";
pub const OFFICES: [(&str, &str); 3] = [(A, "H53.12"), (B, "H53.20"), (C, "H53.30")];

/// Kills at moments and in places that nobody has chosen.
pub struct Chaos {
    state: u64,
    is_merciless: bool,
    pub strikes: u32,
    pub begun: Instant,
}

impl Chaos {
    pub fn new() -> Chaos {
        let seed: u64 = match std::env::var("STORY_SEED") {
            Ok(text) => text.parse().expect("STORY_SEED is a number"),
            Err(_) => {
                let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
                since.expect("after 1970").subsec_nanos().into()
            }
        };
        println!("STORY_SEED={seed}");
        Chaos {
            state: (seed << 1) | 1,
            is_merciless: std::env::var("STORY_STRIKES").is_ok_and(|all| all == "all"),
            strikes: 0,
            begun: Instant::now(),
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .rotate_left(23)
            ^ 0x9e37;
        (self.state >> 24) % end
    }

    /// SIGKILL to one of the running programs, which is started again; every other time.
    pub fn strike(&mut self, rig: &mut Rig) {
        if self.below(2) == 0 && !self.is_merciless {
            return;
        }
        let running = OFFICES.map(|(name, _)| name);
        let running: Vec<&str> = running
            .into_iter()
            .filter(|name| rig.boxes[*name].process.is_some())
            .collect();
        let pause = Duration::from_millis(self.below(200));
        match self.below(2 + running.len() as u64) as usize {
            0 => {
                rig.kill_hub();
                std::thread::sleep(pause);
                rig.start_hub();
            }
            1 => {
                rig.kill_broker();
                std::thread::sleep(pause);
                rig.start_broker();
            }
            number => {
                rig.kill_box(running[number - 2]);
                std::thread::sleep(pause);
                rig.start_box(running[number - 2]);
            }
        }
        self.strikes += 1;
    }

    /// Waits, and strikes on the way.
    pub fn until(&mut self, rig: &mut Rig, what: &str, done: impl Fn(&Rig) -> bool) {
        std::thread::sleep(Duration::from_millis(self.below(150)));
        self.strike(rig);
        wait_for(what, LONG, || done(rig));
        println!("{:?}: {what}", self.begun.elapsed());
    }
}

/// A provincial axis that takes documents and statuses, and keeps the documents' bytes.
#[derive(Clone, Default)]
pub struct Axis(Arc<Mutex<Vec<Vec<u8>>>>);

impl Axis {
    pub fn serve(&self, port: u16) {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let axis = self.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A hub that was killed in the middle tries again.
                let _ = axis.answer(stream);
            }
        });
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut first, mut line) = (String::new(), String::new());
        reader.read_line(&mut first)?;
        let mut length = 0;
        while {
            line.clear();
            2 < reader.read_line(&mut line)?
        } {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if first.contains("sendEdoc") {
            let find = |part: &[u8]| body.windows(part.len()).position(|bytes| bytes == part);
            let start = find(b"\r\n\r\n").expect("a part's head") + 4;
            let end = body.len() - "\r\n----\r\n".len();
            let end = body[..end].windows(4).rposition(|bytes| bytes == b"\r\n--");
            let document = body[start..end.expect("a part's end")].to_vec();
            self.0.lock().expect("no holder panics").push(document);
        }
        let text = r#"{"errorCode":0,"data":{"docId":"1"}}"#;
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        )
    }

    pub fn documents(&self) -> BTreeSet<Vec<u8>> {
        self.0
            .lock()
            .expect("no holder panics")
            .iter()
            .cloned()
            .collect()
    }
}

/// The shipped catalogue in a folder of its own.
pub fn catalogue_of_its_own(rig: &Rig) -> PathBuf {
    let from = concat!(env!("CARGO_MANIFEST_DIR"), "/catalogue");
    let folder = rig.folder.path().join("danh-muc");
    fs::create_dir_all(folder.join("codes")).expect("a folder");
    for below in ["", "codes"] {
        for entry in fs::read_dir(format!("{from}/{below}")).expect("shipped") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let name = path.file_name().expect("a name");
                fs::copy(&path, folder.join(below).join(name)).expect("copied");
            }
        }
    }
    folder
}

pub fn stage(axis_port: u16) -> Rig {
    let mut rig = Rig::start(Broker::Mosquitto);
    rig.kill_hub();
    let hub = rig.hub_folder();
    fs::write(hub.join("bi-mat"), "bi-mat").expect("written");
    let mut settings = fs::File::options()
        .append(true)
        .open(hub.join("trucd.toml"))
        .expect("init wrote it");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/catalogue");
    write!(
        settings,
        "\n[catalogue]\npath = \"{shipped}\"\n\
         [[output]]\nname = \"truc\"\nkind = \"edxml\"\ndatasets = [\"van_ban_dien_tu\"]\n\
         url = \"http://127.0.0.1:{axis_port}/v1\"\nsystem_id = \"TNI01\"\nsecret_file = \"bi-mat\"\n\
         retry = [\"500 ms\"]\n\
         [[output]]\nname = \"so-nnmt\"\nkind = \"station\"\ndatasets = [\"quan_trac_moi_truong\"]\nfolder = \"luu\"\n"
    )
    .expect("written");
    rig.start_hub();
    for (name, agency) in OFFICES {
        rig.add_box(name, agency, rig.port);
        let folder = rig.boxes[name].folder.clone();
        for below in ["van-ban", "quan-trac", "den"] {
            fs::create_dir(folder.join(below)).expect("a folder");
        }
        let shown = folder.display();
        let drop_in = folder.join("tramd.d/10-test.toml");
        let mut text = fs::read_to_string(&drop_in).expect("written above");
        text = text.replace(
            "datasets = [\"ho_so_tthc\"]",
            "datasets = [\"ho_so_tthc\", \"van_ban_dien_tu\"]\nlookup = [\"ho_so_tthc\"]\ninbox = true",
        );
        text += &format!(
            "[[source]]\nname = \"van-thu\"\nkind = \"folder\"\ndataset = \"van_ban_dien_tu\"\n\
             path = \"{shown}/van-ban\"\nformat = \"edxml\"\nsettle = \"0 s\"\nrescan = \"1 s\"\n\
             [[source]]\nname = \"tram\"\nkind = \"folder\"\ndataset = \"quan_trac_moi_truong\"\n\
             path = \"{shown}/quan-trac\"\nformat = \"station\"\nsettle = \"0 s\"\nrescan = \"1 s\"\n\
             [[inbox]]\nname = \"qlvb\"\nkind = \"folder\"\npath = \"{shown}/den\"\n"
        );
        fs::write(&drop_in, text).expect("written");
        rig.start_box(name);
    }
    rig
}

// === What the offices' programs do and see ===

pub fn call(rig: &Rig, name: &str, path: &str) -> (u16, Value) {
    let port = rig.boxes[name].http_port;
    let mut answer = agent()
        .get(format!("http://127.0.0.1:{port}{path}"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .call()
        .expect("the box answers");
    let text = answer.body_mut().read_to_string().expect("a body");
    let value = serde_json::from_str(&text).expect("JSON");
    (answer.status().as_u16(), value)
}

pub fn post(rig: &Rig, name: &str, path: &str, body: &Value) -> u16 {
    let port = rig.boxes[name].http_port;
    let answer = agent()
        .post(format!("http://127.0.0.1:{port}{path}"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json")
        .send(body.to_string());
    let mut answer = answer.expect("the box answers");
    let status = answer.status().as_u16();
    let text = answer.body_mut().read_to_string().unwrap_or_default();
    assert!(matches!(status, 200 | 201), "{path}: {status} {text}");
    status
}

pub fn dossier(number: u32, person: &str) -> Value {
    let text = crate::rig::dossier("H53.12", number);
    let mut data: Value = serde_json::from_str(&text).expect("JSON");
    data["nguoi_nop"]["ho_ten"] = person.into();
    data
}

pub fn letter(id: &str, number: u32, to: &str) -> Value {
    json!({
        "id": id, "loai_ban_ghi": "van_ban", "ma_van_ban": format!("H53.12,2026/11/20,{number}/UBND"),
        "tu": {"ma": "H53.12"}, "den": [{"ma": to}], "so": number, "ky_hieu": "UBND",
        "ngay_ban_hanh": "2026-11-20", "loai": "22", "trich_yeu": "Về việc bàn giao", "loai_nghiep_vu": 0,
    })
}

/// Ids of the documents in a box's inbox, with repeats.
pub fn inbox(rig: &Rig, name: &str) -> Vec<String> {
    let (_, answer) = call(rig, name, "/v1/inbox?all=true&limit=200");
    let documents = answer["documents"].as_array().expect("documents");
    let id = |document: &Value| document["id"].as_str().expect("an id").to_owned();
    documents.iter().map(id).collect()
}

pub fn number_of(rig: &Rig, name: &str, id: &str) -> u64 {
    let (_, answer) = call(rig, name, "/v1/inbox?all=true&limit=200");
    let documents = answer["documents"].as_array().expect("documents");
    let found = documents.iter().find(|document| document["id"] == id);
    found.expect("it is there")["number"]
        .as_u64()
        .expect("a number")
}

/// How many records a box finds; none where it may not read them.
pub fn found(rig: &Rig, name: &str, words: &str) -> Option<usize> {
    let words = words.replace(' ', "+");
    let (status, answer) = call(
        rig,
        name,
        &format!("/v1/lookup/ho_so_tthc?q={words}&limit=20"),
    );
    match status {
        200 => Some(answer["records"].as_array().expect("records").len()),
        404 if answer["type"].to_string().contains("no-copy") => None,
        404 => Some(0),
        _ => panic!("{status} {answer}"),
    }
}

pub fn catalogue_version(rig: &Rig, name: &str, which: &str) -> u64 {
    call(rig, name, "/v1/catalogue").1[which]["version"]
        .as_u64()
        .unwrap_or(0)
}

/// Codes that the sender of a document sees, in their order, and the one that is shown.
pub fn statuses(rig: &Rig, id: &str) -> (Vec<String>, String) {
    let (status, answer) = call(rig, A, &format!("/v1/sent/{id}"));
    if status == 404 {
        return (Vec::new(), String::new());
    }
    let text = |value: &Value| value["code"].as_str().expect("a code").to_owned();
    let all = answer["statuses"].as_array().expect("statuses");
    (all.iter().map(text).collect(), text(&answer["status"]))
}

/// Files below a folder that hold a text, also in small letters or in UTF-16.
pub fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let lower = text.to_lowercase();
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let needles = [text.as_bytes(), lower.as_bytes(), &wide];
    let mut folders = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // A file that is gone by now holds nothing.
            let bytes = fs::read(&path).unwrap_or_default();
            let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
            if needles.into_iter().any(holds) {
                found.push(path);
            }
        }
    }
    found
}

pub fn golden(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read(
        root.join("tests/golden/edxml")
            .join(name)
            .join("input.edxml"),
    )
    .expect("golden")
}

pub fn day_of(rig: &Rig, name: &str, days: i64) -> String {
    let at = rig.status(name)["at"].as_str().expect("a time").to_owned();
    let day: jiff::civil::Date = at[..10].parse().expect("a day");
    let span = jiff::Span::new().days(days);
    day.checked_add(span).expect("a day").to_string()
}
