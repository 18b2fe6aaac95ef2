//! The technician's area as its people meet it: every page of it, on a monitor and on a telephone.

use serde_json::json;

use crate::driver::{Browser, Screen};
use crate::judge::{judge, keep_picture, misdeeds};
use crate::office::{
    MARKS, origin, parked, refuse_a_file, until_parked, with_folder, with_parked_rows,
};
use crate::one_box::{SOON, XA, configure, one_box, said};
use crate::rig::{Rig, wait_for};

pub const PASSWORD: &str = "mưa rào đầu mùa hạ";

/// Fills in a field of the page that is open.
pub fn fill(browser: &Browser, name: &str, value: &str) {
    browser.run(
        "document.querySelector('main [name=\"' + arguments[0] + '\"]').value = arguments[1]",
        &[json!(name), json!(value)],
    );
}

/// Sends the form of the page that is open, by its button.
pub fn send(browser: &Browser) {
    let before = browser.run("return performance.timeOrigin", &[]);
    browser.run("document.querySelector('main form button').click()", &[]);
    wait_for("the next page has come", SOON, || {
        let now = "return document.readyState === 'complete' ? performance.timeOrigin : 0";
        let now = browser.run(now, &[]);
        now != json!(0) && now != before
    });
}

pub fn new_code(rig: &Rig) -> String {
    let text = said(rig, &["account", "code"], 0);
    text.lines().next().unwrap().to_owned()
}

/// Logs in as `lan`, whose account is made for it.
pub fn enter(browser: &Browser, rig: &Rig) {
    browser.open(&format!("{}/ky-thuat/tai-khoan-dau", origin(rig)));
    fill(browser, "ma", &new_code(rig));
    fill(browser, "ten", "lan");
    fill(browser, "mat_khau", PASSWORD);
    fill(browser, "mat_khau_2", PASSWORD);
    send(browser);
    assert!(
        browser.address().ends_with("/ky-thuat"),
        "{}",
        browser.text()
    );
}

/// Judges the page that is open on both screens and keeps its pictures.
fn seen(browser: &Browser, name: &str, is_repeatable: bool, faults: &mut Vec<String>) {
    for screen in Screen::BOTH {
        browser.use_screen(screen);
        faults.extend(judge(browser, name, screen, "vi"));
        keep_picture(browser, name, screen);
    }
    browser.use_screen(Screen::Desk);
    let address = browser.address();
    // What was posted, and what is told once, cannot be asked for again.
    if is_repeatable {
        let sign = if address.contains('?') { '&' } else { '?' };
        browser.open(&format!("{address}{sign}lang=en"));
        faults.extend(judge(browser, name, Screen::Desk, "en"));
        browser.open(&address);
    }
    for mark in MARKS {
        if browser.text().contains(mark) {
            faults.push(format!("{name}: {mark} is to be read"));
        }
    }
}

