//! The technician's manual against the program: what it quotes is what the program says, each reason
//! for a missing link has its remedy there, and every picture is there. `MANUAL=1` writes the part on
//! the reasons anew; with it the tests that take pictures renew those of the manual.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use lienthong::edge::page::remedy::remedy;
use lienthong::shell::down::DownReason;

use crate::driver::{Browser, Screen};

const MANUAL: &str = "docs/huong-dan-ky-thuat-vien.md";
const PICTURE_BYTES_MAX: u64 = 60_000;
/// The state, the screen, how much of its height, and the picture's name.
const PICTURES: [(&str, Screen, u32, &str); 11] = [
    ("good", Screen::Desk, 768, "trang-tot"),
    ("good", Screen::Telephone, 900, "dien-thoai"),
    ("tech-first", Screen::Desk, 640, "tai-khoan-dau"),
    ("link-tcp-timed-out", Screen::Desk, 640, "mat-lien-lac"),
    ("certificate", Screen::Desk, 320, "chung-thu"),
    ("disk", Screen::Desk, 320, "dia-day"),
    ("parked", Screen::Telephone, 600, "giu-lai"),
    ("tech-home", Screen::Desk, 640, "ky-thuat"),
    ("tech-mend", Screen::Telephone, 1_100, "sua-dong"),
    ("tech-link-tested", Screen::Telephone, 1_100, "kiem-tra"),
    ("tech-pause", Screen::Desk, 400, "xac-nhan"),
];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn is_writing() -> bool {
    std::env::var_os("MANUAL").is_some()
}

/// Renews the manual's picture of a state, when that is asked for.
pub fn keep(browser: &Browser, state: &str, screen: Screen) {
    let found = PICTURES
        .iter()
        .find(|(of, on, ..)| *of == state && *on == screen);
    if let Some((_, _, tall, name)) = found
        && is_writing()
    {
        let folder = root("docs/pictures");
        fs::create_dir_all(&folder).unwrap();
        let picture = browser.picture_as("webp", Some(*tall));
        fs::write(folder.join(format!("{name}.webp")), picture).unwrap();
    }
}

/// Every reason with its remedy, as the page says it.
fn reasons() -> String {
    let mut out = String::new();
    let each = DownReason::ALL
        .into_iter()
        .chain([DownReason::MqttRefused(0x89)]);
    for reason in each {
        let remedy = remedy(reason);
        let code = reason.as_code();
        writeln!(out, "\n**`{code}`, {}**\n", remedy.stage.name()[0]).unwrap();
        writeln!(out, "> {}\n", remedy.what[0]).unwrap();
        for (place, [vi, _]) in remedy.steps.iter().enumerate() {
            writeln!(out, "{}. {vi}", place + 1).unwrap();
        }
    }
    out.push('\n');
    out
}

fn sources(folder: &Path, out: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            // A sentence over several lines of the source is one.
            let lines = text.split("\\\n").map(str::trim_start);
            out.push_str(&lines.collect::<String>());
        }
    }
}

#[test]
fn the_manual_says_what_the_program_says() {
    let path = root(MANUAL);
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("manual -->\n").expect("the reasons begin");
    let (told, after) = rest
        .split_once("<!-- lý do: hết -->")
        .expect("the reasons end");
    let reasons = reasons();
    if is_writing() {
        let anew = format!("{before}manual -->\n{reasons}<!-- lý do: hết -->{after}");
        fs::write(&path, anew).unwrap();
    } else {
        assert_eq!(
            told, reasons,
            "write it anew: MANUAL=1 cargo nextest run --test browser manual"
        );
    }
    let mut program = String::new();
    sources(&root("src/edge"), &mut program);
    let quotes = text.lines().filter_map(|line| line.strip_prefix("> "));
    let mut count = 0;
    for quote in quotes {
        count += 1;
        for part in quote.split('…').map(str::trim) {
            // Between a number and a full stop stands nothing to look for.
            if part.chars().filter(|c| c.is_alphabetic()).count() < 2 {
                continue;
            }
            let part = part.trim_start_matches(['.', ' ']);
            assert!(program.contains(part), "the program does not say: {part}");
        }
    }
    assert!(30 < count, "{count} quotes");
}

#[test]
fn every_picture_of_the_manual_is_there_and_small() {
    let text = fs::read_to_string(root(MANUAL)).unwrap();
    let mut named: Vec<&str> = text
        .split("](pictures/")
        .skip(1)
        .map(|rest| rest.split(')').next().unwrap())
        .collect();
    named.sort_unstable();
    let mut known: Vec<String> = PICTURES
        .iter()
        .map(|(.., name)| format!("{name}.webp"))
        .collect();
    known.sort_unstable();
    assert_eq!(named, known);
    for name in named {
        let file = root("docs/pictures").join(name);
        let bytes = fs::metadata(&file)
            .unwrap_or_else(|error| panic!("{name}: {error}"))
            .len();
        assert!(
            (1_000..PICTURE_BYTES_MAX).contains(&bytes),
            "{name}: {bytes}"
        );
    }
}
