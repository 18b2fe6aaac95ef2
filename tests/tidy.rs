//! Rules of the house as tests: each reads all tracked files and names file, line and what to do.
//!
//! A rule is a function from files to faults. Its test runs it on this repository and, so that a
//! rule that finds nothing is not one that looks at nothing, on a planted violation and on an
//! innocent neighbour of it.

#[path = "tidy/tree.rs"]
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use tree::{Fault, File, files, places};

/// The rule holds here, alarms at each of `bad` and keeps quiet at each of `good`.
#[track_caller]
fn hold(rule: impl Fn(&[File]) -> Vec<Fault>, bad: &[(&str, &str)], good: &[(&str, &str)]) {
    let file = |(path, text): &(&str, &str)| [File::new(path, text.as_bytes().to_vec())];
    for sample in bad {
        assert!(
            !rule(&file(sample)).is_empty(),
            "the rule overlooks a violation: {sample:?}"
        );
    }
    for sample in good {
        assert_eq!(
            rule(&file(sample)),
            [],
            "the rule alarms without cause: {sample:?}"
        );
    }
    report(rule(files()));
}

#[track_caller]
fn report(faults: Vec<Fault>) {
    let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    assert!(faults.is_empty(), "\n{}\n", lines.join("\n"));
}

/// Faults at each place of `needles` in the view that `of` takes.
fn find(file: &File, view: &str, needles: &[&str], what: &str) -> Vec<Fault> {
    needles
        .iter()
        .flat_map(|needle| places(view, needle).map(move |at| (at, *needle)))
        .map(|(at, needle)| file.fault(at, format!("`{needle}`: {what}")))
        .collect()
}

// --------------------------------------------------------------------------------------- floors

/// Floor of each room, from the table in `src/lib.rs`, which is the only place where it is written.
fn floors(library: &str) -> BTreeMap<String, u32> {
    let mut floors = BTreeMap::new();
    for line in library.lines() {
        let mut cells = line
            .trim_start_matches("//!")
            .split('|')
            .map(str::trim)
            .skip(1);
        let (Some(floor), Some(rooms)) = (cells.next(), cells.next()) else {
            continue;
        };
        let Ok(floor) = floor.parse() else { continue };
        for room in rooms.split('`').skip(1).step_by(2) {
            floors.insert(room.trim_end_matches("/*").to_owned(), floor);
        }
    }
    floors
}

fn this_floors() -> BTreeMap<String, u32> {
    let library = files()
        .iter()
        .find(|file| file.path == "src/lib.rs")
        .expect("there is a library");
    floors(&library.text)
}

/// The room that a source file belongs to; nothing for the crate root.
fn room(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let room = inside.split('/').next()?.trim_end_matches(".rs");
    (room != "lib").then_some(room)
}

/// Rooms that the code of a file names: `crate::room`, `crate::{room::…, other}`, the same with the
/// package's name, and `super::room` where `super` is the crate's root.
fn rooms_named(file: &File) -> Vec<(usize, String)> {
    let is_program = file.path.starts_with("src/bin/");
    let is_top = file.path.matches('/').count() == 1
        || (file.path.matches('/').count() == 2 && file.path.ends_with("/mod.rs"));
    let mut roots = vec!["lienthong"];
    if !is_program {
        roots.push("crate");
    }
    if !is_program && is_top {
        roots.push("super");
    }
    let mut named = Vec::new();
    for root in roots {
        for at in places(&file.code, root) {
            let start = at + root.len();
            if let Some(path) = file.code[start..].strip_prefix("::") {
                for (offset, name) in first_names(path) {
                    named.push((start + 2 + offset, name));
                }
            }
        }
    }
    named
}

/// The names that a path begins with: one, or those of a group's members.
fn first_names(path: &str) -> Vec<(usize, String)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let name = |at: usize| {
        let rest = &path[at..];
        let at = at + rest.len() - rest.trim_start().len();
        let rest = &path[at..];
        (
            at,
            rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())].to_owned(),
        )
    };
    if !path.starts_with('{') {
        return vec![name(0)];
    }
    let mut names = Vec::new();
    let mut depth = 0;
    for (at, c) in path.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match (depth, c) {
            (0, _) => break,
            (1, '{' | ',') => names.push(name(at + 1)),
            _ => {}
        }
    }
    names
}

