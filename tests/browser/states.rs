//! The page in each state of the box but those of the link, reached for real.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use lienthong::evidence::sha256;

use crate::driver::{Browser, Screen};
use crate::judge::{judge, keep_picture, misdeeds};
use crate::office::{origin, refuse_a_file, until_parked, with_folder, with_parked_rows};
use crate::one_box::{AGENCY, SOON, XA, configure, one_box, said, source};
use crate::rig::{DATASET, Rig, TOKEN, agent, dossier, hand_in, run, wait_for};

/// The page of a state: what must stand on it in Vietnamese and in English.
pub struct State<'a> {
    pub name: &'a str,
    pub vi: &'a [&'a str],
    pub en: &'a [&'a str],
}

/// Opens the page in both languages and on both screens; what is wrong with it.
pub fn faults_of(browser: &Browser, origin: &str, state: &State<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    for (lang, path, words) in [("vi", "/", state.vi), ("en", "/?lang=en", state.en)] {
        for screen in Screen::BOTH {
            browser.use_screen(screen);
            browser.open(&format!("{origin}{path}"));
            let text = browser.text();
            for word in words.iter().filter(|word| !text.contains(**word)) {
                faults.push(format!("{}: {word} is missing in {text}", state.name));
            }
            faults.extend(judge(browser, state.name, screen, lang));
            if lang == "vi" {
                keep_picture(browser, state.name, screen);
            }
        }
    }
    browser.use_screen(Screen::Desk);
    faults.extend(misdeeds(browser, origin));
    faults
}

fn is_up(rig: &Rig) -> bool {
    rig.status(XA)["link"]["state"] == "up"
}

