//! Every deed of the technician's area, done by a real box: that it is shown before, that it does what
//! it says, and that it stands in the audit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;

use crate::browser::{Browser, Page, encoded, hidden};
use crate::one_box::{SOON, XA, config, configure, one_box, said, source};
use crate::rig::{Process, Rig, agent, tramd, wait_for};
use crate::{assert_audited, audit, hand_in, port, technician};

/// A real name and number of nobody, which no page may show whole.
const NAME: &str = "Phạm Thị Mẫu Đơn";
const NUMBER: &str = "001304009991";

/// Shows the page of a deed, which must say what will happen and do nothing.
#[track_caller]
pub fn only_shown(browser: &mut Browser, rig: &Rig, path: &str) -> Page {
    let before = audit(rig).len();
    let page = browser.get(path).ok();
    assert!(page.body.contains("name=\"xac_nhan\""), "{}", page.body);
    assert_eq!(audit(rig).len(), before, "{path} by GET does nothing");
    page
}

#[test]
fn a_source_rests_and_works_again_as_by_the_hub() {
    let mut rig = one_box();
    rig.kill_hub();
    rig.start_box(XA);
    let mut browser = technician(&rig);
    hand_in(&rig, 1);
    let path = "/ky-thuat/nguon/tam-dung?nguon=mot-cua";
    only_shown(&mut browser, &rig, path);
    let home = browser.confirm(path, &[]);
    assert!(
        home.body.contains("Nguồn mot-cua tạm dừng"),
        "{}",
        home.body
    );
    assert!(
        home.body.contains("tạm dừng theo lệnh (lan, "),
        "{}",
        home.body
    );
    assert_audited(&rig, "pause_source", "done");
    let refuses = || {
        let range = 2..3;
        !crate::rig::hand_in(port(&rig), crate::one_box::AGENCY, range)
    };
    assert!(refuses(), "the door is closed to it");

    // It holds over a restart of the daemon, because it is the hub's own setting.
    rig.kill_box(XA);
    rig.start_box(XA);
    assert!(!crate::rig::hand_in(
        port(&rig),
        crate::one_box::AGENCY,
        3..4
    ));
    let mut browser = technician(&rig);
    let path = "/ky-thuat/nguon/chay-tiep?nguon=mot-cua";
    only_shown(&mut browser, &rig, path);
    browser.confirm(path, &[]);
    assert_audited(&rig, "resume_source", "done");
    hand_in(&rig, 4);

    let home = browser.confirm("/ky-thuat/nguon/tam-dung?nguon=khong-co", &[]);
    assert!(
        home.body.contains("không có nguồn khong-co"),
        "{}",
        home.body
    );
    assert_audited(&rig, "pause_source", "failed");
}

#[test]
fn what_waits_is_sent_at_once() {
    let mut rig = one_box();
    rig.start_box(XA);
    let mut browser = technician(&rig);
    wait_for("the link is up", SOON, || {
        rig.status(XA)["link"]["state"] == "up"
    });
    let since = rig.status(XA)["link"]["since"].clone();
    only_shown(&mut browser, &rig, "/ky-thuat/gui-ngay");
    browser.confirm("/ky-thuat/gui-ngay", &[]);
    assert_audited(&rig, "send_now", "done");
    wait_for("the link is made anew", SOON, || {
        let link = rig.status(XA)["link"].clone();
        link["state"] == "up" && link["since"] != since
    });
    hand_in(&rig, 1);
    rig.wait_until_drained(XA, SOON);
}

