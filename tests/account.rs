//! The technician's area of the box's page, by a real box: who gets in, who does not, and that every
//! deed does what it says and stands in the audit.

#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

#[path = "account/browser.rs"]
mod browser;
#[path = "account/deeds.rs"]
mod deeds;
#[path = "account/language.rs"]
mod language;
#[path = "account/link_test.rs"]
mod link_test;
#[path = "bed/one_box.rs"]
#[allow(dead_code)]
mod one_box;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;
#[path = "account/safekeeping.rs"]
mod safekeeping;
#[path = "account/stick.rs"]
mod stick;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use browser::Browser;
use lienthong::edge::technician::{Methods, ROUTES};
use one_box::{AGENCY, XA, one_box, said};
use rig::Rig;

const FIRST: &str = "/ky-thuat/tai-khoan-dau";
const LOGIN: &str = "/ky-thuat/dang-nhap";
const PASSWORD: &str = "mưa rào đầu mùa hạ";

fn start() -> Rig {
    let mut rig = one_box();
    rig.kill_hub();
    rig.start_box(XA);
    rig
}

fn port(rig: &Rig) -> u16 {
    rig.boxes[XA].http_port
}

fn code(rig: &Rig) -> String {
    said(rig, &["account", "code"], 0)
        .lines()
        .next()
        .unwrap()
        .to_owned()
}

/// A technician who is logged in, by a code from the console.
fn technician(rig: &Rig) -> Browser {
    let mut browser = Browser::new(port(rig));
    by_code(&mut browser, &code(rig), "lan", PASSWORD);
    browser
}

#[track_caller]
fn by_code(browser: &mut Browser, code: &str, name: &str, password: &str) {
    browser.get(FIRST).ok();
    let fields = [
        ("ma", code),
        ("ten", name),
        ("mat_khau", password),
        ("mat_khau_2", password),
    ];
    let page = browser.post(FIRST, &fields);
    assert_eq!(page.location(), Some("/ky-thuat"), "{}", page.body);
    browser.get("/ky-thuat").ok();
}

fn log_in(browser: &mut Browser, name: &str, password: &str) -> browser::Page {
    browser.get(LOGIN).ok();
    browser.post(LOGIN, &[("ten", name), ("mat_khau", password)])
}

/// Hands a record in; how long it took.
fn hand_in(rig: &Rig, number: u32) -> Duration {
    let begun = Instant::now();
    assert!(rig::hand_in(port(rig), AGENCY, number..number + 1));
    begun.elapsed()
}