fn arrows(floors: &BTreeMap<String, u32>, files: &[File]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.is_source()) {
        if file.path == "src/lib.rs" {
            for (at, name) in modules(&file.code) {
                if !floors.contains_key(&name) {
                    faults.push(file.fault(
                        at,
                        format!("`{name}` has no floor: add it to the table above"),
                    ));
                }
            }
        }
        let Some(room) = room(&file.path) else {
            continue;
        };
        let Some(floor) = floors.get(room) else {
            faults.push(file.fault(
                0,
                format!("`{room}` has no floor: add it to the table in src/lib.rs"),
            ));
            continue;
        };
        for (at, other) in rooms_named(file) {
            if let Some(below) = floors.get(&other)
                && other != room
                && below >= floor
            {
                faults.push(file.fault(
                    at,
                    format!(
                        "`{room}` (floor {floor}) must not know `{other}` (floor {below}): move the \
                         shared word down, or hand the value in from above"
                    ),
                ));
            }
        }
    }
    faults
}

fn modules(code: &str) -> Vec<(usize, String)> {
    places(code, "mod")
        .map(|at| first_names(&code[at + 3..]).remove(0))
        .map(|(_, name)| (0, name))
        .collect()
}

#[test]
fn arrows_point_down() {
    let floors = this_floors();
    for room in [
        "model", "sync", "store", "engine", "shell", "edge", "hub", "bin",
    ] {
        assert!(
            floors.contains_key(room),
            "the table in src/lib.rs has no floor for {room}"
        );
    }
    hold(
        |files| arrows(&floors, files),
        &[
            ("src/edge/page.rs", "use crate::hub::fleet;"),
            ("src/hub/mod.rs", "use crate::{model::Seq, edge::page};"),
            ("src/sync/sender.rs", "use crate::store::StoreError;"),
            ("src/store/hub.rs", "fn f(l: &crate::sync::Ack) {}"),
            ("src/store/mod.rs", "use super::engine::step;"),
            ("src/model/mod.rs", "use crate::wire;"),
            (
                "src/engine.rs",
                "use crate::{\n    model::{Seq, BoxId},\n    shell::clock,\n};",
            ),
            ("src/attic/mod.rs", "//! No floor."),
            ("src/lib.rs", "pub mod attic;"),
        ],
        &[
            (
                "src/edge/page.rs",
                "//! Unlike `crate::hub`.\nuse crate::shell::clock;",
            ),
            (
                "src/hub/mod.rs",
                "use crate::{model::{edge, Seq}, hub::fleet};",
            ),
            (
                "src/sync/sender.rs",
                "use super::store;\nfn f() { g(\"crate::store\") }",
            ),
            (
                "src/bin/demo/main.rs",
                "use lienthong::edge;\nuse crate::hub::office;",
            ),
        ],
    );
}

/// The courier carries bytes: were it to look into records, it could lose them knowingly.
fn courier(files: &[File]) -> Vec<Fault> {
    let is_courier = |file: &&File| file.path.starts_with("src/shell/courier");
    let mut faults = Vec::new();
    for file in files.iter().filter(is_courier) {
        for at in places(&file.code, "model") {
            let statement = &file.code[at..];
            let statement = &statement[..statement.find(';').unwrap_or(statement.len())];
            if places(statement, "record").next().is_some() {
                faults.push(file.fault(at, "the courier carries bytes: no `model::record` here"));
            }
        }
    }
    faults
}

#[test]
fn the_courier_does_not_know_records() {
    hold(
        courier,
        &[
            ("src/shell/courier.rs", "use crate::model::record::Draft;"),
            (
                "src/shell/courier/link.rs",
                "use crate::model::{BoxId, record::{self, Op}};",
            ),
        ],
        &[
            (
                "src/shell/courier.rs",
                "use crate::model::BoxId;\nfn record() {}",
            ),
            ("src/shell/loop.rs", "use crate::model::record::Draft;"),
        ],
    );
}

// -------------------------------------------------------------------------------- the pure rooms

