//! What is to be seen without login: nothing of a person; and with it: masked, and what is most
//! sensitive never.

use crate::driver::{Browser, Screen, pictures};
use crate::judge::keep_picture;
use crate::office::{
    MARKS, origin, parked, refuse_a_file, until_parked, with_folder, with_parked_rows,
};
use crate::one_box::{AGENCY, SOON, XA, one_box, source};
use crate::rig::{Rig, agent, hand_in, wait_for};
use crate::technician::enter;

/// Everything that answers to who is not logged in.
const OPEN: [&str; 14] = [
    "/",
    "/?lang=en",
    "/status.json",
    "/metrics",
    "/healthz",
    "/readyz",
    "/page.js",
    "/favicon.ico",
    "/ky-thuat",
    "/ky-thuat/dang-nhap",
    "/ky-thuat/tai-khoan-dau",
    "/ky-thuat/giu-lai?nguon=ho-so",
    "/ky-thuat/tep?nguon=thu-muc",
    "/ky-thuat/khong-co",
];

/// A box that holds records, parked rows and a refused file with marks in each personal field.
fn marked() -> Rig {
    let mut rig = one_box();
    rig.kill_hub();
    with_parked_rows(&rig);
    let folder = with_folder(&rig);
    rig.start_box(XA);
    assert!(hand_in(rig.boxes[XA].http_port, AGENCY, 0..20));
    until_parked(&rig);
    refuse_a_file(&folder);
    wait_for("the refusal is told", SOON, || {
        source(&rig, "thu-muc")["refused"] == 1
    });
    rig
}

#[track_caller]
fn assert_unmarked(place: &str, text: &str) {
    for mark in MARKS {
        assert!(!text.contains(mark), "{place} shows {mark}: {text}");
    }
}

#[test]
fn nothing_of_a_person_is_seen_without_login_and_it_is_masked_with() {
    let rig = marked();
    for path in OPEN {
        let mut answer = agent()
            .get(format!("{}{path}", origin(&rig)))
            .call()
            .unwrap();
        for (name, value) in answer.headers() {
            assert_unmarked(path, &format!("{name}: {value:?}"));
        }
        assert_unmarked(path, &answer.body_mut().read_to_string().unwrap());
    }
    let browser = Browser::start();
    let source_of_page = || {
        let html = browser.run("return document.documentElement.outerHTML", &[]);
        html.as_str().unwrap().to_owned()
    };
    browser.open(&origin(&rig));
    assert_unmarked("/", &source_of_page());
    enter(&browser, &rig);
    let row = parked(&rig, "ho-so")[0];
    let secret = parked(&rig, "tiem")[0];
    for path in [
        "/ky-thuat".to_owned(),
        "/ky-thuat/giu-lai?nguon=ho-so".to_owned(),
        "/ky-thuat/giu-lai?nguon=tiem".to_owned(),
        format!("/ky-thuat/giu-lai/xem?nguon=ho-so&so={row}"),
        format!("/ky-thuat/giu-lai/sua?nguon=ho-so&so={row}"),
        format!("/ky-thuat/giu-lai/xem?nguon=tiem&so={secret}"),
        format!("/ky-thuat/giu-lai/sua?nguon=tiem&so={secret}"),
        "/ky-thuat/tep?nguon=thu-muc".to_owned(),
        "/ky-thuat/nhat-ky".to_owned(),
    ] {
        for lang in ["", "lang=en"] {
            let sign = if path.contains('?') { '&' } else { '?' };
            browser.open(&format!("{}{path}{sign}{lang}", origin(&rig)));
            let html = source_of_page();
            assert_unmarked(&path, &html);
            let shows_row = path.contains("nguon=ho-so&so=");
            assert_eq!(html.contains("••••9991"), shows_row, "{path}: {html}");
        }
    }
}

/// On paper stands what the screen shows, without what is only of use on a screen.
#[test]
fn the_page_can_be_printed() {
    let rig = marked();
    let browser = Browser::start();
    browser.open(&origin(&rig));
    let printed = browser.command(
        "Page.printToPDF",
        &serde_json::json!({"paperWidth": 8.27, "paperHeight": 11.69}),
    );
    let pdf = base64_of(printed["data"].as_str().unwrap());
    assert!(
        pdf.starts_with(b"%PDF-") && 20_000 < pdf.len(),
        "{}",
        pdf.len()
    );
    std::fs::write(pictures().join("printed.pdf"), pdf).unwrap();

    browser.command(
        "Emulation.setEmulatedMedia",
        &serde_json::json!({"media": "print"}),
    );
    browser.use_screen(Screen::Desk);
    let text = browser.text();
    for part in [
        "xa-tan-bien",
        "CẦN CHÚ Ý",
        "Cách xử lý:",
        "Giữ lại chờ xử lý",
        "Sự kiện gần đây",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for part in ["English", "Làm mới", "Đến nội dung chính", "từng bước"] {
        assert!(!text.contains(part), "{part} in {text}");
    }
    let dark = "return getComputedStyle(document.querySelector('.bar')).backgroundColor";
    assert_eq!(browser.run(dark, &[]), "rgb(255, 255, 255)");
    keep_picture(&browser, "printed", Screen::Desk);
}

fn base64_of(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}
