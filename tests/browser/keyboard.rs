//! With nothing but Tab and Enter, and without scripts: the page and a technician's deeds.

use serde_json::{Value, json};

use crate::driver::{Browser, ENTER, SPACE, TAB};
use crate::office::origin;
use crate::one_box::{AGENCY, SOON, XA, one_box, source};
use crate::rig::{Rig, hand_in, wait_for};
use crate::technician::{PASSWORD, enter, new_code};

/// What has the focus: its text or name, its place, and whether it can be seen that it has it.
#[derive(Debug)]
struct Focus {
    name: String,
    top: f64,
    left: f64,
    is_seen: bool,
}

fn focus(browser: &Browser) -> Option<Focus> {
    const FOCUS: &str = "
        var e = document.activeElement;
        if (!e || e === document.body || e === document.documentElement) { return null; }
        var style = getComputedStyle(e), box = e.getBoundingClientRect();
        return [
            e.name || e.textContent.trim().slice(0, 60), box.top + scrollY, box.left,
            style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 && box.width > 0 &&
                box.left >= 0 && box.top >= 0 && box.bottom <= innerHeight + 1
        ];";
    let found = browser.run(FOCUS, &[]);
    found.is_array().then(|| Focus {
        name: found[0].as_str().unwrap().to_owned(),
        top: found[1].as_f64().unwrap(),
        left: found[2].as_f64().unwrap(),
        is_seen: found[3] == true,
    })
}

/// Goes through the page by Tab until the focus leaves it; everything on the way.
fn walk(browser: &Browser) -> Vec<Focus> {
    let mut found = Vec::new();
    loop {
        browser.press(&[TAB]);
        match focus(browser) {
            Some(one) => found.push(one),
            None => return found,
        }
        assert!(found.len() < 200, "the focus goes in circles: {found:#?}");
    }
}

/// Presses Tab until what has this name has the focus.
#[track_caller]
fn go_to(browser: &Browser, name: &str) {
    for _ in 0..60 {
        browser.press(&[TAB]);
        if focus(browser).is_some_and(|found| found.name.starts_with(name)) {
            return;
        }
    }
    panic!("Tab does not come to {name}: {}", browser.text());
}

/// Presses Enter and waits for the next page.
fn follow(browser: &Browser) {
    let before = browser.run("return performance.timeOrigin", &[]);
    browser.press(&[ENTER]);
    wait_for("the next page has come", SOON, || {
        let now = "return document.readyState === 'complete' ? performance.timeOrigin : 0";
        let now: Value = browser.run(now, &[]);
        now != json!(0) && now != before
    });
}

/// Everything that can be done is come by, in the order in which it is read, and can be seen.
#[track_caller]
fn assert_in_order(browser: &Browser) {
    let found = walk(browser);
    const ALL: &str = "
        return [].filter.call(document.querySelectorAll('a[href],button,input,textarea,select,summary'),
            function (e) { return e.type !== 'hidden' && e.getClientRects().length; }).length;";
    let all = browser.run(ALL, &[]).as_u64().unwrap();
    assert_eq!(found.len() as u64, all, "{found:#?}");
    for one in &found {
        assert!(one.is_seen, "the focus is not to be seen at {one:#?}");
    }
    // The link over the navigation shows itself only while it has the focus. What stands beside
    // each other is read from the left.
    for pair in found[1..].windows(2) {
        let is_below = pair[0].top - 8.0 <= pair[1].top;
        let is_right = pair[0].left + 100.0 < pair[1].left;
        assert!(is_below || is_right, "{pair:#?}");
    }
}

#[test]
fn the_page_and_a_deed_by_keys_alone() {
    let mut rig = one_box();
    rig.start_box(XA);
    assert!(hand_in(rig.boxes[XA].http_port, AGENCY, 0..5));
    let browser = Browser::start();
    browser.open(&origin(&rig));
    assert_in_order(&browser);

    // The first thing leads past the navigation.
    browser.open(&origin(&rig));
    browser.press(&[TAB]);
    assert_eq!(focus(&browser).unwrap().name, "Đến nội dung chính");
    browser.press(&[ENTER]);
    let place = browser.run("return document.activeElement.id", &[]);
    assert_eq!(place, "main");
    browser.press(&[TAB]);
    let next = focus(&browser).unwrap();
    assert_eq!(next.name, "Dữ liệu vào", "past the navigation");

    deed(&browser, &rig);
    browser.open(&format!("{}/ky-thuat", origin(&rig)));
    assert_in_order(&browser);
    browser.open(&format!("{}/ky-thuat/bang-thong", origin(&rig)));
    assert_in_order(&browser);
}

/// Logs in and pauses a source, by keys.
fn deed(browser: &Browser, rig: &Rig) {
    browser.open(&origin(rig));
    go_to(browser, "Kỹ thuật viên");
    follow(browser);
    go_to(browser, "Chưa có tài khoản");
    follow(browser);
    for (name, value) in [
        ("ma", new_code(rig).as_str()),
        ("ten", "lan"),
        ("mat_khau", PASSWORD),
        ("mat_khau_2", PASSWORD),
    ] {
        go_to(browser, name);
        browser.write(value);
    }
    follow(browser);
    assert!(
        browser.address().ends_with("/ky-thuat"),
        "{}",
        browser.text()
    );
    go_to(browser, "Tạm dừng");
    follow(browser);
    assert!(source(rig, "mot-cua")["state"].is_null(), "only shown");
    // The button, not the navigation.
    go_to(browser, "Tạm dừng nguồn");
    browser.press(&[SPACE]);
    wait_for("it is told", SOON, || {
        browser.text().contains("Nguồn mot-cua tạm dừng")
    });
    wait_for("the source rests", SOON, || {
        source(rig, "mot-cua")["state"] == "paused"
    });
}

/// What an old browser makes of it: no script runs.
#[test]
fn everything_works_without_scripts() {
    let mut rig = one_box();
    rig.start_box(XA);
    let browser = Browser::start();
    browser.set_scripts(false);
    browser.open(&origin(&rig));
    let text = browser.text();
    for part in [
        "Nhìn nhanh",
        "Kết nối tới trục",
        "Sự kiện gần đây",
        "Làm mới",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // It renews itself, and by hand.
    let renews = "return document.querySelector('meta[http-equiv=refresh]').content";
    assert_eq!(browser.run(renews, &[]), "60");
    assert!(hand_in(rig.boxes[XA].http_port, AGENCY, 0..5));
    wait_for("the records are told", SOON, || {
        source(&rig, "mot-cua")["accepted"] == 5
    });
    go_to(&browser, "Làm mới");
    browser.press(&[ENTER]);
    wait_for("the page is new", SOON, || {
        browser.text().contains("Trạm đang nhận dữ liệu")
    });
    enter(&browser, &rig);
    deed_again(&browser, &rig);
}

fn deed_again(browser: &Browser, rig: &Rig) {
    browser.open(&format!("{}/ky-thuat/duong-truyen", origin(rig)));
    go_to(browser, "Bắt đầu kiểm tra");
    browser.press(&[ENTER]);
    // The answer grows while it is shown.
    wait_for("the steps are told", SOON, || {
        browser.text().contains("Kiểm tra lại")
    });
    assert!(browser.text().contains("ĐẠT"), "{}", browser.text());
}
