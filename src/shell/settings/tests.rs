//! Settings, from files.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }
    let main = folder.path().join("a.toml");
    (folder, main)
}

/// A small program's settings.
struct Meant {
    quota: Option<u64>,
    keep: Option<u64>,
    key: Option<PathBuf>,
    sources: Vec<(String, u64)>,
}

fn read(path: &Path) -> (Meant, Result<Effective, Vec<Fault>>) {
    let mut settings = Settings::read(path);
    let mut store = settings.section("store");
    let quota = store.size("quota", "1 GiB", 1 << 20..=1 << 40);
    let keep = store.duration("keep", "14 d", 0..=u64::MAX);
    let key = store.path("key", None);
    drop(store);
    let mut sources = Vec::new();
    for mut source in settings.list("source") {
        let name = source.text::<String>("name", None);
        let every = source.number("every", 5, 1..=60);
        if let (Some(name), Some(every)) = (name, every) {
            sources.push((name, every));
        }
    }
    (
        Meant {
            quota,
            keep,
            key,
            sources,
        },
        settings.finish(),
    )
}

#[test]
fn drop_ins_win_in_the_order_of_their_names() {
    let (folder, main) = folder(&[
        (
            "a.toml",
            "[store]\nkey = \"box.key\"\nquota = \"2 GiB\"\n[[source]]\nname = \"mot\"\nevery = 7\n",
        ),
        ("a.d/20-later.toml", "[store]\nquota = \"4 GiB\"\n"),
        (
            "a.d/10-first.toml",
            "[store]\nquota = \"3 GiB\"\nkey = \"other.key\"\n[[source]]\nname = \"hai\"\n\n[[source]]\nname = \"mot\"\nevery = 9\n",
        ),
        ("a.d/ignored.txt", "nonsense"),
    ]);
    let (meant, effective) = read(&main);
    assert_eq!(meant.quota, Some(4 << 30));
    assert_eq!(meant.keep, Some(14 * 86_400_000));
    assert_eq!(meant.key, Some(folder.path().join("a.d/other.key")));
    assert_eq!(
        meant.sources,
        [("mot".to_owned(), 9), ("hai".to_owned(), 5)]
    );
    let text = effective.expect("no fault").to_string();
    let key = folder.path().join("a.d/other.key");
    let expected = format!(
        "[store]\nquota = \"4 GiB\"  # a.d/20-later.toml:2\nkeep = \"14 d\"  # default\nkey = \"{}\"  # a.d/10-first.toml:3\n\n\
         [[source]]\nname = \"mot\"  # a.d/10-first.toml:8\nevery = 9  # a.d/10-first.toml:9\n\n\
         [[source]]\nname = \"hai\"  # a.d/10-first.toml:5\nevery = 5  # default\n",
        key.display()
    );
    assert_eq!(text, expected);
    assert!(toml::from_str::<toml::Table>(&text).is_ok(), "{text}");
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let (folder, main) = folder(&[
        (
            "a.toml",
            "[store]\nqouta = \"2 GiB\"\nkeep = 14\n\n[stor]\nx = 1\n[[source]]\nname = \"mot\"\nevery = 99\n",
        ),
        ("a.d/x.toml", "[store]\nquota = \"2 GB\"\n"),
    ]);
    let (_, result) = read(&main);
    let faults = result.expect_err("faults");
    let seen: Vec<(PathBuf, Option<u32>, &str)> = faults
        .iter()
        .map(|fault| {
            let file = fault
                .file
                .strip_prefix(folder.path())
                .expect("in the folder")
                .to_owned();
            (file, fault.line, fault.key.as_str())
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("a.d/x.toml".into(), Some(2), "store.quota"),
            ("a.toml".into(), Some(1), "store.key"),
            ("a.toml".into(), Some(2), "store.qouta"),
            ("a.toml".into(), Some(3), "store.keep"),
            ("a.toml".into(), Some(5), "stor"),
            ("a.toml".into(), Some(9), "source[mot].every"),
        ]
    );
    assert!(faults[2].hint_vi.contains("“quota”"), "{}", faults[2]);
    assert!(faults[4].hint_en.contains("store"), "{}", faults[4]);
    assert!(faults[0].to_string().contains("GiB"), "{}", faults[0]);
}

#[test]
fn broken_toml_is_told_with_its_line_and_the_rest_is_still_read() {
    let (_folder, main) = folder(&[("a.toml", "[store]\nkey = \"k\"\nquota = 2 GiB\n")]);
    let faults = read(&main).1.expect_err("faults");
    assert!(
        faults
            .iter()
            .any(|fault| fault.line == Some(3) && fault.key.is_empty()),
        "{faults:?}"
    );
    let missing = folder(&[]).1;
    let faults = read(&missing).1.expect_err("faults");
    assert!(faults[0].hint_en.contains("--config"), "{faults:?}");
}

#[test]
fn tables_inside_of_lists_are_printed_below_their_own() {
    let (_folder, main) = folder(&[(
        "a.toml",
        "[[source]]\nname = \"mot\"\n[[source.login]]\nname = \"a\"\n[[source]]\nname = \"hai\"\n[[source.login]]\nname = \"b\"\n",
    )]);
    let mut settings = Settings::read(&main);
    // All sources are known before the first is read.
    for mut source in settings.list("source") {
        for mut login in source.list("login") {
            login.text::<String>("name", None);
        }
        source.text::<String>("name", None);
    }
    let text = settings.finish().expect("no fault").to_string();
    let printed: toml::Table = text.parse().expect("TOML");
    let written = "[[source]]\nname = \"mot\"\nlogin = [{ name = \"a\" }]\n[[source]]\nname = \"hai\"\nlogin = [{ name = \"b\" }]\n";
    assert_eq!(printed, written.parse().expect("TOML"), "{text}");
}