fn clocks(files: &[File]) -> Vec<Fault> {
    const READERS: [&str; 12] = [
        "Instant::now",
        "SystemTime::now",
        "UNIX_EPOCH.elapsed",
        "Timestamp::now",
        "Zoned::now",
        "OffsetDateTime::now_utc",
        "Utc::now",
        "Local::now",
        "clock_gettime",
        "ClockId::now",
        "gettimeofday",
        "Uuid::now_v7",
    ];
    let what = "only src/shell/clock.rs reads clocks: take the time as an argument or ask it";
    // The demo stands for the world around the product, which goes by real time.
    let must = |file: &&File| {
        file.is_source()
            && file.path != "src/shell/clock.rs"
            && !file.path.starts_with("src/bin/demo/")
    };
    files
        .iter()
        .filter(must)
        .flat_map(|file| find(file, &file.code, &READERS, what))
        .collect()
}

#[test]
fn only_one_file_reads_clocks() {
    hold(
        clocks,
        &[
            ("src/sync/sender.rs", "let t = std::time::Instant::now();"),
            ("src/edge/page.rs", "let t = jiff::Timestamp::now();"),
            ("src/shell/run.rs", "let t = tokio::time::Instant::now();"),
        ],
        &[
            ("src/shell/clock.rs", "let t = std::time::Instant::now();"),
            (
                "src/shell/run.rs",
                "// not Instant::now\ntokio::time::sleep(d).await; clock.now();",
            ),
            ("tests/e2e.rs", "let t = std::time::Instant::now();"),
        ],
    );
}

/// Floors 1 to 4 run in virtual time and without an operating system, but for the store's files.
fn pure(floors: &BTreeMap<String, u32>, files: &[File]) -> Vec<Fault> {
    const WORLD: [&str; 12] = [
        "tokio",
        "rumqttc",
        "rmqtt",
        "axum",
        "notify",
        "getrandom",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "Instant",
        "SystemTime",
    ];
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.is_source()) {
        let Some(room) = room(&file.path) else {
            continue;
        };
        if floors.get(room).is_none_or(|floor| *floor > 4) {
            continue;
        }
        let code = shipped(file);
        let what =
            "floors 1 to 4 know no network, tasks, clock or dice: hand the value in from above";
        faults.extend(find(file, &code, &WORLD, what));
        if !["evidence", "store"].contains(&room) {
            faults.extend(find(file, &code, &["SystemRandom"], what));
        }
        if !["store", "engine", "catalogue"].contains(&room) {
            let what = "only the store touches files on these floors: take bytes, give bytes";
            faults.extend(find(
                file,
                &code,
                &["std::fs", "File::open", "File::create"],
                what,
            ));
        }
    }
    faults
}

/// Code without unit tests, which stand at the end of a file or in a file of their own.
fn shipped(file: &File) -> String {
    if file.path.ends_with("/tests.rs") {
        return String::new();
    }
    let end = file
        .code
        .find("#[cfg(test)]\nmod ")
        .unwrap_or(file.code.len());
    file.code[..end].to_owned()
}

#[test]
fn the_core_knows_no_world() {
    let floors = this_floors();
    hold(
        |files| pure(&floors, files),
        &[
            ("src/engine/mod.rs", "use tokio::sync::mpsc;"),
            ("src/sync/sender.rs", "getrandom::fill(&mut seed);"),
            ("src/wire.rs", "let k = std::env::var(name);"),
            ("src/sync/mod.rs", "std::fs::read(path)"),
            (
                "src/engine/mod.rs",
                "let r = ring::rand::SystemRandom::new();",
            ),
        ],
        &[
            ("src/shell/run.rs", "use tokio::sync::mpsc;"),
            ("src/store/mod.rs", "std::fs::metadata(path)"),
            (
                "src/wire.rs",
                "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::time::Duration;\n}",
            ),
        ],
    );
}

/// Sources that poll another program's database, and outputs that write to one, speak that
/// database's SQL.
fn sql(files: &[File]) -> Vec<Fault> {
    let what = "only src/store/ speaks to the database: give the store a method with a name";
    let mut faults = Vec::new();
    let may = |file: &&File| {
        let path = &file.path;
        let theirs = [
            "src/store/",
            "src/edge/sql",
            "src/edge/config/sql",
            "src/hub/output/table",
        ];
        file.is_source() && !theirs.iter().any(|room| path.starts_with(room))
    };
    for file in files.iter().filter(may) {
        let calls = [
            "rusqlite",
            ".prepare_cached(",
            ".execute_batch(",
            ".query_row(",
        ];
        faults.extend(find(file, &file.code, &calls, what));
        let statements = [
            "SELECT ",
            "INSERT INTO ",
            "INSERT OR ",
            "UPDATE ",
            "DELETE FROM ",
            "CREATE TABLE ",
            "CREATE INDEX ",
            "PRAGMA ",
            "BEGIN IMMEDIATE",
        ];
        faults.extend(find(file, &file.strings, &statements, what));
    }
    faults
}

