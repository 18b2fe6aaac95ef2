//! Kind `http_pull` against a web service of an office's program, which pages, tires and lies.
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
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use one_box::{AGENCY, SOON, XA, assert_once, configure, one_box, said, source};
use rig::{Rig, code, wait_for};

#[derive(Debug, Clone)]
struct Request {
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    at: Instant,
}

impl Request {
    fn number(&self, name: &str, default: usize) -> usize {
        self.query
            .get(name)
            .map_or(default, |text| text.parse().unwrap())
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

fn answer(status: u16, body: impl Into<String>) -> Answer {
    Answer {
        status,
        headers: Vec::new(),
        body: body.into(),
    }
}

type Handler = Box<dyn FnMut(&Request) -> Answer + Send>;

/// A web service on a thread of its own.
struct Service {
    port: u16,
    handler: Arc<Mutex<Handler>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Service {
    fn start(handler: impl FnMut(&Request) -> Answer + Send + 'static) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = Service {
            port: listener.local_addr().unwrap().port(),
            handler: Arc::new(Mutex::new(Box::new(handler))),
            requests: Arc::default(),
        };
        let (handler, requests) = (Arc::clone(&service.handler), Arc::clone(&service.requests));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (handler, requests) = (Arc::clone(&handler), Arc::clone(&requests));
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.unwrap());
                    let Some(request) = read(&mut reader) else {
                        return;
                    };
                    requests.lock().unwrap().push(request.clone());
                    let Answer {
                        status,
                        headers,
                        body,
                    } = handler.lock().unwrap()(&request);
                    let headers: String = headers
                        .iter()
                        .map(|(name, value)| format!("{name}: {value}\r\n"))
                        .collect();
                    let text = format!(
                        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
                        body.len()
                    );
                    // The box may have been killed meanwhile.
                    let _ = reader.get_mut().write_all(text.as_bytes());
                });
            }
        });
        service
    }

    fn handle(&self, handler: impl FnMut(&Request) -> Answer + Send + 'static) {
        *self.handler.lock().unwrap() = Box::new(handler);
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(reader: &mut BufReader<std::net::TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let target = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let unescape = |text: &str| {
        let text = text
            .replace("%3A", ":")
            .replace("%2B", "+")
            .replace("%20", " ");
        text.to_owned()
    };
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    Some(Request {
        path: path.to_owned(),
        query: query
            .map(|(name, value)| (name.to_owned(), unescape(value)))
            .collect(),
        headers,
        at: Instant::now(),
    })
}

/// A dossier in the program's own words: when it changed, and its content.
fn item(n: u32, minute: u32, step: u32) -> String {
    let dossier = rig::dossier(AGENCY, n).replace("\"buoc\":3", &format!("\"buoc\":{step}"));
    format!(
        r#"{{"cap_nhat":"2026-11-20T{:02}:{:02}:00+07:00","ho_so":{dossier}}}"#,
        minute / 60,
        minute % 60
    )
}

fn list(items: &[String]) -> String {
    format!(
        r#"{{"tong":{},"du_lieu":[{}]}}"#,
        items.len(),
        items.join(",")
    )
}

struct Bed {
    rig: Rig,
}

impl Bed {
    fn new(service: &Service, source: &str) -> Bed {
        let rig = one_box();
        let fields = [
            "ma_ho_so",
            "ma_tthc",
            "ten_tthc",
            "co_quan_tiep_nhan",
            "co_quan_giai_quyet",
            "kenh",
            "muc_dvc",
            "nguoi_nop",
            "ngay_tiep_nhan",
            "trang_thai_goc",
            "trang_thai_chuan",
            "buoc",
            "phi",
        ];
        let fields: String = fields
            .map(|field| format!("{field} = \"/ho_so/{field}\"\n"))
            .concat();
        let text = format!(
            "[[source]]\nname = \"phan-mem\"\nkind = \"http_pull\"\ndataset = \"ho_so_tthc\"\n\
             url = \"http://127.0.0.1:{}/api/ho-so\"\nevery = \"1 s\"\nitems = \"/du_lieu\"\nkey = [\"/ho_so/ma_ho_so\"]\n\
             {source}\n[source.fields]\n{fields}",
            service.port
        );
        configure(&rig, "20-pull.toml", &text);
        said(&rig, &["config"], 0);
        Bed { rig }
    }

    fn start(service: &Service, source: &str) -> Bed {
        let mut bed = Bed::new(service, source);
        bed.rig.start_box(XA);
        bed
    }

    fn source(&self) -> serde_json::Value {
        source(&self.rig, "phan-mem")
    }

    fn wait_for_fault(&self, code: &str) -> serde_json::Value {
        wait_for(&format!("the fault {code} shows"), SOON, || {
            self.source()["fault"]["code"] == code
        });
        self.source()["fault"].clone()
    }

    /// How often each dossier stands at the hub, once `entries` are there and nothing more comes.
    fn at_hub(&self, entries: u32) -> BTreeMap<String, u32> {
        let sum = || self.rig.at_hub(XA).values().sum::<u32>();
        wait_for(
            &format!("{entries} entries are at the hub"),
            Duration::from_secs(60),
            || entries <= sum(),
        );
        std::thread::sleep(Duration::from_millis(1_500));
        self.rig.wait_until_drained(XA, SOON);
        self.rig.at_hub(XA)
    }

    fn assert_once(&self, count: u32) {
        assert_once(&self.at_hub(count), count as usize);
    }
}

/// Serves numbered pages of what is there, sorted by change.
fn paged(items: Arc<Mutex<Vec<(u32, u32, u32)>>>) -> impl FnMut(&Request) -> Answer + Send {
    move |request| {
        let mut all = items.lock().unwrap().clone();
        all.sort_by_key(|(_, minute, _)| *minute);
        let since = request.query.get("tu");
        let text = |(n, minute, step): &(u32, u32, u32)| item(*n, *minute, *step);
        let is_new = |text: &String| {
            let at = &text[text.find("2026").unwrap()..][..19];
            since.is_none_or(|since| since[..19] <= *at)
        };
        let found: Vec<String> = all.iter().map(text).filter(is_new).collect();
        let size = request.number("size", 100);
        let start = request.number("page", 1).saturating_sub(1) * size;
        let page: Vec<String> = found.into_iter().skip(start).take(size).collect();
        answer(200, list(&page))
    }
}

const PAGED: &str = "paging = \"page\"\npage_size = 40\nsince_param = \"tu\"\nsince_from = \"/cap_nhat\"\n\
                     since_start = \"2026-01-01T00:00:00+07:00\"\n";

#[test]
fn pages_are_taken_once_and_changes_are_told() {
    let items = Arc::new(Mutex::new((0..130).map(|n| (n, n, 3)).collect::<Vec<_>>()));
    let service = Service::start(paged(Arc::clone(&items)));
    let bed = Bed::start(&service, PAGED);
    bed.assert_once(130);
    // Changed, new, and changed back again.
    items.lock().unwrap()[5] = (5, 140, 4);
    items.lock().unwrap().push((130, 141, 3));
    assert_eq!(bed.at_hub(132)[&code(AGENCY, 5)], 2);
    items.lock().unwrap()[5] = (5, 142, 3);
    let found = bed.at_hub(133);
    assert_eq!((found[&code(AGENCY, 5)], found.len()), (3, 131));
    let asked = service.requests();
    let last = asked.last().unwrap();
    assert_eq!(last.path, "/api/ho-so");
    assert!(last.query["tu"].starts_with("2026-11-20T02:1"), "{last:?}");
}

#[test]
fn a_try_shows_what_would_be_taken_and_keeps_nothing() {
    let service = Service::start(|_| {
        let wrong = item(1, 1, 3).replace("\"kenh\":\"truc_tuyen\"", "\"kenh\":\"khac_la\"");
        answer(200, list(&[item(0, 0, 3), wrong]))
    });
    let bed = Bed::new(&service, PAGED);
    let said = said(&bed.rig, &["sources", "try", "phan-mem"], 0);
    assert!(
        said.contains("SẼ NHẬN") && said.contains("TỪ CHỐI"),
        "{said}"
    );
    assert!(
        !said.contains("Trần Thị Bích"),
        "personal data is masked: {said}"
    );
    assert!(!bed.rig.folder.path().join("box.db").exists());
}

#[test]
fn an_item_that_falls_between_two_pages_is_found() {
    let items = Arc::new(Mutex::new((0..100).map(|n| (n, n, 3)).collect::<Vec<_>>()));
    let service = Service::start(|_| answer(503, ""));
    let mut serve = paged(Arc::clone(&items));
    let mut has_shifted = false;
    service.handle(move |request| {
        let answer = serve(request);
        // Behind the first page an item goes to the end, and all others move up by one.
        if request.number("page", 1) == 1 && !has_shifted {
            items.lock().unwrap()[0] = (0, 200, 4);
            has_shifted = true;
        }
        answer
    });
    let bed = Bed::start(&service, PAGED);
    let found = bed.at_hub(101);
    assert_eq!(
        (
            found.len(),
            found[&code(AGENCY, 0)],
            found[&code(AGENCY, 40)]
        ),
        (100, 2, 1)
    );
}

#[test]
fn each_way_of_paging_is_followed() {
    let page = |start: usize, count: usize| {
        let items: Vec<String> = (start..(start + count).min(25))
            .map(|n| item(n as u32, 0, 3))
            .collect();
        list(&items)
    };
    let with = |body: String, next: Option<String>| {
        let next = next.map_or("null".to_owned(), |next| format!("\"{next}\""));
        body.replacen("{\"tong\"", &format!("{{\"tiep\":{next},\"tong\""), 1)
    };
    let ways: [(&str, Handler); 5] = [
        (
            "paging = \"none\"\n",
            Box::new(move |_| answer(200, page(0, 25))),
        ),
        (
            "paging = \"offset\"\npage_size = 10\n",
            Box::new(move |request| answer(200, page(request.number("offset", 0), 10))),
        ),
        (
            "paging = \"next\"\nnext = \"/tiep\"\n",
            Box::new(move |request| {
                let start = request.number("tu", 0);
                let next = (start + 10 < 25).then(|| format!("/api/ho-so?tu={}", start + 10));
                answer(200, with(page(start, 10), next))
            }),
        ),
        (
            "paging = \"link\"\n",
            Box::new(move |request| {
                let start = request.number("tu", 0);
                let mut answer = answer(200, page(start, 10));
                if start + 10 < 25 {
                    let link = format!("</api/ho-so?tu={}>; rel=\"next\"", start + 10);
                    answer.headers.push(("Link".to_owned(), link));
                }
                answer
            }),
        ),
        (
            "paging = \"cursor\"\npage_param = \"moc\"\nnext = \"/tiep\"\n",
            Box::new(move |request| {
                let start = request
                    .query
                    .get("moc")
                    .map_or(0, |moc| moc[1..].parse().unwrap());
                let next = (start + 10).min(25);
                answer(200, with(page(start, 10), Some(format!("m{next}"))))
            }),
        ),
    ];
    for (source, handler) in ways {
        let service = Service::start(handler);
        let bed = Bed::start(&service, source);
        bed.assert_once(25);
        assert!(
            bed.source()["fault"].is_null(),
            "{source}: {}",
            bed.source()
        );
        if source.contains("cursor") {
            let last = service.requests().last().unwrap().clone();
            assert_eq!(last.query["moc"], "m25", "the service's place is kept");
        }
    }
}

#[test]
fn killed_in_the_middle_it_loses_and_doubles_nothing() {
    let items = Arc::new(Mutex::new((0..200).map(|n| (n, n, 3)).collect::<Vec<_>>()));
    let service = Service::start(|_| answer(503, ""));
    let mut serve = paged(Arc::clone(&items));
    service.handle(move |request| {
        std::thread::sleep(Duration::from_millis(15));
        serve(request)
    });
    let mut bed = Bed::start(&service, &PAGED.replace("40", "20"));
    let rounds: u32 = std::env::var("ROUNDS").map_or(8, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(u64::from(10 + round * 29 % 170)));
        bed.rig.process(XA).signal(Signal::SIGKILL);
        bed.rig.kill_box(XA);
        items.lock().unwrap().push((200 + round, 200 + round, 3));
        bed.rig.start_box(XA);
    }
    bed.assert_once(200 + rounds);
}

