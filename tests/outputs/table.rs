//! Kinds `sqlite` and `postgres` against real databases.

use std::collections::BTreeMap;

use lienthong::model::Lane;
use lienthong::model::record::Op;
use rusqlite::Connection;

use crate::live::Daemon;
use crate::servers::{Postgres, SECRET};
use crate::stage::{Hub, Office, Sample};
use crate::{KILLS, configure, kill_in_the_middle, parked, steps, until, until_empty};

const COLUMNS: &str = "[[output.column]]\nname = \"buoc\"\nfield = \"/buoc\"\ntype = \"integer\"\n\
                       [[output.column]]\nname = \"le_phi\"\nfield = \"/le_phi\"\ntype = \"number\"\n\
                       [[output.column]]\nname = \"ngay\"\nfield = \"/ngay\"\ntype = \"date\"\n";

fn sqlite(hub: &Hub, more: &str) {
    configure(
        hub,
        &format!(
            "[[output]]\nname = \"kho\"\nkind = \"sqlite\"\ndatasets = [\"ho_so_tthc\"]\n\
             file = \"kho.sqlite\"\ntable = \"lt_{{dataset}}\"\ncreate = true\nbatch = 5\n{more}{COLUMNS}"
        ),
    );
}

fn postgres(hub: &Hub, server: &Postgres, more: &str) {
    std::fs::write(hub.path("mat-khau"), SECRET).unwrap();
    configure(
        hub,
        &format!(
            "[[output]]\nname = \"kho\"\nkind = \"postgres\"\ndatasets = [\"ho_so_tthc\"]\n\
             host = \"127.0.0.1\"\nport = {}\ndatabase = \"postgres\"\nuser = \"postgres\"\n\
             password_file = \"mat-khau\"\nbatch = 5\n{more}{COLUMNS}",
            server.port
        ),
    );
}

/// The last step of each subject.
fn last_steps(count: u64) -> BTreeMap<String, i64> {
    (0..count)
        .map(|step| (format!("H53.01-{}", step % 7), step as i64))
        .collect()
}

fn in_sqlite(hub: &Hub) -> BTreeMap<String, i64> {
    let connection = Connection::open(hub.path("kho.sqlite")).unwrap();
    let mut rows = connection
        .prepare("SELECT subject, buoc FROM lt_ho_so_tthc")
        .unwrap();
    let rows = rows
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    rows.map(Result::unwrap).collect()
}

