//! The peers' receiver at the data centre, a process of its own: what arrives is written into SQLite
//! and acknowledged after the commit. All that one read of the socket brings is one transaction.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rusqlite::Connection;

use crate::mqtt::{Client, Packet, acknowledge};

/// The name under which the broker keeps the session.
const NAME: &str = "hub";

/// Receives until it is killed.
pub fn run(database: &Path, port: u16, topic: &str) -> Result<()> {
    let mut database_connection = Connection::open(database)?;
    database_connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE IF NOT EXISTS record (number INTEGER PRIMARY KEY, record TEXT NOT NULL) STRICT;",
    )?;
    loop {
        // A broker that was killed comes back.
        if let Err(error) = receive(&mut database_connection, database, port, topic) {
            eprintln!("{error:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn receive(database: &mut Connection, path: &Path, port: u16, topic: &str) -> Result<()> {
    let mut client = Client::connect(port, NAME)?;
    loop {
        let mut acknowledgements = Vec::new();
        let mut records: Vec<Vec<u8>> = Vec::new();
        let (mut is_connected, mut is_subscribed) = (false, false);
        client.receive(|packet| match packet {
            Packet::Message { number, body } => {
                acknowledgements.extend_from_slice(&acknowledge(number));
                records.push(body.to_vec());
            }
            Packet::Subscribed => is_subscribed = true,
            Packet::Connected => is_connected = true,
            Packet::Acknowledged => {}
        })?;
        if is_connected {
            client.subscribe(topic)?;
        }
        if is_subscribed {
            fs::write(path.with_extension("ready"), "")?;
        }
        if records.is_empty() {
            continue;
        }
        let transaction = database.transaction()?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO record (record) VALUES (CAST(?1 AS TEXT))")?;
            for record in &records {
                insert.execute([record])?;
            }
        }
        transaction.commit()?;
        client.send(&acknowledgements)?;
    }
}
