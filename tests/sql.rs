//! Sources of kind `sql` against real databases: SQLite, PostgreSQL and MariaDB.
#![cfg(feature = "edge")]
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

#[path = "bed/mod.rs"]
mod bed;
#[path = "bed/offices.rs"]
#[allow(dead_code)]
mod offices;
#[path = "bed/reading.rs"]
mod reading;
#[path = "bed/servers.rs"]
mod servers;

use bed::Bed;
use lienthong::edge::config::sql::{Mode, Place};
use lienthong::edge::sql;
use lienthong::store::edge_status::EdgeView;
use lienthong::store::rows::RowsView;
use offices::{Kind, Office, by_id, by_time, snapshot};
use reading::{NAME, by_subject, start};
use serde_json::Value;

async fn each_row_once_by_id(kind: Kind) {
    let mut office = Office::open(kind).await;
    office.add(1..=1_200).await;
    let bed = Bed::new();
    let source = start(&bed, office.config(by_id(), 500));
    source.until_read().await;
    office.add(1_201..=1_210).await;
    source.until_read().await;
    source.until_read().await;
    source.stop().await;
    let entries = bed.entries();
    assert_eq!(entries.len(), 1_210);
    let subjects = by_subject(&entries);
    for id in 1..=1_210 {
        let expected = if id <= 1_200 { "snapshot" } else { "upsert" };
        let found = &subjects[&offices::code(id)];
        assert_eq!((found.len(), found[0].0.as_str()), (1, expected), "{id}");
    }
    let data = &subjects[&offices::code(7)][0].1;
    assert_eq!(data["phi"].to_string(), "50007", "money is exact");
    assert_eq!(data["da_thu"], Value::Bool(true));
    assert_eq!(data["nguoi_nop"]["ho_ten"], "Người Thử 7");
    assert_eq!(data["ngay_tiep_nhan"], "2026-11-20T08:00:07+07:00");
    assert!(data.get("ngay_tra").is_none_or(Value::is_null));
}

async fn late_rows_and_equal_times(kind: Kind) {
    let mut office = Office::open(kind).await;
    office.add(1..=50).await;
    let bed = Bed::new();
    let source = start(&bed, office.config(by_time(), 100));
    source.until_read().await;
    // Late: its time lies before what was read, within the overlap.
    office.add_at(51, "2026-11-20 07:55:00").await;
    source.until_read().await;
    // More rows of one time than a query may return.
    for id in 101..=450 {
        office.add_at(id, "2026-11-20 09:30:00").await;
    }
    source.until_read().await;
    office.touch(7, "2026-11-20 09:31:00").await;
    // The same content again at another time is another state.
    source.until_read().await;
    office.touch(7, "2026-11-20 09:32:00").await;
    source.until_read().await;
    source.until_read().await;
    source.stop().await;
    let subjects = by_subject(&bed.entries());
    assert_eq!(subjects.len(), 401);
    for (subject, found) in &subjects {
        let expected = if *subject == offices::code(7) { 3 } else { 1 };
        assert_eq!(found.len(), expected, "{subject}");
    }
}