#[test]
fn the_timetable_is_set_and_says_from_whom_it_is() {
    let mut rig = one_box();
    rig.kill_hub();
    configure(
        &rig,
        "20-width.toml",
        "[hub]\nbandwidth = [\"22:00-23:00 512\"]\n",
    );
    rig.start_box(XA);
    let mut browser = technician(&rig);
    let path = "/ky-thuat/bang-thong";
    let page = browser.get(path).ok();
    assert!(
        page.body.contains("22:00-23:00 512") && page.body.contains("theo cấu hình"),
        "{}",
        page.body
    );
    let page = browser.post(path, &[("gio", "7h-17h 256")]);
    assert_eq!(page.status, 422);
    assert!(
        page.body.contains("không đúng mẫu") && page.body.contains("7h-17h 256</textarea>"),
        "{}",
        page.body
    );
    let shown = browser
        .post(path, &[("gio", "07:30-17:00 256\r\n17:00-18:00 0\r\n")])
        .ok();
    assert!(
        shown.body.contains("<li>07:30-17:00 256 kbit/s</li>"),
        "{}",
        shown.body
    );
    assert_eq!(
        rig.status(XA)["bandwidth"][0],
        "22:00-23:00 512",
        "only shown"
    );
    let page = browser.follow(path, hidden(&shown.body));
    assert!(page.body.contains("do lan đặt lúc"), "{}", page.body);
    assert_audited(&rig, "set_bandwidth", "done");
    assert_eq!(
        rig.status(XA)["bandwidth"],
        serde_json::json!(["07:30-17:00 256", "17:00-18:00 0"])
    );
    let shown = browser.post(path, &[("gio", "")]).ok();
    browser.follow(path, hidden(&shown.body));
    assert_eq!(
        rig.status(XA)["bandwidth"][0],
        "22:00-23:00 512",
        "the configuration's again"
    );
}

/// An office's database with four rows: one good, two with faults, one with sensitive data.
pub fn with_parked_rows(rig: &Rig) {
    let file = rig.folder.path().join("mot-cua.sqlite");
    let office = Connection::open(&file).unwrap();
    office
        .execute_batch(
            "CREATE TABLE ho_so (id INTEGER PRIMARY KEY, so TEXT, tthc TEXT, ten TEXT, dinh_danh TEXT, chuan TEXT);
             CREATE TABLE tiem (id INTEGER PRIMARY KEY, loai TEXT, benh TEXT);",
        )
        .unwrap();
    let mut add = office
        .prepare("INSERT INTO ho_so (so, tthc, ten, dinh_danh, chuan) VALUES (?1, ?2, ?3, ?4, 'DANG_XU_LY')")
        .unwrap();
    for (so, tthc) in [
        ("H53.12-261120-0001", "1.001193"),
        ("H53.12-261120-0002", "khai sinh"),
        ("H53.12-261120-0003", "kết hôn"),
        ("H53.12-261120-0004", "sai"),
    ] {
        add.execute([so, tthc, NAME, NUMBER]).unwrap();
    }
    office
        .execute(
            "INSERT INTO tiem (loai, benh) VALUES ('ca_benh', 'HIV dương tính')",
            [],
        )
        .unwrap();
    let place = format!(
        "kind = \"sql\"\npoll = \"100 ms\"\ndriver = \"sqlite\"\nfile = \"{}\"\nmode = \"increasing\"\nwatermark = \"id\"\n",
        file.display()
    );
    configure(
        rig,
        "20-sources.toml",
        &format!(
            "[[source]]\nname = \"ho-so\"\ndataset = \"ho_so_tthc\"\n{place}\
             query = \"SELECT id, so, tthc, ten, dinh_danh, chuan, 'H53.12' cq, 'H53.12' cq2, 'ca_nhan' loai, '2026-11-20T08:12:45+07:00' ngay, 'Đang thụ lý' goc FROM ho_so WHERE id > :after ORDER BY id LIMIT :limit\"\n\
             [source.columns]\nso = \"ma_ho_so\"\ntthc = \"ma_tthc\"\nten = \"nguoi_nop.ho_ten\"\ndinh_danh = \"nguoi_nop.so_dinh_danh\"\nchuan = \"trang_thai_chuan\"\ncq = \"co_quan_tiep_nhan\"\ncq2 = \"co_quan_giai_quyet\"\nloai = \"nguoi_nop.loai\"\nngay = \"ngay_tiep_nhan\"\ngoc = \"trang_thai_goc\"\n\
             [[source]]\nname = \"tiem\"\ndataset = \"tiem_chung_dich_benh\"\n{place}\
             query = \"SELECT id, loai, benh FROM tiem WHERE id > :after ORDER BY id LIMIT :limit\"\n\
             [source.columns]\nloai = \"loai_ban_ghi\"\nbenh = \"benh\"\n"
        ),
    );
}