#[test]
fn every_page_of_the_area() {
    let mut rig = one_box();
    with_parked_rows(&rig);
    let folder = with_folder(&rig);
    let backups = rig.folder.path().join("saoluu");
    std::fs::create_dir(&backups).unwrap();
    let text = format!("[backup]\nfolder = \"{}\"\n", backups.display());
    configure(&rig, "60-backup.toml", &text);
    rig.start_box(XA);
    until_parked(&rig);
    refuse_a_file(&folder);
    let browser = Browser::start();
    let open = |path: &str| browser.open(&format!("{}{path}", origin(&rig)));
    let mut faults = Vec::new();

    open("/ky-thuat");
    seen(&browser, "tech-login", true, &mut faults);
    faults.extend(misdeeds(&browser, &origin(&rig)));
    fill(&browser, "ten", "lan");
    fill(&browser, "mat_khau", "sai mật khẩu rồi");
    send(&browser);
    assert!(browser.text().contains("không đúng"), "{}", browser.text());
    seen(&browser, "tech-login-wrong", false, &mut faults);
    let said = misdeeds(&browser, &origin(&rig));
    assert!(said.len() == 1 && said[0].contains("401"), "{said:?}");
    open("/ky-thuat/tai-khoan-dau");
    seen(&browser, "tech-first", true, &mut faults);
    enter(&browser, &rig);
    seen(&browser, "tech-home", true, &mut faults);

    let row = parked(&rig, "ho-so")[0];
    let secret = parked(&rig, "tiem")[0];
    for (path, name, word) in [
        (
            "/ky-thuat/giu-lai?nguon=ho-so".to_owned(),
            "tech-parked",
            "Lý do",
        ),
        (
            format!("/ky-thuat/giu-lai/xem?nguon=ho-so&so={row}"),
            "tech-look",
            "••••9991",
        ),
        (
            format!("/ky-thuat/giu-lai/xem?nguon=tiem&so={secret}"),
            "tech-look-secret",
            "không được xem",
        ),
        (
            format!("/ky-thuat/giu-lai/sua?nguon=ho-so&so={row}"),
            "tech-mend",
            "Mã thủ tục hành chính",
        ),
        (
            format!("/ky-thuat/giu-lai/dua-lai?nguon=ho-so&so={row}"),
            "tech-retry",
            "Đưa lại",
        ),
        (
            format!("/ky-thuat/giu-lai/bo?nguon=ho-so&so={row}"),
            "tech-drop",
            "Lý do bỏ dòng này",
        ),
        (
            "/ky-thuat/tep?nguon=thu-muc".to_owned(),
            "tech-files",
            "ho-so-thang-11.json",
        ),
        (
            "/ky-thuat/nguon/tam-dung?nguon=mot-cua".to_owned(),
            "tech-pause",
            "Tạm dừng",
        ),
        ("/ky-thuat/gui-ngay".to_owned(), "tech-send", "Gửi ngay"),
        (
            "/ky-thuat/bang-thong".to_owned(),
            "tech-bandwidth",
            "Băng thông",
        ),
        ("/ky-thuat/nhat-ky".to_owned(), "tech-audit", "look_parked"),
        ("/ky-thuat/tai-khoan".to_owned(), "tech-people", "lan"),
        (
            "/ky-thuat/tai-khoan/them".to_owned(),
            "tech-people-add",
            "Mật khẩu mới",
        ),
        (
            "/ky-thuat/tai-khoan/mat-khau".to_owned(),
            "tech-password",
            "Mật khẩu mới",
        ),
        (
            "/ky-thuat/khoi-dong-lai".to_owned(),
            "tech-restart",
            "systemd",
        ),
        (
            "/ky-thuat/tat-may".to_owned(),
            "tech-power-off",
            "Tắt máy an toàn",
        ),
        ("/ky-thuat/sao-luu".to_owned(), "tech-backup", "Sao lưu"),
        (
            "/ky-thuat/goi-chan-doan".to_owned(),
            "tech-bundle",
            "chẩn đoán",
        ),
        ("/ky-thuat/usb".to_owned(), "tech-usb", "USB"),
        (
            "/ky-thuat/duong-truyen".to_owned(),
            "tech-link-test",
            "Bắt đầu kiểm tra",
        ),
    ] {
        open(&path);
        assert!(
            browser.text().contains(word),
            "{word} in {}",
            browser.text()
        );
        seen(&browser, name, true, &mut faults);
    }
    send(&browser);
    assert!(
        browser.text().contains("Biên nhận của trục"),
        "{}",
        browser.text()
    );
    seen(&browser, "tech-link-tested", false, &mut faults);

    // A deed from its page to the word that it is done.
    open("/ky-thuat/nguon/tam-dung?nguon=mot-cua");
    send(&browser);
    assert!(
        browser.text().contains("Nguồn mot-cua tạm dừng"),
        "{}",
        browser.text()
    );
    seen(&browser, "tech-paused", false, &mut faults);
    faults.extend(misdeeds(&browser, &origin(&rig)));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
