//! Databases by ODBC: the drivers of PostgreSQL and MariaDB against real servers.
//!
//! Needs the cargo feature `odbc` and the packages unixodbc, odbc-postgresql and odbc-mariadb.
#![cfg(feature = "odbc")]
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "real servers are waited for and timed by the real clock"
)]

#[path = "bed/mod.rs"]
#[allow(dead_code)]
mod bed;
#[path = "bed/offices.rs"]
#[allow(dead_code)]
mod offices;
#[path = "bed/servers.rs"]
#[allow(dead_code)]
mod servers;

use std::sync::Arc;
use std::time::Duration;

use bed::Bed;
use lienthong::edge::blobs::Blobs;
use lienthong::edge::config::sql::{Driver, Place, SqlConfig};
use lienthong::edge::connectors::Connectors;
use lienthong::edge::rows::Rows;
use lienthong::edge::sql;
use lienthong::model::chunk::pieces;
use offices::{Kind, Office, by_id, by_time, code, snapshot};

const NAME: &str = "qua-odbc";

/// The same office, reached by ODBC.
fn by_odbc(office: &Office, mut config: SqlConfig) -> SqlConfig {
    let Place::Server(server) = &config.place else {
        panic!("a server");
    };
    let driver = match config.driver {
        Driver::Postgres => "PostgreSQL Unicode",
        _ => "MariaDB Unicode",
    };
    let connection = format!(
        "Driver={{{driver}}};Server={};Port={};Database={};UID={}",
        server.host, server.port, server.database, server.user
    );
    config.place = Place::Odbc {
        connection,
        password: Some(office.secret()),
    };
    config.driver = Driver::Odbc;
    config
}

/// Reads until so many entries are there, or a fault stands.
async fn entries_of(bed: &Bed, config: SqlConfig, count: usize) -> Vec<serde_json::Value> {
    let running = bed.start();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let door = Arc::clone(&running.door);
    let mut connectors = Connectors::new(Arc::clone(&door), bed.clock.clone(), stopped);
    let (name, dataset) = (NAME.parse().unwrap(), "ho_so_tthc".parse().unwrap());
    let rows = Rows::new(Arc::clone(&door), name, dataset);
    let config = Arc::new(config);
    connectors.spawn(&NAME.parse().unwrap(), move |post| {
        sql::poll(Arc::clone(&config), rows.clone(), post)
    });
    let mut waited = 0;
    while bed.stored() < count as u64 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let live = door.board().get(NAME);
        let has_fault = live.as_ref().is_some_and(|live| live.fault.is_some());
        waited += 1;
        assert!(!has_fault && waited < 200, "{live:?}");
    }
    stop.send(true).unwrap();
    connectors.ended().await;
    drop((connectors, door));
    running.stop().await;
    bed.entries()
}

async fn every_mode(kind: Kind) {
    let mut office = Office::open(kind).await;
    office.add(1..=350).await;
    for mode in [by_id(), by_time(), snapshot(20)] {
        let config = by_odbc(&office, office.config(mode, 100));
        let entries = entries_of(&Bed::new(), config, 350).await;
        assert_eq!(entries.len(), 350);
        let seventh = entries
            .iter()
            .find(|entry| entry["subject"] == code(7).as_str())
            .unwrap();
        let data = &seventh["data"];
        assert_eq!(data["phi"].to_string(), "50007", "money is exact");
        assert_eq!(data["nguoi_nop"]["ho_ten"], "Người Thử 7");
        assert_eq!(data["ngay_tiep_nhan"], "2026-11-20T08:00:07+07:00");
        assert_eq!(data["da_thu"], serde_json::Value::Bool(true));
    }
}

async fn files(kind: Kind) {
    let mut office = Office::open(kind).await;
    office.add_file_columns().await;
    office.add(1..=12).await;
    let content = |id: u64| -> Vec<u8> {
        (0..id * 30_000)
            .map(|at| (at * 31 + id + at / 251) as u8)
            .collect()
    };
    for id in 2..=12 {
        office.attach(id, Some(&content(id))).await;
    }
    let bed = Bed::new();
    let config = by_odbc(&office, office.config_with_files(by_id(), 5));
    // The files' pieces are entries as well.
    let pieces: u64 = (2..=12).map(|id| pieces(id * 30_000)).sum();
    let entries = entries_of(&bed, config, 12 + pieces as usize).await;
    let blobs = Blobs::beside(&bed.store(), 1 << 30);
    for id in 1..=12 {
        let subject = code(id);
        let entry = entries
            .iter()
            .find(|entry| entry["subject"] == *subject)
            .unwrap();
        let file = &entry["attachments"][0];
        if id == 1 {
            assert!(file.is_null(), "{file}");
            continue;
        }
        assert_eq!(file["name"], *format!("Đơn {id}.pdf"));
        let kept = blobs.get(file["sha256"].as_str().unwrap()).unwrap();
        assert!(kept.unwrap() == content(id), "{id}: other bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_postgres_by_odbc() {
    files(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_mariadb_by_odbc() {
    files(Kind::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_by_odbc() {
    every_mode(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_by_odbc() {
    every_mode(Kind::Mariadb).await;
}