#[test]
fn only_the_store_speaks_sql() {
    hold(
        sql,
        &[
            ("src/engine/mod.rs", "db.query_row(q, [], read)?;"),
            (
                "src/edge/page.rs",
                "let q = \"SELECT count(*) FROM entry\";",
            ),
            ("src/hub/mod.rs", "use rusqlite::Connection;"),
        ],
        &[
            (
                "src/store/edge.rs",
                "db.query_row(\"SELECT 1\", [], read)?;",
            ),
            (
                "src/engine/mod.rs",
                "// One SELECT a batch.\nself.execute(step); select(\"an update of\");",
            ),
        ],
    );
}

// ---------------------------------------------------------------------------------------- words

fn words(files: &[File]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let mut code =
            |needles: &[&str], what: &str| faults.extend(find(file, &file.code, needles, what));
        code(
            &["todo!", "unimplemented!"],
            "write it now, or return an error that says what to do",
        );
        code(
            &["dbg!"],
            "a trace of debugging: take it out, or log it with `tracing`",
        );
        code(
            &["#[ignore"],
            "a test that does not run proves nothing: mend it or delete it",
        );
        code(
            &["unsafe"],
            "this package has no unsafe code: use a crate that wraps the call",
        );
        let is_talkative = file.path.split('/').any(|part| part.starts_with("command"));
        if file.is_source() && !file.path.starts_with("src/bin/") && !is_talkative {
            code(
                &["println!", "print!", "eprintln!", "eprint!"],
                "only programs and their command modules print: log with `tracing`",
            );
        }
        if file.is_source() {
            let what = "delete what is not used, instead of hiding the warning";
            code(
                &[
                    "dead_code",
                    "unused_imports",
                    "unused_variables",
                    "unused_mut",
                ],
                what,
            );
        }
        let what = "open an issue and delete the mark, or do it now";
        faults.extend(find(
            file,
            &file.comments,
            &["FIXME", "XXX", "HACK", "TODO"],
            what,
        ));
    }
    faults
}

#[test]
fn no_marks_traces_or_ignored_tests() {
    hold(
        words,
        &[
            ("src/a.rs", "fn f() { todo!() }"),
            ("tests/a.rs", "#[ignore = \"slow\"]\n#[test]"),
            ("src/a.rs", "let a = dbg!(b);"),
            ("src/a.rs", "unsafe { f() }"),
            ("src/edge/page.rs", "println!(\"x\");"),
            ("src/a.rs", "#[allow(dead_code)]"),
            ("benches/a.rs", "// FIXME later"),
        ],
        &[
            (
                "src/a.rs",
                "#![forbid(unsafe_code)]\n// No unsafe here.\nlet s = \"todo!\";",
            ),
            ("src/edge/commands/status.rs", "println!(\"x\");"),
            ("src/bin/demo/main.rs", "println!(\"x\");"),
        ],
    );
}

/// A plain comment that ends as code does.
fn dead_comments(files: &[File]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let mut at = 0;
        for line in file.comments.split_inclusive('\n') {
            let text = line.trim();
            let is_doc = text.starts_with("///") || text.starts_with("//!");
            let is_code = [';', '{', '}'].iter().any(|end| text.ends_with(*end));
            if text.starts_with("//") && !is_doc && is_code && !text.ends_with("`;") {
                faults.push(file.fault(
                    at,
                    "this looks like commented-out code: delete it, git keeps it",
                ));
            }
            at += line.len();
        }
    }
    faults
}

#[test]
fn no_commented_out_code() {
    hold(
        dead_comments,
        &[
            ("src/a.rs", "fn f() {\n    // let a = g();\n}"),
            ("tests/a.rs", "f(); // if a {"),
        ],
        &[(
            "src/a.rs",
            "// A sentence.\n/// let a = 1;\nlet s = \"// a;\"; // why so\n",
        )],
    );
}

fn headers(files: &[File]) -> Vec<Fault> {
    let what = "begin the file with `//!` and a sentence that says what it is for";
    let lacks = |file: &&File| file.is_rust() && !file.text.starts_with("//! ");
    files
        .iter()
        .filter(lacks)
        .map(|file| file.fault(0, what))
        .collect()
}