fn audit(rig: &Rig) -> Vec<serde_json::Value> {
    let text = said(rig, &["audit", "--json"], 0);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[track_caller]
fn assert_audited(rig: &Rig, name: &str, result: &str) {
    let lines = audit(rig);
    let found = lines
        .iter()
        .find(|line| line["name"] == name && line["result"] == result);
    let line = found.unwrap_or_else(|| panic!("no {name} {result} in {lines:#?}"));
    assert_eq!(
        (line["who"].as_str(), line["what"].as_str()),
        (Some("lan"), Some("local"))
    );
    assert_eq!(line["id"], "127.0.0.1");
}

#[test]
fn the_first_account_is_made_by_the_code_in_the_log() {
    let rig = start();
    let log = std::fs::read_to_string(rig.folder.path().join(format!("{XA}.log"))).unwrap();
    let at = log.find("code=").expect("the log names a code");
    let code: String = log[at..]
        .chars()
        .filter(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '-')
        .take(23)
        .collect();
    let mut browser = Browser::new(port(&rig));
    assert_eq!(browser.get("/ky-thuat").location(), Some(LOGIN));

    browser.get(FIRST).ok();
    let wrong = [
        ("ma", "AAAAA-AAAAA-AAAAA-AAAAA"),
        ("ten", "lan"),
        ("mat_khau", PASSWORD),
        ("mat_khau_2", PASSWORD),
    ];
    let page = browser.post(FIRST, &wrong);
    assert_eq!(page.status, 422);
    assert!(page.body.contains("Mã sai, đã dùng"), "{}", page.body);
    for (fields, word) in [
        (
            [
                ("ma", code.as_str()),
                ("ten", "l"),
                ("mat_khau", PASSWORD),
                ("mat_khau_2", PASSWORD),
            ],
            "Tên này không dùng được",
        ),
        (
            [
                ("ma", code.as_str()),
                ("ten", "lan"),
                ("mat_khau", "ngắn"),
                ("mat_khau_2", "ngắn"),
            ],
            "ít nhất 12 ký tự",
        ),
        (
            [
                ("ma", code.as_str()),
                ("ten", "lan"),
                ("mat_khau", PASSWORD),
                ("mat_khau_2", "khác"),
            ],
            "không giống nhau",
        ),
    ] {
        let page = browser.post(FIRST, &fields);
        assert_eq!(page.status, 422);
        assert!(
            page.body.contains(word) && page.body.contains("aria-invalid"),
            "{}",
            page.body
        );
        assert!(!page.body.contains(PASSWORD), "a password is not sent back");
    }
    by_code(&mut browser, &code, "Lan", PASSWORD);
    assert_audited(&rig, "login_by_code", "done");

    // Once used, no code of before counts; another browser has the password.
    let mut other = Browser::new(port(&rig));
    other.get(FIRST).ok();
    let fields = [
        ("ma", code.as_str()),
        ("ten", "lan"),
        ("mat_khau", PASSWORD),
        ("mat_khau_2", PASSWORD),
    ];
    assert_eq!(other.post(FIRST, &fields).status, 422);
    assert_eq!(log_in(&mut other, "lan", "sai mật khẩu rồi").status, 401);
    assert_eq!(
        log_in(&mut other, "LAN ", PASSWORD).location(),
        Some("/ky-thuat")
    );
    assert_audited(&rig, "login", "done");

    // Further accounts, a new password, and an end of all sessions with it.
    browser.get("/ky-thuat/tai-khoan/them").ok();
    let second = [
        ("ten", "nam"),
        ("mat_khau", "đò chiều qua sông"),
        ("mat_khau_2", "đò chiều qua sông"),
    ];
    assert_eq!(
        browser.post("/ky-thuat/tai-khoan/them", &second).location(),
        Some("/ky-thuat/tai-khoan")
    );
    assert!(
        browser
            .get("/ky-thuat/tai-khoan")
            .ok()
            .body
            .contains("Đã thêm tài khoản nam")
    );
    browser.get("/ky-thuat/tai-khoan/mat-khau").ok();
    let new = "nắng lên trên đồi chè";
    let change = |old| [("mat_khau_cu", old), ("mat_khau", new), ("mat_khau_2", new)];
    assert_eq!(
        browser
            .post("/ky-thuat/tai-khoan/mat-khau", &change("sai mật khẩu rồi"))
            .status,
        401
    );
    let changed = browser.post("/ky-thuat/tai-khoan/mat-khau", &change(PASSWORD));
    assert_eq!(changed.location(), Some("/ky-thuat/tai-khoan"));
    browser.get("/ky-thuat").ok();
    assert_eq!(
        other.get("/ky-thuat").location(),
        Some(LOGIN),
        "sessions of the old password end"
    );
    let shown = browser.confirm("/ky-thuat/tai-khoan/xoa?ten=nam", &[]);
    assert!(
        shown.body.contains("Đã xóa tài khoản nam"),
        "{}",
        shown.body
    );
    for name in ["account_add", "password_change", "account_remove"] {
        assert_audited(&rig, name, "done");
    }
    assert!(said(&rig, &["account", "list"], 0).starts_with("lan "));
    said(&rig, &["account", "remove", "lan"], 0);
    assert_eq!(browser.get("/ky-thuat").location(), Some(LOGIN), "at once");
}

#[test]
fn nothing_is_done_or_shown_without_a_session() {
    let rig = start();
    let mut owner = technician(&rig);
    hand_in(&rig, 1);
    for route in ROUTES.iter().filter(|route| !route.is_open) {
        let mut stranger = Browser::new(port(&rig));
        stranger.get(LOGIN).ok();
        let page = stranger.get(route.path);
        match route.methods {
            Methods::Post => assert_eq!(page.status, 405, "{}", route.path),
            _ => assert_eq!(page.location(), Some(LOGIN), "{}", route.path),
        }
        let page = stranger.post(
            route.path,
            &[("xac_nhan", "1"), ("nguon", "mot-cua"), ("ten", "lan")],
        );
        let expected = if route.methods == Methods::Get {
            405
        } else {
            401
        };
        assert_eq!(page.status, expected, "{}", route.path);
        assert!(
            !page.body.contains("mot-cua") && !page.body.contains("lan<"),
            "{}",
            page.body
        );
        // A session that nobody began, with a token that fits it.
        stranger.cookies.insert("phien".to_owned(), "ab".repeat(32));
        assert_ne!(stranger.get(route.path).status, 200, "{}", route.path);
    }
    owner.get("/ky-thuat").ok();
    assert!(
        said(&rig, &["account", "list"], 0).starts_with("lan "),
        "the account was not removed"
    );
    assert_eq!(owner.get("/ky-thuat/khong-co").status, 404);
    for path in ["/", "/status.json", LOGIN, FIRST] {
        let body = Browser::new(port(&rig)).get(path).body;
        assert!(
            !body.contains("lan<") && !body.contains("Nguyễn"),
            "{path}: {body}"
        );
    }
}

#[test]
fn a_session_is_renewed_at_login_and_ends_at_logout() {
    let rig = start();
    let mut owner = technician(&rig);
    let session = owner.cookies["phien"].clone();

    // An attacker's cookie is not taken over.
    let mut victim = Browser::new(port(&rig));
    let planted = "cd".repeat(32);
    victim.cookies.insert("phien".to_owned(), planted.clone());
    let page = log_in(&mut victim, "lan", PASSWORD);
    assert_eq!(page.location(), Some("/ky-thuat"));
    assert_ne!(victim.cookies["phien"], planted);
    assert_ne!(victim.cookies["phien"], session);
    let cookie = page
        .head
        .lines()
        .find(|line| line.starts_with("set-cookie: phien="))
        .unwrap();
    assert!(
        cookie.contains("; Path=/; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    let mut attacker = Browser::new(port(&rig));
    attacker.cookies.insert("phien".to_owned(), planted);
    assert_eq!(attacker.get("/ky-thuat").location(), Some(LOGIN));

    // A second login ends the session that the browser had before.
    let before = victim.cookies["phien"].clone();
    victim.get("/ky-thuat").ok();
    let again = victim.post(LOGIN, &[("ten", "lan"), ("mat_khau", PASSWORD)]);
    assert_eq!(again.location(), Some("/ky-thuat"));
    attacker.cookies.insert("phien".to_owned(), before);
    assert_eq!(attacker.get("/ky-thuat").location(), Some(LOGIN));

    owner.get("/ky-thuat").ok();
    assert_eq!(
        owner.post("/ky-thuat/dang-xuat", &[]).location(),
        Some(LOGIN)
    );
    assert!(!owner.cookies.contains_key("phien"));
    attacker.cookies.insert("phien".to_owned(), session);
    assert_eq!(
        attacker.get("/ky-thuat").location(),
        Some(LOGIN),
        "the server has ended it"
    );
    victim.get("/ky-thuat").ok();

    let page = victim.get("/ky-thuat").ok();
    for line in [
        "content-security-policy: default-src 'none'; style-src 'sha256-",
        "form-action 'self'; frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "x-frame-options: DENY",
        "cache-control: no-store",
        "referrer-policy: same-origin",
    ] {
        assert!(
            page.head.contains(line),
            "{line} is missing in {}",
            page.head
        );
    }
    for mark in ["<script", " style=", "http://", "https://"] {
        assert!(!page.body.contains(mark), "{mark}");
    }
}

#[test]
fn forms_of_other_pages_do_nothing() {
    let rig = start();
    let mut owner = technician(&rig);
    let path = "/ky-thuat/tai-khoan/xoa";
    let fields = [("xac_nhan", "1"), ("ten", "lan")];
    let good = owner.token.clone();
    for token in ["", "00", &"ef".repeat(32)] {
        let page = owner.post_raw(
            path,
            &[("ma_bieu_mau", token), ("xac_nhan", "1"), ("ten", "lan")],
        );
        assert_eq!(page.status, 403, "{token}");
        owner.token = good.clone();
    }
    assert_eq!(owner.post_raw(path, &fields).status, 403);
    for line in [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Origin: http://example.test",
        "Origin: null",
    ] {
        owner.headers = vec![line.to_owned()];
        assert_eq!(owner.post(path, &fields).status, 403, "{line}");
        owner.token = good.clone();
    }
    // A form of the login page, too: nobody is logged in as somebody else.
    let mut other = Browser::new(port(&rig));
    other.get(LOGIN).ok();
    other.headers = vec!["Sec-Fetch-Site: cross-site".to_owned()];
    assert_eq!(
        other
            .post(LOGIN, &[("ten", "lan"), ("mat_khau", PASSWORD)])
            .status,
        403
    );
    other.headers.clear();
    other.cookies.clear();
    assert_eq!(
        other
            .post(LOGIN, &[("ten", "lan"), ("mat_khau", PASSWORD)])
            .status,
        403
    );
    assert!(
        said(&rig, &["account", "list"], 0).starts_with("lan "),
        "nothing was done"
    );

    owner.headers = vec!["Sec-Fetch-Site: same-origin".to_owned()];
    owner.token = good;
    let shown = owner.post(path, &[("ten", "lan")]).ok();
    assert!(
        shown.body.contains("bị xóa"),
        "without a confirmation it is only shown"
    );
    assert!(said(&rig, &["account", "list"], 0).starts_with("lan "));
    assert_eq!(owner.post(path, &fields).status, 303);
    assert!(said(&rig, &["account", "list"], 0).starts_with("chưa có"));
}

/// What nobody has to send is not kept: neither a long name nor a long form costs memory.
#[test]
fn long_names_and_forms_of_strangers_are_not_taken() {
    let rig = start();
    let mut stranger = Browser::new(port(&rig));
    stranger.get(LOGIN).ok();
    let long = "a".repeat(12 * 1024);
    let page = stranger.post(LOGIN, &[("ten", &long), ("mat_khau", PASSWORD)]);
    assert_eq!(page.status, 401);
    let longer = "a".repeat(20 * 1024);
    let page = stranger.post(LOGIN, &[("ten", &longer), ("mat_khau", PASSWORD)]);
    assert_eq!(page.status, 400);
    let mut slow = std::net::TcpStream::connect(("127.0.0.1", port(&rig))).unwrap();
    let head = format!("POST {LOGIN} HTTP/1.1\r\nHost: tram\r\nContent-Length: 100\r\n\r\nten=");
    std::io::Write::write_all(&mut slow, head.as_bytes()).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(40)))
        .unwrap();
    let begun = Instant::now();
    let mut answer = [0; 12];
    std::io::Read::read_exact(&mut slow, &mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "it is not waited for"
    );
    hand_in(&rig, 1);
}

/// Many guess from many addresses; intake goes on, the owner's own machine is not locked out, and
/// where the account is locked the console's code opens it.
#[test]
fn guessing_costs_little_and_locks_nobody_out_for_ever() {
    let rig = start();
    let mut owner = technician(&rig);
    hand_in(&rig, 0);
    let (done, port) = (AtomicBool::new(false), port(&rig));
    let (guesses, taken) = std::thread::scope(|scope| {
        let guessers: Vec<_> = (0..6_u8)
            .map(|number| {
                scope.spawn(move || {
                    let mut counts = [0_u32; 3];
                    let address = Ipv4Addr::new(127, 0, 1, number + 1);
                    for _ in 0..40 {
                        let mut browser = Browser::at(port, address);
                        let name = if number % 2 == 0 { "lan" } else { "admin" };
                        match log_in(&mut browser, name, "đoán bừa một câu").status {
                            401 => counts[0] += 1,
                            429 => counts[1] += 1,
                            503 => counts[2] += 1,
                            status => panic!("{status}"),
                        }
                    }
                    counts
                })
            })
            .collect();
        let intake = scope.spawn(|| {
            let mut times = Vec::new();
            while !done.load(Ordering::Relaxed) {
                times.push(hand_in(&rig, 1 + times.len() as u32));
            }
            times
        });
        let counts: Vec<[u32; 3]> = guessers
            .into_iter()
            .map(|guesser| guesser.join().unwrap())
            .collect();
        done.store(true, Ordering::Relaxed);
        (counts, intake.join().unwrap())
    });
    let sum = |place: usize| guesses.iter().map(|counts| counts[place]).sum::<u32>();
    let slowest = taken.iter().max().unwrap();
    println!(
        "{} hashed, {} refused before, {} while busy; {} records meanwhile, the slowest in {slowest:?}",
        sum(0),
        sum(1),
        sum(2),
        taken.len()
    );
    assert!(sum(0) <= 40, "most guesses cost no hash: {guesses:?}");
    assert!(
        10 < taken.len() && *slowest < Duration::from_secs(5),
        "{slowest:?}"
    );
    for line in audit(&rig) {
        assert!(!line.to_string().contains("đoán bừa"), "{line}");
    }

    // The owner's machine is known, whatever the others do.
    owner.cookies.clear();
    assert_eq!(
        log_in(&mut owner, "lan", PASSWORD).location(),
        Some("/ky-thuat")
    );
    // From a machine that is new the account is locked; the code opens it.
    let mut elsewhere = Browser::at(port, Ipv4Addr::new(127, 0, 2, 1));
    let page = log_in(&mut elsewhere, "lan", PASSWORD);
    assert_eq!(page.status, 429);
    assert!(
        page.body.contains("chờ") && page.head.contains("retry-after: "),
        "{}",
        page.body
    );
    by_code(&mut elsewhere, &code(&rig), "lan", "mật khẩu vừa đặt lại");
    elsewhere.cookies.clear();
    let page = log_in(&mut elsewhere, "lan", "mật khẩu vừa đặt lại");
    assert_eq!(page.location(), Some("/ky-thuat"));
}
