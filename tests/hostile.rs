//! Slow and hostile clients against a real box with a real hub, over plain HTTP and TLS: whatever
//! they do, an office's software is served, every record reaches the hub, and the owner gets in.
#![cfg(feature = "demo")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot set its stage has failed; it waits for real processes"
)]

#[path = "account/browser.rs"]
#[allow(dead_code)]
mod browser;
#[path = "bed/one_box.rs"]
#[allow(dead_code)]
mod one_box;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use browser::Browser;
use one_box::{AGENCY, SOON, XA, configure, one_box, said};
use rig::{DATASET, Rig, TOKEN, dossier, hand_in, wait_for};
use socket2::{Domain, Socket, Type};

const FIRST: &str = "/ky-thuat/tai-khoan-dau";
const LOGIN: &str = "/ky-thuat/dang-nhap";
const PASSWORD: &str = "mưa rào đầu mùa hạ";
/// Whoever answers within this is not starved.
const SANE: Duration = Duration::from_secs(30);
/// What the box may take of the machine's memory, unoptimised, while it is attacked.
const MEMORY_BYTES_MAX: u64 = 160 << 20;

/// A machine of the attacker's.
fn attacker(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 66, 0, last)
}

fn connect(port: u16, from: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(
        &SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into(),
        Duration::from_secs(2),
    )?;
    Ok(socket.into())
}