async fn in_postgres(server: &Postgres) -> BTreeMap<String, i64> {
    let client = server.connect().await.unwrap();
    let rows = client
        .query("SELECT subject, buoc FROM ho_so_tthc", &[])
        .await
        .unwrap();
    let step = |row: &tokio_postgres::Row| row.get::<_, Option<i64>>(1).unwrap_or(0);
    rows.iter().map(|row| (row.get(0), step(row))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_holds_the_present_state_through_kills() {
    let hub = Hub::new();
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    sqlite(&hub, "");
    let count = kill_in_the_middle(&hub, &mut office, KILLS, 150).await;
    let daemon = Daemon::start(&hub).await;
    let standing = until_empty(&hub, "kho");
    assert_eq!(standing["delivered"], count, "{standing}");
    assert_eq!(in_sqlite(&hub), last_steps(count));
    assert_eq!(daemon.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_holds_the_present_state_through_kills_of_either() {
    let hub = Hub::new();
    let mut server = Postgres::start().await;
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    postgres(&hub, &server, "create = true\n");
    let count = kill_in_the_middle(&hub, &mut office, KILLS, 150).await;
    let daemon = Daemon::start(&hub).await;
    let standing = until_empty(&hub, "kho");
    assert_eq!(standing["delivered"], count, "{standing}");
    assert_eq!(in_postgres(&server).await, last_steps(count));

    server.stop();
    office.send(steps(count, 70));
    let standing = until(&hub, "kho", "the fault is told", |standing| {
        standing["state"] == "failed"
    });
    assert_eq!(standing["trouble"]["code"], "database", "{standing}");
    server.run().await;
    until_empty(&hub, "kho");
    assert_eq!(in_postgres(&server).await, last_steps(count + 70));
    assert_eq!(daemon.stop(), 0);
}

/// Lets the server speak TLS with a certificate of its own, which is written to `ca`.
async fn encrypt(server: &mut Postgres, ca: &std::path::Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let parameters = rcgen::CertificateParams::new(names).unwrap();
    let certificate = parameters.self_signed(&key).unwrap().pem();
    std::fs::write(ca, &certificate).unwrap();
    server
        .show(Some((&certificate, &key.serialize_pem())))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_written_to_by_tls_and_only_when_it_is_who_it_should_be() {
    let hub = Hub::new();
    let mut server = Postgres::start().await;
    encrypt(&mut server, &hub.path("pg-ca.pem")).await;
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    postgres(&hub, &server, "create = true\ntls_ca = \"ca.crt\"\n");
    hub.edit("host = \"127.0.0.1\"", "host = \"localhost\"");
    office.send(steps(0, 14));
    // The hub's own authority has not signed the server's certificate.
    let daemon = Daemon::start(&hub).await;
    let standing = until(&hub, "kho", "the fault is told", |standing| {
        standing["state"] == "failed"
    });
    assert_eq!(standing["delivered"], 0, "{standing}");
    let told = standing["trouble"]["en"].as_str().unwrap();
    assert!(told.contains("invalid peer certificate"), "{told}");
    assert_eq!(daemon.stop(), 0);
    hub.edit("tls_ca = \"ca.crt\"", "tls_ca = \"pg-ca.pem\"");
    let daemon = Daemon::start(&hub).await;
    until_empty(&hub, "kho");
    assert_eq!(in_postgres(&server).await, last_steps(14));
    let client = server.connect().await.unwrap();
    let encrypted = client
        .query_one(
            "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
             WHERE application_name = 'trucd'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(encrypted.get::<_, Option<bool>>(0), Some(true));
    assert_eq!(daemon.stop(), 0);
}

/// Digits, deletions, lanes that overtake each other, and what the table refuses.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_as_their_records_and_wrong_ones_are_parked() {
    let hub = Hub::new();
    let server = Postgres::start().await;
    let client = server.connect().await.unwrap();
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    postgres(&hub, &server, "");
    office.send(vec![
        Sample::new(
            "a",
            r#"{"buoc":1,"le_phi":12345678901234567.10,"ngay":"2026-11-20"}"#,
        ),
        Sample::new("b", r#"{"buoc":1,"ngay":"20/11/2026"}"#),
        Sample::new("c", r#"{"buoc":-1}"#),
        Sample::new("d", r#"{"buoc":1,"ten":"Trần Thị Mẫu"}"#),
        Sample::new("d", "{}").op(Op::Delete),
        Sample::new("e", r#"{"buoc":1}"#),
        Sample::new("e", r#"{"buoc":2}"#).lane(Lane::P1),
        Sample::new("f", "{\"buoc\":1,\"ten\":\"\\u0000\"}"),
    ]);
    let daemon = Daemon::start(&hub).await;
    // Nobody has made the table: the output says how.
    let standing = until(&hub, "kho", "the fault is told", |standing| {
        standing["state"] == "failed"
    });
    assert_eq!(standing["trouble"]["code"], "table", "{standing}");
    let hint = standing["trouble"]["hint_en"].as_str().unwrap();
    let create = &hint[hint.find("CREATE TABLE").unwrap()..];
    let create = create.replace("buoc\" bigint", "buoc\" bigint CHECK (\"buoc\" > 0)");
    client.batch_execute(&create).await.unwrap();
    let standing = until_empty(&hub, "kho");
    assert_eq!(standing["parked"], 3, "{standing}");
    let held = parked(&hub, "kho");
    let why: Vec<(&str, &str)> = held
        .iter()
        .map(|held| {
            (
                held["reason"].as_str().unwrap(),
                held["detail"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(why[0], ("wrong_type", "/ngay is no Date"));
    assert!(why[1].1.starts_with("SQLSTATE 23514 ho_so_tthc"), "{why:?}");
    assert!(why[2].1.starts_with("SQLSTATE 22"), "{why:?}");
    let rows = client
        .query(
            "SELECT subject, buoc, le_phi::text, ngay::text, deleted, data::text, agency, \
             event_time > '2026-01-01' FROM ho_so_tthc ORDER BY subject",
            &[],
        )
        .await
        .unwrap();
    let subjects: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(subjects, ["a", "d", "e"]);
    assert_eq!(rows[0].get::<_, &str>(2), "12345678901234567.10");
    assert_eq!(rows[0].get::<_, &str>(3), "2026-11-20");
    assert_eq!(
        (rows[0].get::<_, &str>(6), rows[0].get::<_, bool>(7)),
        ("H53.01", true)
    );
    assert!(rows[1].get::<_, bool>(4), "d is gone");
    assert_eq!(
        rows[1].get::<_, Option<&str>>(5),
        None,
        "nothing of it stays"
    );
    assert_eq!(
        rows[2].get::<_, i64>(1),
        2,
        "the later capture, whatever its lane"
    );

    // A newer state of a parked subject that fits goes in by itself; the rest after a repair.
    office.send(vec![Sample::new("b", r#"{"buoc":2,"ngay":"2026-11-21"}"#)]);
    until(&hub, "kho", "the newer state went in", |standing| {
        standing["parked"] == 2 && standing["waiting"] == 0
    });
    client
        .batch_execute("ALTER TABLE ho_so_tthc DROP CONSTRAINT ho_so_tthc_buoc_check")
        .await
        .unwrap();
    hub.ok(&["outputs", "retry", "kho"]);
    until(&hub, "kho", "replayed", |standing| standing["parked"] == 1);
    let got = in_postgres(&server).await;
    assert_eq!((got["b"], got["c"]), (2, -1));
    assert_eq!(daemon.stop(), 0);
}