#[test]
fn an_unchanged_answer_is_not_sent_again() {
    let service = Service::start(|request| {
        let mut answer = match request.headers.get("if-none-match") {
            Some(etag) if etag == "\"v1\"" => answer(304, ""),
            _ => answer(200, list(&[item(0, 0, 3)])),
        };
        answer
            .headers
            .push(("ETag".to_owned(), "\"v1\"".to_owned()));
        answer
    });
    let mut bed = Bed::start(&service, "");
    bed.assert_once(1);
    bed.rig.kill_box(XA);
    bed.rig.start_box(XA);
    wait_for("it asks again", SOON, || 6 < service.requests().len());
    let whole = service.requests();
    let whole = whole
        .iter()
        .filter(|request| !request.headers.contains_key("if-none-match"));
    assert_eq!(whole.count(), 1, "also through a restart");
    assert_eq!(bed.source()["state"], "waiting");
}

#[test]
fn a_busy_service_is_left_alone_as_long_as_it_asks() {
    let service = Service::start(|_| Answer {
        status: 429,
        headers: vec![("Retry-After".to_owned(), "3".to_owned())],
        body: String::new(),
    });
    let bed = Bed::start(&service, "");
    bed.wait_for_fault("http_busy");
    wait_for("it asks again", SOON, || 2 <= service.requests().len());
    let asked = service.requests();
    let pause = asked[1].at - asked[0].at;
    assert!(Duration::from_millis(2_900) < pause, "{pause:?}");
    service.handle(|_| answer(200, list(&[item(0, 0, 3)])));
    wait_for("the fault is over", SOON, || {
        bed.source()["fault"].is_null()
    });
    bed.assert_once(1);
}