async fn new_changed_and_deleted(kind: Kind) {
    let mut office = Office::open(kind).await;
    office.add(1..=1_100).await;
    let bed = Bed::new();
    let source = start(&bed, office.config(snapshot(20), 100));
    source.until_read().await;
    office
        .run("UPDATE ho_so SET ten = 'Đã sửa' WHERE id = 3")
        .await;
    office.run("DELETE FROM ho_so WHERE id IN (4, 5)").await;
    office.add(2_001..=2_002).await;
    source.until_read().await;
    // A row that comes back is new.
    office.add(4..=4).await;
    source.until_read().await;
    // Nothing to be believed: everything is gone.
    office.run("ALTER TABLE ho_so RENAME TO ho_so_cu").await;
    office.create().await;
    let fault = source.until_fault("too_many_deletes").await;
    assert!(fault.hint_en.contains("allow-deletes"), "{fault:?}");
    office.run("DROP TABLE ho_so").await;
    office.run("ALTER TABLE ho_so_cu RENAME TO ho_so").await;
    source
        .until("it goes on by itself", |live| live.fault.is_none())
        .await;
    source.until_read().await;
    source.stop().await;
    let subjects = by_subject(&bed.entries());
    let ops = |id: u64| -> Vec<&str> {
        let found = &subjects[&offices::code(id)];
        found.iter().map(|(op, _)| op.as_str()).collect()
    };
    assert_eq!(subjects.len(), 1_102);
    assert_eq!(ops(1), ["snapshot"]);
    assert_eq!(ops(3), ["snapshot", "upsert"]);
    assert_eq!(ops(4), ["snapshot", "delete", "upsert"]);
    assert_eq!(ops(5), ["snapshot", "delete"]);
    assert_eq!(ops(2_001), ["upsert"]);
    let entries: usize = subjects.values().map(Vec::len).sum();
    assert_eq!(entries, 1_100 + 1 + 2 + 2 + 1);
    let deleted = &subjects[&offices::code(5)][1].1;
    assert_eq!(deleted.as_object().unwrap().len(), 1, "the key and no more");
}

async fn many_deletes_that_a_person_allows(kind: Kind) {
    let mut office = Office::open(kind).await;
    office.add(1..=100).await;
    let bed = Bed::new();
    let source = start(&bed, office.config(snapshot(20), 100));
    source.until_read().await;
    office.run("DELETE FROM ho_so WHERE id <= 60").await;
    source.until_fault("too_many_deletes").await;
    let (door, name) = (&source.running.door, NAME.parse().unwrap());
    sql::allow_deletes(door, name).await.unwrap();
    source
        .until("it goes on", |live| live.fault.is_none())
        .await;
    source.until_read().await;
    // Once and no more.
    office.run("DELETE FROM ho_so WHERE id <= 90").await;
    source.until_fault("too_many_deletes").await;
    source.stop().await;
    let subjects = by_subject(&bed.entries());
    let deleted = subjects
        .values()
        .filter(|found| found.iter().any(|(op, _)| op == "delete"));
    assert_eq!(deleted.count(), 60);
    let view = EdgeView::open(&bed.store()).unwrap();
    let events = view.events(20).unwrap();
    assert!(
        events.iter().any(|event| event.code == "deletes_allowed"),
        "{events:?}"
    );
}

async fn a_schema_that_changes(kind: Kind) {
    let mut office = Office::open(kind).await;
    office.add(1..=10).await;
    let bed = Bed::new();
    let source = start(&bed, office.config(by_id(), 100));
    source.until_read().await;
    office
        .run("ALTER TABLE ho_so RENAME COLUMN ten TO ho_ten")
        .await;
    office.add_into("ho_ten", 11).await;
    let fault = source.until_fault("query").await;
    assert!(fault.hint_vi.contains("con trỏ giữ nguyên"), "{fault:?}");
    let view = RowsView::open(&bed.store()).unwrap();
    let cursor = view.cursor(NAME).unwrap().unwrap();
    assert!(cursor.contains("\"after\":\"10\""), "{cursor}");
    office
        .run("ALTER TABLE ho_so RENAME COLUMN ho_ten TO ten")
        .await;
    source
        .until("it resumes", |live| live.fault.is_none())
        .await;
    source.until_read().await;
    if let Some(change) = office.change_type() {
        office.run(change).await;
        office.add(12..=12).await;
        let fault = source.until_fault("schema").await;
        assert!(fault.text_en.contains("phi:text"), "{}", fault.text_en);
    }
    source.stop().await;
    assert_eq!(bed.entries().len(), 11);
}

async fn the_session_cannot_write(kind: Kind) {
    let mut office = Office::open(kind).await;
    office.add(1..=3).await;
    let bed = Bed::new();
    let writing = office.writing_query().await;
    let mut config = office.config(by_id(), 100);
    config.query = sql::query::Query::parse(&writing).unwrap();
    let source = start(&bed, config);
    let fault = source.until_fault("query").await;
    source.stop().await;
    assert_eq!(office.count("ho_so").await, 3, "{fault:?}");
    assert!(bed.entries().is_empty());
}