#[test]
fn each_file_says_what_it_is_for() {
    hold(
        headers,
        &[("src/a.rs", "use std::fmt;"), ("tests/a.rs", "// Tests.\n")],
        &[("src/a.rs", "//! What for.\n"), ("README.md", "# Name\n")],
    );
}

fn exports(files: &[File]) -> Vec<Fault> {
    let what = "no re-exports: import from the module that owns the word";
    let needles = [
        "pub use",
        "pub(crate) use",
        "pub(super) use",
        "pub extern crate",
    ];
    let sources = files.iter().filter(|file| file.is_source());
    sources
        .flat_map(|file| find(file, &file.code, &needles, what))
        .collect()
}

#[test]
fn nothing_is_exported_twice() {
    hold(
        exports,
        &[
            ("src/lib.rs", "pub use model::Seq;"),
            ("src/hub/mod.rs", "pub(crate) use self::a::B;"),
        ],
        &[(
            "src/lib.rs",
            "pub mod model;\n// pub use is banned\nuse model::Seq;",
        )],
    );
}

// ----------------------------------------------------------------------------------------- text

fn texts(files: &[File]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files
        .iter()
        .filter(|file| !file.is_foreign_data() && !file.bytes.contains(&0))
    {
        if let Err(error) = std::str::from_utf8(&file.bytes) {
            faults.push(file.fault(
                error.valid_up_to(),
                "not UTF-8: write the file anew as UTF-8",
            ));
            continue;
        }
        let mut at = 0;
        for line in file.text.split_inclusive('\n') {
            if !unicode_normalization::is_nfc(line) {
                faults.push(file.fault(
                    at,
                    "not in NFC: write Vietnamese letters as one character each",
                ));
            }
            let line_text = line.strip_suffix('\n').unwrap_or(line);
            if line_text != line_text.trim_end() {
                faults.push(file.fault(at, "white space at the end of the line: take it out"));
            }
            at += line.len();
        }
    }
    faults
}

#[test]
fn text_is_utf_8_in_nfc_without_trailing_space() {
    hold(
        texts,
        &[
            ("README.md", "xa\u{303}\n"),
            ("src/a.rs", "fn f() {} \n"),
            ("docs/a.md", "line\r\n"),
        ],
        &[
            ("README.md", "xã\n"),
            ("tests/data/station.txt", "xa\u{303} \r\n"),
            ("a.png", "\0 \n"),
        ],
    );
    let file = [File::new("docs/a.md", vec![b'x', 0xe3])];
    assert_eq!(
        texts(&file).len(),
        1,
        "bytes that are not UTF-8 are overlooked"
    );
}

/// The needles are put together here, so that this file does not alarm itself.
fn machine_names(files: &[File]) -> Vec<Fault> {
    let paths = ["work", "root", "home", "tmp", "Users"].map(|name| format!("/{name}/"));
    let hosts = [
        ("crates", "io"),
        ("deb.debian", "org"),
        ("security.debian", "org"),
        ("pypi", "org"),
        ("docker", "io"),
        ("ghcr", "io"),
        ("npmjs", "com"),
        ("proxy.golang", "org"),
    ]
    .map(|(name, end)| format!("{name}.{end}"));
    let mut faults = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.path != "Cargo.lock" && !file.is_foreign_data())
    {
        for path in &paths {
            for (at, _) in file.text.match_indices(path.as_str()) {
                let before = file.text[..at].chars().next_back();
                if !before
                    .is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}'))
                {
                    let what = format!(
                        "`{path}` is a folder of one machine: make it relative or an argument"
                    );
                    faults.push(file.fault(at, what));
                }
            }
        }
        for host in &hosts {
            for at in places(&file.text, host) {
                let what =
                    format!("`{host}`: which mirror is used is the machine's matter, leave it out");
                faults.push(file.fault(at, what));
            }
        }
    }
    faults
}