/// Clients that go on until the story ends.
struct Attack {
    ends: Arc<AtomicBool>,
    /// What they did, all together.
    deeds: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Attack {
    fn new() -> Attack {
        Attack {
            ends: Arc::default(),
            deeds: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// `count` connections of one address that send the bytes of `talk` one by one, the first `fast`
    /// of them at once, and begin again when they are cut off.
    fn drip(&mut self, port: u16, from: Ipv4Addr, count: usize, talk: &[u8], fast: usize) {
        let (ends, deeds, talk) = (self.ends.clone(), self.deeds.clone(), talk.to_vec());
        self.threads.push(thread::spawn(move || {
            let mut clients: Vec<(Option<TcpStream>, usize)> = Vec::new();
            clients.resize_with(count, || (None, 0));
            while !ends.load(Ordering::Relaxed) {
                for (client, at) in &mut clients {
                    if ends.load(Ordering::Relaxed) {
                        return;
                    }
                    let Some(stream) = client else {
                        *client = connect(port, from).ok();
                        if let Some(stream) = client {
                            stream.set_nonblocking(true).unwrap();
                            *at = stream.write(&talk[..fast]).unwrap_or(0);
                            deeds.fetch_add(1, Ordering::Relaxed);
                        }
                        continue;
                    };
                    let byte = &talk[*at % talk.len()..][..1];
                    let is_cut = match stream.write(byte) {
                        Ok(_) => {
                            *at += 1;
                            matches!(stream.peek(&mut [0]), Ok(0))
                        }
                        Err(error) => error.kind() != ErrorKind::WouldBlock,
                    };
                    if is_cut {
                        *client = None;
                    }
                }
                thread::sleep(Duration::from_millis(200));
            }
        }));
    }

    /// Connections of one address that ask for large answers and read nothing of them.
    fn never_read(&mut self, port: u16, from: Ipv4Addr, count: usize) {
        let (ends, deeds) = (self.ends.clone(), self.deeds.clone());
        self.threads.push(thread::spawn(move || {
            let mut clients: Vec<Option<TcpStream>> = Vec::new();
            clients.resize_with(count, || None);
            let ask = "GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20);
            while !ends.load(Ordering::Relaxed) {
                for client in &mut clients {
                    if client.is_none() {
                        *client = connect(port, from).ok();
                    }
                    let Some(stream) = client else { continue };
                    stream.set_nonblocking(true).unwrap();
                    match stream.write(ask.as_bytes()) {
                        Ok(_) => drop(deeds.fetch_add(1, Ordering::Relaxed)),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(_) => *client = None,
                    }
                }
                thread::sleep(Duration::from_millis(200));
            }
        }));
    }

    /// Guesses at the owner's password without a pause.
    fn guess(&mut self, port: u16, from: Ipv4Addr) {
        let (ends, deeds) = (self.ends.clone(), self.deeds.clone());
        self.threads.push(thread::spawn(move || {
            let mut n = 0;
            while !ends.load(Ordering::Relaxed) {
                n += 1;
                let form = format!("ten=lan&mat_khau=dung-roi-{n}&ma_bieu_mau=x");
                let Ok(mut stream) = connect(port, from) else {
                    continue;
                };
                let asked = write!(
                    stream,
                    "POST {LOGIN} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                     Cookie: bieu_mau=x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                     Content-Length: {}\r\n\r\n{form}",
                    form.len()
                );
                stream
                    .set_read_timeout(Some(Duration::from_secs(1)))
                    .unwrap();
                if asked.is_ok() && matches!(stream.read(&mut [0; 64]), Ok(1..)) {
                    deeds.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }

    fn deeds(&self) -> usize {
        self.deeds.load(Ordering::Relaxed)
    }

    fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

fn resident_bytes(rig: &Rig) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", rig.pid(XA))).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap();
    kib << 10
}

fn code(rig: &Rig) -> String {
    let text = said(rig, &["account", "code"], 0);
    text.lines().next().unwrap().to_owned()
}

/// The owner makes his account and is logged in, at an address that the box knows from then on.
fn owner(rig: &Rig, from: Ipv4Addr) {
    let mut browser = Browser::at(rig.boxes[XA].http_port, from);
    browser.get(FIRST);
    let fields = [
        ("ma", code(rig)),
        ("ten", "lan".to_owned()),
        ("mat_khau", PASSWORD.to_owned()),
        ("mat_khau_2", PASSWORD.to_owned()),
    ];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (*k, v.as_str())).collect();
    assert_eq!(browser.post(FIRST, &fields).status, 303);
}

fn logs_in(rig: &Rig, from: Ipv4Addr) -> u16 {
    let mut browser = Browser::at(rig.boxes[XA].http_port, from);
    browser.get(LOGIN);
    browser
        .post(LOGIN, &[("ten", "lan"), ("mat_khau", PASSWORD)])
        .status
}

/// Hands in piece by piece for as long as the attack lasts; each piece within sane bounds.
fn work(rig: &Rig, attack: &Attack, pieces: u32) -> Duration {
    let mut longest = Duration::ZERO;
    for piece in 1..=pieces {
        let begun = Instant::now();
        let numbers = (piece - 1) * 20..piece * 20;
        wait_for("a piece is taken", SANE, || {
            hand_in(rig.boxes[XA].http_port, AGENCY, numbers.clone())
        });
        longest = longest.max(begun.elapsed());
        let memory = resident_bytes(rig);
        assert!(memory < MEMORY_BYTES_MAX, "{} MB", memory >> 20);
        thread::sleep(Duration::from_millis(300));
    }
    println!(
        "{} hostile deeds, longest wait {longest:?}, {} MB",
        attack.deeds(),
        resident_bytes(rig) >> 20
    );
    longest
}

#[test]
fn slow_idle_and_deaf_clients_keep_no_record_out() {
    let mut rig = one_box();
    rig.start_box(XA);
    let port = rig.boxes[XA].http_port;
    let mut attack = Attack::new();
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Slow: {}", "a".repeat(8_000));
    attack.drip(port, attacker(1), 300, head.as_bytes(), 40);
    let form = format!(
        "POST {LOGIN} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: 9000\r\n\r\n"
    );
    let form = [form.as_bytes(), &[b'a'; 8_000]].concat();
    let at_once = form.len() - 8_000;
    for last in 10..18 {
        attack.drip(port, attacker(last), 40, &form, at_once);
    }
    let body = format!(
        "POST /v1/records/{DATASET} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sai\r\n\
         Content-Type: application/json\r\nContent-Length: 9000\r\n\r\n"
    );
    attack.drip(port, attacker(2), 100, body.as_bytes(), body.len());
    // Idle ones: the first byte is never sent.
    attack.drip(port, attacker(3), 1_000, b" ", 0);
    attack.never_read(port, attacker(4), 100);
    wait_for("the attack is under way", SOON, || 500 < attack.deeds());

    let longest = work(&rig, &attack, 20);
    assert!(longest < Duration::from_secs(8), "it waited for time-outs");
    wait_for(
        "all of it is at the hub while the attack lasts",
        SANE * 2,
        || rig.at_hub(XA).len() == 400,
    );
    attack.end();
    rig.wait_until_drained(XA, SANE);
    rig.assert_exactly(XA, AGENCY, 400);
}

#[test]
fn one_address_never_has_all_places_and_who_says_nothing_is_left() {
    let mut rig = one_box();
    rig.kill_hub();
    rig.start_box(XA);
    let port = rig.boxes[XA].http_port;
    let clients: Vec<TcpStream> = (0..300)
        .filter_map(|_| connect(port, attacker(1)).ok())
        .collect();
    assert_eq!(clients.len(), 300);
    let open = || {
        let is_open = |client: &&TcpStream| {
            client.set_nonblocking(true).unwrap();
            matches!(client.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
        };
        clients.iter().filter(is_open).count()
    };
    // Before any of them has run out of time.
    wait_for("most of them are sent away", Duration::from_secs(8), || {
        open() <= 96
    });
    wait_for(
        "those without a word are left",
        Duration::from_secs(60),
        || open() == 0,
    );
    // A byte now and then is no request either.
    let mut slow = connect(port, attacker(2)).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let begun = Instant::now();
    while slow.write_all(b"a").is_ok() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it is never left"
        );
        thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn guessing_without_end_keeps_neither_records_nor_the_owner_out() {
    let mut rig = one_box();
    rig.start_box(XA);
    let port = rig.boxes[XA].http_port;
    let home = Ipv4Addr::new(127, 0, 0, 9);
    owner(&rig, home);
    let mut attack = Attack::new();
    for _ in 0..4 {
        attack.guess(port, attacker(1));
    }
    for last in 2..8 {
        attack.guess(port, attacker(last));
    }
    wait_for("the guesses come in", SOON, || 50 < attack.deeds());
    work(&rig, &attack, 10);
    wait_for(
        "all of it is at the hub while the attack lasts",
        SANE * 2,
        || rig.at_hub(XA).len() == 200,
    );
    attack.end();
    wait_for("the owner gets in where he is known", SANE, || {
        logs_in(&rig, home) == 303
    });
    // His account is locked for strangers; a code from the console opens it anywhere.
    let elsewhere = Ipv4Addr::new(127, 0, 0, 10);
    owner(&rig, elsewhere);
    assert_eq!(logs_in(&rig, elsewhere), 303);
}

#[test]
fn slow_handshakes_keep_no_record_out() {
    let mut rig = one_box();
    let port = rig.boxes[XA].http_port;
    configure(
        &rig,
        "30-lan.toml",
        &format!("[http]\nlisten = \"0.0.0.0:{port}\"\nmdns = false\n"),
    );
    rig.launch_box(XA);
    let pem = rig.folder.path().join("page.pem");
    wait_for("the box has its certificate", SOON, || {
        rig.boxes[XA].folder.join("https.crt").exists() && connect(port, attacker(9)).is_ok()
    });
    fs::write(&pem, said(&rig, &["certificate"], 0)).unwrap();

    let mut attack = Attack::new();
    // A record of a handshake that says it is long.
    let hello = [
        &[0x16, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb, 3, 3][..],
        &[7; 16_000],
    ]
    .concat();
    for last in 1..5 {
        attack.drip(port, attacker(last), 150, &hello, 8);
    }
    attack.drip(port, attacker(5), 500, &hello, 0);
    wait_for("the attack is under way", SOON, || 300 < attack.deeds());
    for n in 0..15 {
        let begun = Instant::now();
        let sent = || {
            let output = Command::new("curl")
                .args(["--silent", "--max-time", "30", "--cacert"])
                .arg(&pem)
                .args(["--output", "/dev/null", "--write-out", "%{http_code}"])
                .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
                .args(["--header", "Content-Type: application/json"])
                .args(["--data", &dossier(AGENCY, n)])
                .arg(format!("https://127.0.0.1:{port}/v1/records/{DATASET}"))
                .output()
                .unwrap();
            output.stdout == b"201"
        };
        wait_for("a record is taken", SANE, sent);
        println!("record {n} after {:?}", begun.elapsed());
        assert!(resident_bytes(&rig) < MEMORY_BYTES_MAX);
    }
    wait_for(
        "all of it is at the hub while the attack lasts",
        SANE * 2,
        || rig.at_hub(XA).len() == 15,
    );
    attack.end();
    rig.verify();
}