#[test]
fn what_is_no_answer_moves_nothing_and_is_named() {
    let service = Service::start(|_| answer(200, " <!DOCTYPE html><html>Đăng nhập mạng</html>"));
    let token = "auth = \"bearer\"\ntoken_file = \"../../token\"\n";
    let mut bed = Bed::new(&service, &format!("{PAGED}{token}"));
    fs::write(bed.rig.folder.path().join("token"), "bi-mat-cua-toi\n").unwrap();
    bed.rig.start_box(XA);
    assert!(
        bed.wait_for_fault("http_portal")["hint_vi"]
            .as_str()
            .unwrap()
            .contains("trình duyệt")
    );
    for (status, body, code) in [
        (302, "", "http_status"),
        (401, "{}", "http_login"),
        (200, r#"{"data":[]}"#, "http_shape"),
        (
            200,
            r#"{"du_lieu":[{"cap_nhat":"2026-11-20T00:00:00Z","hoSo":{}}]}"#,
            "http_shape",
        ),
        (200, r#"{"du_lieu":["#, "http_shape"),
    ] {
        service.handle(move |_| answer(status, body));
        // Each fault waits out the pause of the one before.
        wait_for(
            &format!("{code} for {status} {body}"),
            Duration::from_secs(90),
            || bed.source()["fault"]["code"] == code,
        );
    }
    let items = Arc::new(Mutex::new((0..50).map(|n| (n, n, 3)).collect::<Vec<_>>()));
    service.handle(paged(items));
    wait_for("the fault is over", Duration::from_secs(90), || {
        bed.source()["fault"].is_null()
    });
    bed.assert_once(50);
    let asked = service.requests();
    assert!(
        asked
            .iter()
            .all(|request| request.headers["authorization"] == "Bearer bi-mat-cua-toi")
    );
    assert!(
        asked.last().unwrap().query["tu"].starts_with("2026-11-20T00:3"),
        "only now it moved"
    );
    assert!(!bed.rig.log(XA).contains("bi-mat-cua-toi"));
}