#[test]
fn no_machine_is_named() {
    let bad = [
        ("src/a.rs", format!("let p = \"/{}/main\";", "work")),
        ("docs/a.md", format!("see /{}/an/x", "home")),
        (".ci/run", format!("curl https://{}.io/api", "crates")),
    ];
    let bad: Vec<(&str, &str)> = bad
        .iter()
        .map(|(path, text)| (*path, text.as_str()))
        .collect();
    let own = format!("GET /v1/{}/list; ${{dir}}/{0}/x", "home");
    hold(
        machine_names,
        &bad,
        &[
            ("src/a.rs", &own),
            ("docs/a.md", "ProtectHome hides /home from it"),
        ],
    );
}

// -------------------------------------------------------------------------------------- manifest

fn reasons(files: &[File]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.path == "Cargo.toml") {
        let mut in_dependencies = false;
        let mut has_reason = false;
        let mut at = 0;
        for line in file.text.split_inclusive('\n') {
            let text = line.trim_end();
            if text.starts_with('[') {
                in_dependencies = text.trim_matches(['[', ']']).ends_with("dependencies");
            } else if in_dependencies
                && text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text.contains('=')
                && !has_reason
            {
                faults.push(file.fault(at, "say in a comment above what this dependency is for"));
            }
            has_reason = text.starts_with("# ");
            at += line.len();
        }
    }
    faults
}

#[test]
fn each_dependency_has_a_reason() {
    hold(
        reasons,
        &[
            (
                "Cargo.toml",
                "[dependencies]\n# Bytes.\nbytes = \"1\"\nlog = \"0.4\"\n",
            ),
            (
                "Cargo.toml",
                "[target.'cfg(unix)'.dev-dependencies]\nnix = \"0.31\"\n",
            ),
        ],
        &[(
            "Cargo.toml",
            "[package]\nname = \"a\"\n\n[dependencies]\n# Bytes.\nbytes = { a = [\n    \"b\",\n] }\n",
        )],
    );
}

/// A newcomer sees at a glance what there is; tools keep their settings in hidden files.
fn top_level(files: &[File]) -> Vec<Fault> {
    const KNOWN: [&str; 13] = [
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "benches",
        "catalogue",
        "cross.toml",
        "docs",
        "fuzz",
        "image",
        "src",
        "systemd",
        "tests",
    ];
    let mut faults = BTreeMap::new();
    for file in files {
        let name = file.path.split('/').next().unwrap_or(&file.path);
        if !name.starts_with('.') && !KNOWN.contains(&name) {
            let what =
                format!("`{name}` does not belong to the top level: move it, or hide it (.{name})");
            faults.entry(name).or_insert_with(|| file.fault(0, what));
        }
    }
    faults.into_values().collect()
}

#[test]
fn the_top_level_is_small() {
    hold(
        top_level,
        &[("rustfmt.toml", ""), ("scripts/build.sh", "")],
        &[
            (".rustfmt.toml", ""),
            ("systemd/tramd.service", ""),
            ("src/scripts/a.rs", "//! A."),
        ],
    );
}

/// Those who cross-compile in a container and CI build the same list.
fn targets(files: &[File]) -> Vec<Fault> {
    let of = |path: &str, line_start: &str, line_end: &str| -> BTreeSet<String> {
        let lines = files
            .iter()
            .filter(|file| file.path == path)
            .flat_map(|file| file.text.lines());
        lines
            .filter_map(|line| line.strip_prefix(line_start)?.strip_suffix(line_end))
            .map(str::to_owned)
            .collect()
    };
    let built = of(".ci/arm", "TARGET=", "");
    let mut faults = Vec::new();
    for path in ["cross.toml", ".cargo/config.toml"] {
        let named = of(path, "[target.", "]");
        if named != built || named.is_empty() {
            let what =
                format!("targets are {named:?}, but .ci/arm builds {built:?}: make them equal");
            faults.push(Fault {
                path: path.to_owned(),
                line: 1,
                what,
            });
        }
    }
    faults
}

#[test]
fn all_build_settings_name_the_same_targets() {
    report(targets(files()));
    let file = |path: &str, text: &str| File::new(path, text.as_bytes().to_vec());
    let planted = [
        file(".ci/arm", "TARGET=aarch64-unknown-linux-gnu\n"),
        file(".cargo/config.toml", "[target.aarch64-unknown-linux-gnu]\n"),
        file(
            "cross.toml",
            "[target.aarch64-unknown-linux-gnu]\n[target.armv7-unknown-linux-gnueabihf]\n",
        ),
    ];
    assert_eq!(
        targets(&planted).len(),
        1,
        "a target that CI does not build is overlooked"
    );
}