#[track_caller]
fn masked(page: &Page) {
    for secret in [NAME, NUMBER, "Phạm Thị", "00130400", "HIV", "dương tính"] {
        assert!(!page.body.contains(secret), "{secret} in {}", page.body);
    }
}

#[test]
fn parked_rows_are_looked_at_repaired_retried_and_dropped() {
    let mut rig = one_box();
    rig.kill_hub();
    with_parked_rows(&rig);
    rig.start_box(XA);
    let mut browser = technician(&rig);
    wait_for("the rows are parked", SOON, || {
        source(&rig, "ho-so")["parked"] == 3 && source(&rig, "tiem")["parked"] == 1
    });
    let numbers = |name: &str| -> Vec<i64> {
        let rows: serde_json::Value =
            serde_json::from_str(&said(&rig, &["sources", "parked", name, "--json"], 0)).unwrap();
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| row["number"].as_i64().unwrap())
            .collect()
    };
    let ho_so = numbers("ho-so");
    let page = browser.get("/ky-thuat/giu-lai?nguon=ho-so").ok();
    masked(&page);
    assert_eq!(
        page.body.matches("/ky-thuat/giu-lai/bo?").count(),
        3,
        "{}",
        page.body
    );

    // Looked at: the last four characters.
    let page = browser
        .get(&format!(
            "/ky-thuat/giu-lai/xem?nguon=ho-so&so={}",
            ho_so[0]
        ))
        .ok();
    masked(&page);
    assert!(
        page.body.contains("••••9991") && page.body.contains("Mã thủ tục hành chính"),
        "{}",
        page.body
    );
    assert_audited(&rig, "look_parked", "done");
    let tiem = numbers("tiem")[0];
    for deed in ["xem", "sua"] {
        let page = browser
            .get(&format!("/ky-thuat/giu-lai/{deed}?nguon=tiem&so={tiem}"))
            .ok();
        masked(&page);
        assert!(
            page.body.contains("không được xem") && !page.body.contains("••••"),
            "{}",
            page.body
        );
    }

    // Repaired: first still wrong, then right.
    let path = "/ky-thuat/giu-lai/sua";
    let place = format!("{path}?nguon=ho-so&so={}", ho_so[0]);
    let number = ho_so[0].to_string();
    let mut repair = |value: &str| {
        masked(&browser.get(&place).ok());
        let fields = [
            ("nguon", "ho-so"),
            ("so", &number),
            ("moi:/ma_tthc", value),
            ("moi:/nguoi_nop/ho_ten", "Phạm Thị Mẫu Đất"),
        ];
        let shown = browser.post(path, &fields).ok();
        assert!(!shown.body.contains(">Phạm Thị"), "{}", shown.body);
        assert!(shown.body.contains("/ma_tthc"), "{}", shown.body);
        browser.follow(path, hidden(&shown.body))
    };
    let page = repair("1.0011");
    assert!(page.body.contains("còn giữ lại 1"), "{}", page.body);
    assert_eq!(numbers("ho-so").len(), 3, "still wrong, nothing is lost");
    let page = repair("1.001193");
    assert!(
        page.body.contains("nhận 1 dòng, còn giữ lại 0"),
        "{}",
        page.body
    );
    assert_eq!(numbers("ho-so"), ho_so[1..]);
    assert_audited(&rig, "mend_parked", "done");

    // Handed in again without a change: it stays.
    let path = format!("/ky-thuat/giu-lai/dua-lai?nguon=ho-so&so={}", ho_so[1]);
    only_shown(&mut browser, &rig, &path);
    let page = browser.confirm(&path, &[]);
    assert!(page.body.contains("còn giữ lại 1"), "{}", page.body);
    assert_audited(&rig, "retry_parked", "done");

    // Given up: only with a reason, and only when confirmed.
    let path = "/ky-thuat/giu-lai/bo";
    browser
        .get(&format!("{path}?nguon=ho-so&so={}", ho_so[1]))
        .ok();
    let number = ho_so[1].to_string();
    let page = browser.post(path, &[("nguon", "ho-so"), ("so", &number)]);
    assert!(page.body.contains("Phải ghi lý do"), "{}", page.body);
    let fields = [
        ("nguon", "ho-so"),
        ("so", number.as_str()),
        ("ly_do", "nhập nhầm"),
    ];
    let shown = browser.post(path, &fields).ok();
    assert_eq!(numbers("ho-so").len(), 2, "only shown");
    browser.follow(path, hidden(&shown.body));
    assert_eq!(numbers("ho-so"), ho_so[2..]);
    assert_audited(&rig, "drop_parked", "done");
    let page = browser.get("/ky-thuat/giu-lai/bo?nguon=ho-so&so=999999");
    assert_eq!(page.status, 409, "{}", page.body);

    // The console's deeds stand beside them.
    said(
        &rig,
        &[
            "sources",
            "drop",
            "ho-so",
            &ho_so[2].to_string(),
            "--reason",
            "thử",
        ],
        0,
    );
    let lines = audit(&rig);
    let console = lines
        .iter()
        .find(|line| line["who"] == "console" && line["name"] == "drop_parked");
    assert!(console.is_some(), "{lines:#?}");
    let page = browser.get("/ky-thuat/nhat-ky").ok();
    masked(&page);
    for word in ["mend_parked", "drop_parked", "nhập nhầm", "console", "lan"] {
        assert!(page.body.contains(word), "{word} in {}", page.body);
    }

    // What was taken is what was meant.
    rig.start_hub();
    rig.wait_until_drained(XA, SOON);
    let entries = rig.entries(XA);
    let repaired = entries
        .iter()
        .find(|entry| entry["subject"] == "H53.12-261120-0002")
        .unwrap();
    assert_eq!(repaired["data"]["ma_tthc"], "1.001193");
    assert_eq!(repaired["data"]["nguoi_nop"]["ho_ten"], "Phạm Thị Mẫu Đất");
    assert_eq!(repaired["data"]["nguoi_nop"]["so_dinh_danh"], NUMBER);
}