async fn a_server_that_goes_away(kind: Kind) {
    let mut office = Office::open(kind).await;
    office.add(1..=5_000).await;
    let bed = Bed::new();
    let source = start(&bed, office.config(by_id(), 500));
    source
        .until("it has begun", |live| {
            live.progress.is_some_and(|progress| 500 <= progress.rows)
        })
        .await;
    office.stop_server();
    source
        .until("it is missed", |live| {
            let codes = ["connect", "read"];
            let code = live.fault.as_ref().map(|fault| fault.code.as_str());
            code.is_some_and(|code| codes.contains(&code))
        })
        .await;
    office.start_server().await;
    source
        .until("it is back", |live| live.fault.is_none())
        .await;
    source.until_read().await;
    source.stop().await;
    let subjects = by_subject(&bed.entries());
    assert_eq!(subjects.len(), 5_000);
    assert!(
        subjects.values().all(|found| found.len() == 1),
        "none twice"
    );
}

/// The same story for each database.
macro_rules! stories {
    ($($name:ident($story:ident, $kind:ident);)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            $story(Kind::$kind).await;
        })*
    };
}

stories! {
    each_row_of_sqlite_comes_once(each_row_once_by_id, Sqlite);
    each_row_of_postgres_comes_once(each_row_once_by_id, Postgres);
    each_row_of_mariadb_comes_once(each_row_once_by_id, Mariadb);
    late_rows_and_equal_times_in_sqlite(late_rows_and_equal_times, Sqlite);
    late_rows_and_equal_times_in_postgres(late_rows_and_equal_times, Postgres);
    late_rows_and_equal_times_in_mariadb(late_rows_and_equal_times, Mariadb);
    new_changed_and_deleted_in_sqlite(new_changed_and_deleted, Sqlite);
    new_changed_and_deleted_in_postgres(new_changed_and_deleted, Postgres);
    new_changed_and_deleted_in_mariadb(new_changed_and_deleted, Mariadb);
    many_deletes_of_sqlite_are_allowed(many_deletes_that_a_person_allows, Sqlite);
    a_schema_of_sqlite_changes(a_schema_that_changes, Sqlite);
    a_schema_of_postgres_changes(a_schema_that_changes, Postgres);
    a_schema_of_mariadb_changes(a_schema_that_changes, Mariadb);
    a_session_with_postgres_cannot_write(the_session_cannot_write, Postgres);
    a_session_with_mariadb_cannot_write(the_session_cannot_write, Mariadb);
    a_postgres_that_goes_away(a_server_that_goes_away, Postgres);
    a_mariadb_that_goes_away(a_server_that_goes_away, Mariadb);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_another_program_is_never_written_nor_created() {
    let mut office = Office::open(Kind::Sqlite).await;
    office.add(1..=3).await;
    let Place::File(file) = office.config(by_id(), 10).place else {
        panic!("a file");
    };
    // The other program works with a WAL and holds a transaction open.
    office.run("BEGIN IMMEDIATE").await;
    office.add(4..=4).await;
    let before = std::fs::read(&file).unwrap();
    let bed = Bed::new();
    let source = start(&bed, office.config(by_id(), 10));
    source.until_read().await;
    assert_eq!(std::fs::read(&file).unwrap(), before);
    office.run("COMMIT").await;
    source.until_read().await;
    source.stop().await;
    assert_eq!(bed.entries().len(), 4);

    let bed = Bed::new();
    let mut config = office.config(by_id(), 10);
    let missing = file.with_file_name("khong-co.db");
    config.place = Place::File(missing.clone());
    let source = start(&bed, config);
    source.until_fault("connect").await;
    source.stop().await;
    assert!(!missing.exists(), "a file that is not there is not made");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_come_in_order_are_a_fault() {
    let mut office = Office::open(Kind::Sqlite).await;
    office.add(1..=30).await;
    let bed = Bed::new();
    let mut config = office.config(by_id(), 100);
    let unordered = offices::SELECT.to_owned() + " WHERE id > :after ORDER BY ten LIMIT :limit";
    config.query = sql::query::Query::parse(&unordered).unwrap();
    let source = start(&bed, config);
    let fault = source.until_fault("order").await;
    source.stop().await;
    assert!(fault.hint_en.contains("Order the query"), "{fault:?}");
    assert!(
        bed.entries().is_empty(),
        "nothing of a disordered page is kept"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_takes_too_long_is_stopped() {
    let mut office = Office::open(Kind::Sqlite).await;
    office.add(1..=3).await;
    let bed = Bed::new();
    let mut config = office.config(by_id(), 100);
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS id FROM n WHERE x < 0 AND x > :after LIMIT :limit";
    config.query = sql::query::Query::parse(endless).unwrap();
    config.columns.clear();
    config.statement_ms = 300;
    let source = start(&bed, config);
    let fault = source.until_fault("timeout").await;
    assert!(fault.hint_en.contains("statement_timeout"), "{fault:?}");
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_set_back_is_told() {
    let mut office = Office::open(Kind::Sqlite).await;
    office.add(1..=30).await;
    let bed = Bed::new();
    let source = start(&bed, office.config(by_id(), 100));
    source.until_read().await;
    office.run("DELETE FROM ho_so WHERE 20 < id").await;
    source
        .until("a warning", |live| {
            let warning = live.warning.as_ref();
            warning.is_some_and(|warning| warning.code == "watermark_ahead")
        })
        .await;
    source.stop().await;
    assert_eq!(bed.entries().len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_from_the_future_does_not_hide_the_present() {
    let mut office = Office::open(Kind::Sqlite).await;
    office.add_at(1, "2099-01-01 00:00:00").await;
    office.add_at(2, "2026-01-01 00:00:00").await;
    let bed = Bed::new();
    let source = start(&bed, office.config(by_time(), 100));
    source.until_read().await;
    office.add_at(3, "2026-01-02 00:00:00").await;
    source.until_read().await;
    source.stop().await;
    assert_eq!(bed.entries().len(), 3, "each once, the one from 2099 too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_a_fault_that_does_not_show_it() {
    let mut office = Office::open(Kind::Postgres).await;
    office.add(1..=1).await;
    let bed = Bed::new();
    let mut config = office.config(by_id(), 10);
    let secret = bed.place.path().join("secret");
    std::fs::write(&secret, "sai-mat-khau\n").unwrap();
    let Place::Server(server) = &mut config.place else {
        panic!("a server");
    };
    server.password = Some(secret);
    let source = start(&bed, config);
    let fault = source.until_fault("login").await;
    source.stop().await;
    assert!(!format!("{fault:?}").contains("sai-mat-khau"));
    assert!(fault.hint_en.contains("GRANT SELECT"), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_row_of_a_database_is_parked() {
    let mut office = Office::open(Kind::Postgres).await;
    office.add(1..=20).await;
    office
        .run("UPDATE ho_so SET phi = 'NaN' WHERE id = 5")
        .await;
    office
        .run("UPDATE ho_so SET so = 'sai mã' WHERE id = 6")
        .await;
    let bed = Bed::new();
    let source = start(&bed, office.config(by_id(), 7));
    source.until_read().await;
    source.stop().await;
    assert_eq!(bed.entries().len(), 18);
    let view = RowsView::open(&bed.store()).unwrap();
    let parked = view.parked(NAME, 0, 10).unwrap();
    assert_eq!(parked.len(), 2);
    assert!(parked[0].reason_en.contains("\"phi\""), "{parked:?}");
    assert!(parked[1].reason_vi.contains("Mã hồ sơ"), "{parked:?}");
}

#[test]
fn modes_name_their_watermark() {
    assert_eq!(by_id().watermark(), Some("id"));
    assert_eq!(by_time().watermark(), Some("cap_nhat"));
    assert!(matches!(snapshot(5), Mode::Snapshot { .. }));
}