#[track_caller]
fn assert_good(rig: &Rig, state: &State<'_>) {
    let faults = faults_of(&Browser::start(), &origin(rig), state);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn all_is_well() {
    let mut rig = one_box();
    rig.start_box(XA);
    assert!(hand_in(rig.boxes[XA].http_port, AGENCY, 0..20));
    wait_for("all is told", SOON, || {
        is_up(&rig) && source(&rig, "mot-cua")["accepted"] == 20 && rig.waiting(XA) == 0
    });
    assert_good(
        &rig,
        &State {
            name: "good",
            vi: &["TỐT", "Đã kết nối", "Không có gì chờ gửi", "mot-cua"],
            en: &["GOOD", "Connected", "Nothing waits", "mot-cua"],
        },
    );
}

/// What waits since an hour goes out over a narrow line: the page says until when.
#[test]
fn a_backlog_goes_out() {
    let mut rig = one_box();
    rig.kill_hub();
    rig.start_box(XA);
    let port = rig.boxes[XA].http_port;
    for start in (0..6_400).step_by(400) {
        hand_in_long(port, start..start + 400);
    }
    rig.kill_box(XA);
    let way = narrow_way(rig.port, 3_000);
    let text = format!("[hub]\naddresses = [\"127.0.0.1:{way}\"]\n");
    configure(&rig, "40-way.toml", &text);
    rig.set_hours_ahead(1);
    rig.start_hub();
    rig.start_box(XA);
    let page = || {
        let url = format!("{}/", origin(&rig));
        let mut answer = agent().get(url).call().unwrap();
        answer.body_mut().read_to_string().unwrap()
    };
    wait_for("there is a forecast", Duration::from_secs(240), || {
        page().contains("dự kiến gửi hết lúc")
    });
    assert_good(
        &rig,
        &State {
            name: "backlog",
            vi: &[
                "bản ghi chờ gửi, dự kiến gửi hết lúc",
                "Theo nguồn",
                "mot-cua",
                "CẦN CHÚ Ý",
                "Đang gửi bù dữ liệu tồn",
            ],
            en: &[
                "records wait; all will be delivered at about",
                "By source",
                "ATTENTION",
                "Catching up",
            ],
        },
    );
}

/// Hands in records that can hardly be pressed together.
fn hand_in_long(port: u16, numbers: std::ops::Range<u32>) {
    let lines = numbers.map(|n| {
        let digest = |word: &str| -> String {
            let bytes = (0..8).flat_map(|part| sha256(format!("{n} {word} {part}").as_bytes()));
            bytes.map(|byte| format!("{byte:02x}")).collect()
        };
        dossier(AGENCY, n).replace("Trần Thị", &format!("Trần Thị {}", &digest("ten")[..200]))
    });
    let lines: Vec<String> = lines.collect();
    let answer = agent()
        .post(format!("http://127.0.0.1:{port}/v1/records/{DATASET}"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/x-ndjson")
        .send(lines.join("\n"));
    let mut answer = answer.unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    assert!(answer.status().is_success(), "{text}");
}

/// A way to a local port that takes no more than it passes on: the kernel's window closes.
fn narrow_way(target: u16, bytes_per_second: u64) -> u16 {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8_192).unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&address.into()).unwrap();
    socket.listen(4).unwrap();
    let listener = TcpListener::from(socket);
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else {
                continue;
            };
            let (mut back_from, mut back_to) =
                (far.try_clone().unwrap(), near.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
            std::thread::spawn(move || {
                let (mut near, mut far) = (near, far);
                let mut piece = [0; 2_048];
                while let Ok(length @ 1..) = near.read(&mut piece) {
                    let pause = length as u64 * 1_000_000 / bytes_per_second;
                    std::thread::sleep(Duration::from_micros(pause));
                    if far.write_all(&piece[..length]).is_err() {
                        break;
                    }
                }
                let _ = far.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

#[test]
fn rows_are_parked_and_a_file_is_refused() {
    let mut rig = one_box();
    with_parked_rows(&rig);
    let folder = with_folder(&rig);
    rig.start_box(XA);
    until_parked(&rig);
    refuse_a_file(&folder);
    wait_for("the refusal is told", SOON, || {
        source(&rig, "thu-muc")["refused"] == 1
    });
    assert_good(
        &rig,
        &State {
            name: "parked",
            vi: &[
                "Giữ lại chờ xử lý",
                "Giữ lại 3 dòng",
                "thu-muc",
                "CẦN CHÚ Ý",
            ],
            en: &["Parked", "3 rows parked", "thu-muc"],
        },
    );
}

/// A disk of the kernel's own, so small that it is nearly full.
#[test]
fn the_disk_is_nearly_full() {
    let mut rig = one_box();
    let disk = rig.boxes[XA].folder.join("disk");
    fs::create_dir(&disk).unwrap();
    configure(
        &rig,
        "40-disk.toml",
        "[store]\npath = \"../disk/box.db\"\nquota = \"64 MiB\"\n",
    );
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "tmpfs", "-o", "size=200m", "tmpfs"])
        .arg(&disk);
    run(&mut mount, 0);
    let _mounted = Mounted(disk);
    rig.start_box(XA);
    assert_good(
        &rig,
        &State {
            name: "disk",
            vi: &["Đĩa chỉ còn trống", "CÓ SỰ CỐ"],
            en: &["are free on the disk", "TROUBLE"],
        },
    );
    rig.kill_box(XA);
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The hub was away while the certificate should have been renewed.
#[test]
fn the_certificate_ends_soon() {
    let mut rig = one_box();
    rig.kill_hub();
    rig.set_days_ahead(720);
    rig.start_box(XA);
    assert_good(
        &rig,
        &State {
            name: "certificate",
            vi: &["Chứng thư của trạm còn", "CẦN CHÚ Ý"],
            en: &["The box's certificate ends in", "ATTENTION"],
        },
    );
}

#[test]
fn the_store_was_restored_and_a_source_rests() {
    let mut rig = one_box();
    rig.start_box(XA);
    assert!(hand_in(rig.boxes[XA].http_port, AGENCY, 0..20));
    rig.wait_until_drained(XA, SOON);
    let archive = rig.folder.path().join("xa.tar.zst");
    said(&rig, &["backup", archive.to_str().unwrap()], 0);
    rig.kill_box(XA);
    for name in ["box.db", "box.db-wal", "box.db-shm"] {
        let _ = fs::remove_file(rig.boxes[XA].folder.join(name));
    }
    said(&rig, &["restore", archive.to_str().unwrap()], 0);
    rig.start_box(XA);
    wait_for("the link stands", SOON, || is_up(&rig));
    rig.trucd(&["command", XA, "pause_source", "mot-cua"], 0);
    wait_for("the source rests", SOON, || {
        source(&rig, "mot-cua")["state"] == "paused"
    });
    assert_good(
        &rig,
        &State {
            name: "restored",
            vi: &["khôi phục", "Nguồn đang tạm dừng: mot-cua"],
            en: &["estored", "Paused"],
        },
    );
}