#[test]
fn a_refused_file_is_taken_anew() {
    let mut rig = one_box();
    rig.kill_hub();
    let folder = rig.folder.path().join("nhan");
    fs::create_dir(&folder).unwrap();
    configure(
        &rig,
        "20-sources.toml",
        &format!(
            "[[source]]\nname = \"thu-muc\"\nkind = \"folder\"\ndataset = \"ho_so_tthc\"\npath = \"{}\"\nsettle = \"100 ms\"\n",
            folder.display()
        ),
    );
    rig.start_box(XA);
    let mut browser = technician(&rig);
    let name = "hồ sơ.json";
    fs::write(folder.join(name), "{\"ma_ho_so\": 1}").unwrap();
    let refused: PathBuf = folder.join("refused").join(name);
    wait_for("the file is refused", SOON, || refused.is_file());
    let list = "/ky-thuat/tep?nguon=thu-muc";
    let page = browser.get(list).ok();
    assert!(
        page.body.contains(name) && page.body.contains("<pre "),
        "{}",
        page.body
    );
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    let path = format!("/ky-thuat/tep/nhan-lai?nguon=thu-muc&ten={hex}");
    only_shown(&mut browser, &rig, &path);
    // Somebody has mended it where it lies.
    fs::write(&refused, crate::rig::dossier(crate::one_box::AGENCY, 7)).unwrap();
    browser.confirm(&path, &[]);
    assert_audited(&rig, "replay_file", "done");
    wait_for("the file is taken", SOON, || rig.waiting(XA) == 1);
    wait_for("it is put away", SOON, || !folder.join(name).exists());
    let left: Vec<_> = fs::read_dir(folder.join("refused")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");

    // Nothing outside of the folder can be named, and no link leads there.
    std::os::unix::fs::symlink(rig.folder.path(), folder.join("refused/loi")).unwrap();
    fs::write(rig.folder.path().join("ngoai.json"), "{}").unwrap();
    for wrong in [
        "../../ngoai.json",
        "loi/ngoai.json",
        "/etc/hostname",
        "hồ sơ.json.reason.txt",
        "khong-co.json",
        "",
    ] {
        let hex: String = wrong.bytes().map(|byte| format!("{byte:02x}")).collect();
        let fields = [
            ("xac_nhan", "1"),
            ("nguon", "thu-muc"),
            ("ten", hex.as_str()),
        ];
        browser.get(list).ok();
        browser.get(&path).ok();
        let page = browser.post("/ky-thuat/tep/nhan-lai", &fields);
        assert_eq!(page.location(), Some(list), "{wrong}");
        assert!(
            browser.get(list).ok().body.contains("notice bad"),
            "{wrong}"
        );
    }
    assert!(rig.folder.path().join("ngoai.json").is_file());
    assert_eq!(encoded("a b"), "a%20b");
}

/// Starts the box with stand-ins for systemd's commands before the real ones.
fn start_with_commands(rig: &mut Rig, can: &str) -> PathBuf {
    let folder = rig.folder.path().join("lenh");
    fs::create_dir_all(&folder).unwrap();
    let done = folder.join("da-tat");
    for (name, text) in [
        ("busctl", format!("#!/bin/sh\necho 's \"{can}\"'\n")),
        (
            "systemctl",
            format!("#!/bin/sh\necho \"$@\" > {}\n", done.display()),
        ),
    ] {
        let file = folder.join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let log = rig.folder.path().join("systemd.log");
    let mut command: Command = tramd();
    command
        .args(["run", "--config"])
        .arg(config(rig))
        .env("PATH", path)
        .env("INVOCATION_ID", "thu");
    let process = Process::start(XA, &mut command, &log);
    rig.boxes.get_mut(XA).unwrap().process = Some(process);
    let url = format!("http://127.0.0.1:{}/healthz", port(rig));
    wait_for("the box takes in", SOON, || {
        agent().get(&url).call().is_ok()
    });
    done
}

#[test]
fn the_program_is_restarted_and_the_machine_shut_down_where_they_can_be() {
    let mut rig = one_box();
    rig.kill_hub();
    // Without systemd, the page says so and does nothing.
    rig.start_box(XA);
    let mut browser = technician(&rig);
    let page = browser.get("/ky-thuat/khoi-dong-lai").ok();
    assert!(
        page.body.contains("không do systemd chạy") && !page.body.contains("xac_nhan"),
        "{}",
        page.body
    );
    browser
        .post("/ky-thuat/khoi-dong-lai", &[("xac_nhan", "1")])
        .ok();
    hand_in(&rig, 1);
    rig.kill_box(XA);

    let done = start_with_commands(&mut rig, "challenge");
    let mut browser = technician(&rig);
    let page = browser.get("/ky-thuat/tat-may").ok();
    assert!(
        page.body.contains("chưa cho phép tắt từ trang"),
        "{}",
        page.body
    );
    browser.post("/ky-thuat/tat-may", &[("xac_nhan", "1")]).ok();
    assert!(!done.exists());
    rig.kill_box(XA);

    let done = start_with_commands(&mut rig, "yes");
    let mut browser = technician(&rig);
    only_shown(&mut browser, &rig, "/ky-thuat/tat-may");
    assert!(!done.exists(), "only shown");
    browser.confirm("/ky-thuat/tat-may", &[]).ok();
    assert_eq!(fs::read_to_string(&done).unwrap(), "poweroff\n");
    assert_audited(&rig, "power_off", "begun");

    only_shown(&mut browser, &rig, "/ky-thuat/khoi-dong-lai");
    hand_in(&rig, 2);
    browser.confirm("/ky-thuat/khoi-dong-lai", &[]).ok();
    let status = rig
        .process(XA)
        .wait(Duration::from_secs(20))
        .expect("it ends");
    assert_eq!(status.code(), Some(0), "in order");
    assert_audited(&rig, "restart", "done");
    let log = fs::read_to_string(rig.folder.path().join("systemd.log")).unwrap();
    assert!(log.contains("stopped in order"), "{log}");
}
