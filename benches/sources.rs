//! Rows per second by kind of source, and memory as a table grows.
//!
//! `cargo bench --bench sources [KIND...]`: `sqlite`, `postgres`, `mariadb`, `csv`, `memory`. Each kind
//! reads the same 20,000 dossiers (`SOURCES_ROWS`) into a real store, every page committed and
//! synced; servers are started here. Memory is the process's peak after an initial load of 10
//! thousand, 100 thousand and 1 million rows by snapshot, each in a process of its own.
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark measures with the real clock"
)]

#[path = "../tests/bed/mod.rs"]
#[allow(dead_code)]
mod bed;
#[path = "../tests/bed/offices.rs"]
#[allow(dead_code)]
mod offices;
#[path = "../tests/bed/servers.rs"]
#[allow(dead_code)]
mod servers;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bed::{Bed, Running};
use lienthong::edge::config::load::load;
use lienthong::edge::config::sql::{Mode, SqlConfig};
use lienthong::edge::config::{FolderConfig, SourceKind};
use lienthong::edge::connectors::Connectors;
use lienthong::edge::folder::{FolderSource, watch};
use lienthong::edge::rows::Rows;
use lienthong::edge::sql;
use offices::{Kind, Office, by_id, code, snapshot};

const NAME: &str = "do-toc-do";
/// Set in the process that reads so many rows for the table of memory.
const MEMORY_ROWS: &str = "SOURCES_MEMORY_ROWS";
/// Rows of one file; the drop folder bounds what a file holds.
const FILE_ROWS: u64 = 5_000;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Ok(rows) = std::env::var(MEMORY_ROWS) {
        let rows = rows.parse().unwrap();
        runtime.block_on(memory(rows));
        return;
    }
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    let rows = std::env::var("SOURCES_ROWS").map_or(20_000, |rows| rows.parse().unwrap());
    for (name, kind) in [
        ("sqlite", Kind::Sqlite),
        ("postgres", Kind::Postgres),
        ("mariadb", Kind::Mariadb),
    ] {
        if !is_wanted(name) {
            continue;
        }
        let mut office = runtime.block_on(async {
            let mut office = Office::open(kind).await;
            office.add(1..=rows).await;
            office
        });
        for (how, mode) in [("increasing", by_id()), ("snapshot", snapshot(20))] {
            let spent = runtime.block_on(read(&office, mode, rows));
            say(&format!("{name} {how}"), rows, spent);
        }
        runtime.block_on(office.run("DROP TABLE ho_so"));
    }
    if is_wanted("csv") {
        let spent = runtime.block_on(csv(rows));
        say("csv file", rows, spent);
    }
    if is_wanted("memory") {
        for rows in [10_000_u64, 100_000, 1_000_000] {
            let own = std::env::current_exe().unwrap();
            let output = std::process::Command::new(own)
                .env(MEMORY_ROWS, rows.to_string())
                .output()
                .unwrap();
            print!("{}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

fn say(name: &str, rows: u64, spent: Duration) {
    let rate = rows as f64 / spent.as_secs_f64();
    println!(
        "{name:<22} {rows:>9} rows {:>8.2} s {rate:>10.0} rows/s",
        spent.as_secs_f64()
    );
}

fn start(bed: &Bed, config: SqlConfig) -> (Running, Connectors, tokio::sync::watch::Sender<bool>) {
    let running = bed.start();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut connectors = Connectors::new(Arc::clone(&running.door), bed.clock.clone(), stopped);
    let (name, dataset) = (NAME.parse().unwrap(), "ho_so_tthc".parse().unwrap());
    let rows = Rows::new(Arc::clone(&running.door), name, dataset);
    let config = Arc::new(config);
    connectors.spawn(&NAME.parse().unwrap(), move |post| {
        sql::poll(Arc::clone(&config), rows.clone(), post)
    });
    (running, connectors, stop)
}

async fn until_stored(bed: &Bed, rows: u64) {
    while bed.stored() < rows {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn read(office: &Office, mode: Mode, rows: u64) -> Duration {
    let bed = Bed::new();
    let began = Instant::now();
    let (running, mut connectors, stop) = start(&bed, office.config(mode, 1_000));
    until_stored(&bed, rows).await;
    let spent = began.elapsed();
    stop.send(true).unwrap();
    connectors.ended().await;
    drop(connectors);
    running.stop().await;
    spent
}

/// The drop folder's settings for a table with the heading of its fields.
fn folder_config(bed: &Bed) -> FolderConfig {
    let place = bed.place.path().join("nhan");
    std::fs::create_dir(&place).unwrap();
    let text = format!(
        "[box]\nid = \"xa-tan-bien\"\nagency = \"H53.12\"\n[hub]\naddresses = [\"truc.example\"]\nreceipt_keys = [\"hub.pub\"]\n[catalogue]\npath = \"{}\"\n[[source]]\nname = \"{NAME}\"\nkind = \"folder\"\ndataset = \"ho_so_tthc\"\npath = \"{}\"\nsettle = \"0 ms\"\nrescan = \"1 s\"\n",
        bed.config().catalogue.display(),
        place.display()
    );
    let file = bed.place.path().join("tramd.toml");
    std::fs::write(&file, text).unwrap();
    let loaded = load(&file).unwrap();
    match loaded.config.sources.into_iter().next().unwrap().kind {
        SourceKind::Folder(folder) => folder,
        _ => unreachable!("it was written as a folder"),
    }
}

async fn csv(rows: u64) -> Duration {
    let bed = Bed::new();
    let folder = folder_config(&bed);
    let mut first = 1;
    while first <= rows {
        let last = (first + FILE_ROWS - 1).min(rows);
        let mut text = "ma_ho_so,ma_tthc,co_quan_tiep_nhan,co_quan_giai_quyet,nguoi_nop.loai,nguoi_nop.ho_ten,ngay_tiep_nhan,trang_thai_goc,trang_thai_chuan\n".to_owned();
        for id in first..=last {
            writeln!(
                text,
                "{},1.001193,H53.12,H53.12,ca_nhan,Người Thử {id},2026-11-20T08:00:00+07:00,Đang xử lý,DANG_XU_LY",
                code(id)
            )
            .unwrap();
        }
        std::fs::write(folder.path.join(format!("{first:09}.csv")), text).unwrap();
        first = last + 1;
    }
    let running = bed.start();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let source = FolderSource {
        name: NAME.parse().unwrap(),
        dataset: "ho_so_tthc".parse().unwrap(),
        folder,
        inotify: true,
    };
    let began = Instant::now();
    let watcher = watch(
        source,
        Arc::clone(&running.door),
        bed.clock.clone(),
        stopped,
    );
    let watcher = tokio::spawn(watcher);
    until_stored(&bed, rows).await;
    let spent = began.elapsed();
    stop.send(true).unwrap();
    watcher.await.unwrap();
    running.stop().await;
    spent
}

async fn memory(rows: u64) {
    let mut office = Office::open(Kind::Sqlite).await;
    office.fill(rows).await;
    let bed = Bed::new();
    let (running, mut connectors, stop) = start(&bed, office.config(snapshot(20), 100_000));
    until_stored(&bed, rows).await;
    stop.send(true).unwrap();
    connectors.ended().await;
    drop(connectors);
    running.stop().await;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    println!(
        "memory {rows:>9} rows: {}",
        peak.split_whitespace().nth(1).unwrap()
    );
}
