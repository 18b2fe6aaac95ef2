//! The technician's area in English: every page, every message, and no Vietnamese but the data's own.
//! That links and forms keep the language is looked at on each page (see [`crate::browser`]).

use std::fs;

use lienthong::edge::technician::{Methods, ROUTES};

use crate::browser::{Browser, Page, action, encoded, hidden};
use crate::deeds::with_parked_rows;
use crate::one_box::{SOON, XA, configure, one_box, said, source};
use crate::rig::wait_for;
use crate::{FIRST, LOGIN, PASSWORD, code, port, technician};

const EN: &str = "lang=en";

/// What a reader hears of a page that is no Vietnamese of the data's.
fn text(page: &Page) -> String {
    let mut out = String::new();
    let mut rest = page.body.split("</style>").nth(1).unwrap();
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        let (tag, after) = after.split_once('>').unwrap();
        rest = match tag.contains(" lang=\"vi\"") {
            true => {
                let name = tag.split(' ').next().unwrap();
                after.split_once(&format!("</{name}>")).unwrap().1
            }
            false => after,
        };
    }
    out + rest
}

/// The page, which must be English.
#[track_caller]
fn english(page: Page) -> Page {
    let text = text(&page);
    let odd: Vec<&str> = text
        .split(|c: char| c.is_whitespace())
        // What was masked shows its end.
        .filter(|word| !["Đơn", "lý"].contains(word) && !word.starts_with('•'))
        .filter(|word| word.chars().any(|c| c.is_alphabetic() && !c.is_ascii()))
        .collect();
    assert!(odd.is_empty(), "{odd:?} in {text}");
    page
}

fn with(path: &str) -> String {
    let mark = if path.contains('?') { '&' } else { '?' };
    format!("{path}{mark}{EN}")
}

#[test]
fn every_page_and_message_is_there_in_english() {
    let mut rig = one_box();
    rig.kill_hub();
    with_parked_rows(&rig);
    let folder = rig.folder.path().join("nhan");
    fs::create_dir(&folder).unwrap();
    configure(
        &rig,
        "21-folder.toml",
        &format!(
            "[[source]]\nname = \"thu-muc\"\nkind = \"folder\"\ndataset = \"ho_so_tthc\"\npath = \"{}\"\nsettle = \"100 ms\"\n",
            folder.display()
        ),
    );
    let share = rig.folder.path().join("saoluu");
    fs::create_dir(&share).unwrap();
    let backup = format!("[backup]\nfolder = \"{}\"\n", share.display());
    configure(&rig, "30-backup.toml", &backup);
    rig.start_box(XA);
    fs::write(folder.join("a.json"), "{\"ma_ho_so\": 1}").unwrap();

    // Before a login, with what can go wrong there.
    let mut stranger = Browser::new(port(&rig));
    let page = stranger.get(&with("/ky-thuat"));
    assert_eq!(page.location(), Some(with(LOGIN).as_str()));
    english(stranger.get(&with(LOGIN)).ok());
    let wrong = [("ten", "lan"), ("mat_khau", "sai")];
    assert!(
        english(stranger.post(&with(LOGIN), &wrong))
            .body
            .contains("is wrong")
    );
    english(stranger.get(&with(FIRST)).ok());
    let (wrong_code, code) = ("AAAAA-AAAAA-AAAAA-AAAAA", code(&rig));
    for (code, name, password, again, word) in [
        (wrong_code, "lan", PASSWORD, PASSWORD, "The code is wrong"),
        (&code, "l", PASSWORD, PASSWORD, "cannot be a name"),
        (&code, "lan", "a", "a", "12 characters"),
        (&code, "lan", PASSWORD, "a", "not the same"),
    ] {
        let fields = [
            ("ma", code),
            ("ten", name),
            ("mat_khau", password),
            ("mat_khau_2", again),
        ];
        let page = english(stranger.post(&with(FIRST), &fields));
        assert!(
            page.status == 422 && page.body.contains(word),
            "{}",
            page.body
        );
    }

    let mut browser = technician(&rig);
    wait_for("rows are parked and a file is refused", SOON, || {
        source(&rig, "ho-so")["parked"] == 3 && folder.join("refused/a.json").is_file()
    });
    let rows = said(&rig, &["sources", "parked", "ho-so", "--json"], 0);
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    let number = rows[0]["number"].to_string();
    let file: String = "a.json".bytes().map(|b| format!("{b:02x}")).collect();
    let named = |path: &str| match path {
        path if path.starts_with("/ky-thuat/giu-lai") => {
            format!("{path}?nguon=ho-so&so={number}")
        }
        "/ky-thuat/tep" => format!("{path}?nguon=thu-muc"),
        "/ky-thuat/tep/nhan-lai" => format!("{path}?nguon=thu-muc&ten={file}"),
        path if path.starts_with("/ky-thuat/nguon/") => format!("{path}?nguon=mot-cua"),
        "/ky-thuat/tai-khoan/xoa" => format!("{path}?ten=nam"),
        path => path.to_owned(),
    };
    // Each page, both ways, and from each to the same in the other language.
    for route in ROUTES.iter().filter(|route| !route.is_open) {
        if route.methods == Methods::Post {
            continue;
        }
        let page = english(browser.get(&with(&named(route.path))).ok());
        let (_, switch) = page.body.split_once("<a href=\"/ky-thuat").unwrap();
        assert!(switch.contains("Tiếng Việt"), "{}", page.body);
        let vietnamese = browser.get(&named(route.path)).ok();
        let other = vietnamese
            .body
            .split(" hreflang=\"en\"")
            .next()
            .unwrap()
            .rsplit("href=\"")
            .next()
            .unwrap()
            .trim_end_matches('"')
            .replace("&amp;", "&");
        assert_eq!(other, with(&named(route.path)), "the way to English");
        assert!(vietnamese.body.contains("Trạm"), "{}", vietnamese.body);
    }

    // Deeds, each told in the language in which it was done.
    for (path, told) in [
        ("/ky-thuat/nguon/tam-dung?nguon=mot-cua", "rests"),
        ("/ky-thuat/nguon/chay-tiep?nguon=mot-cua", "works again"),
        ("/ky-thuat/nguon/tam-dung?nguon=khong-co", "no source"),
        ("/ky-thuat/gui-ngay", "Connecting to the hub"),
        (&named("/ky-thuat/giu-lai/dua-lai"), "still parked"),
        (&named("/ky-thuat/tep/nhan-lai"), "is taken anew"),
        ("/ky-thuat/tai-khoan/xoa?ten=nam", "no such account"),
        ("/ky-thuat/duong-truyen", "name lookup"),
        ("/ky-thuat/sao-luu", "restored on trial"),
    ] {
        let page = english(browser.confirm(&with(path), &[]));
        assert!(page.body.contains(told), "{told} in {}", page.body);
    }
    fs::rename(&share, rig.folder.path().join("thao-ra")).unwrap();
    let page = english(browser.confirm(&with("/ky-thuat/sao-luu"), &[]));
    assert!(
        page.body.contains("share or stick is mounted"),
        "{}",
        page.body
    );
    let path = with("/ky-thuat/bang-thong");
    for (hours, word) in [("7h", "is not hours"), ("07:30-17:00 256", "Apply")] {
        browser.get(&path).ok();
        let page = english(browser.post(&path, &[("gio", hours)]));
        assert!(page.body.contains(word), "{}", page.body);
    }
    let shown = browser.post(&path, &[("gio", "07:30-17:00 256")]).ok();
    let page = english(browser.follow(&action(&shown.body), hidden(&shown.body)));
    assert!(page.body.contains("timetable was set"), "{}", page.body);
    assert!(page.body.contains("set by lan"), "{}", page.body);

    let path = with("/ky-thuat/giu-lai/bo");
    browser.get(&with(&named("/ky-thuat/giu-lai/bo"))).ok();
    let subject = [("nguon", "ho-so"), ("so", number.as_str())];
    let page = english(browser.post(&path, &subject));
    assert!(page.body.contains("A reason is needed"), "{}", page.body);
    let reason = [subject[0], subject[1], ("ly_do", "nham")];
    let page = english(browser.post(&path, &reason));
    assert!(page.body.contains("deleted for good"), "{}", page.body);
    let path = with("/ky-thuat/giu-lai/sua");
    for (value, word) in [
        ("khong", "The row is changed as above"),
        ("", "Fill in what"),
    ] {
        let change = [subject[0], subject[1], ("moi:/nguoi_nop/ho_ten", value)];
        let page = english(browser.post(&path, &change));
        assert!(page.body.contains(word), "{}", page.body);
    }
    for (path, status) in [("/ky-thuat/khong-co", 404), ("/ky-thuat/dang-xuat", 405)] {
        let page = browser.get(&with(path));
        assert_eq!(page.status, status);
        english(page);
    }
    browser.get("/ky-thuat").ok();
    assert_eq!(
        english(browser.post_raw(&with("/ky-thuat/gui-ngay"), &[])).status,
        403
    );
    browser.get(&with("/ky-thuat")).ok();
    let page = browser.post(&with("/ky-thuat/dang-xuat"), &[]);
    assert_eq!(page.location(), Some(with(LOGIN).as_str()));
    // What somebody types never stands in an address.
    assert_eq!(encoded("a b"), "a%20b");
    let page = stranger.post(&with(LOGIN), &[("ten", "mat-khau-nham"), ("mat_khau", "x")]);
    assert!(!page.body.contains("ten=mat-khau-nham"), "{}", page.body);
}
