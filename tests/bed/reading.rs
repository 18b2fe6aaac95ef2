//! A source of kind `sql` that runs in a bed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lienthong::edge::config::sql::SqlConfig;
use lienthong::edge::connectors::{Connectors, SourceLive};
use lienthong::edge::rows::Rows;
use lienthong::edge::sql;
use lienthong::edge::status::{SourceState, Trouble};
use serde_json::Value;

use crate::bed::{Bed, Running};

const DEADLINE: Duration = Duration::from_secs(60);
pub const NAME: &str = "mot-cua";

/// A source that runs.
pub struct Source {
    pub running: Running,
    connectors: Connectors,
    stop: tokio::sync::watch::Sender<bool>,
}

pub fn start(bed: &Bed, config: SqlConfig) -> Source {
    let running = bed.start();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut connectors = Connectors::new(Arc::clone(&running.door), bed.clock.clone(), stopped);
    let (name, dataset) = (NAME.parse().unwrap(), "ho_so_tthc".parse().unwrap());
    let rows = Rows::new(Arc::clone(&running.door), name, dataset);
    let config = Arc::new(config);
    connectors.spawn(&NAME.parse().unwrap(), move |post| {
        sql::poll(Arc::clone(&config), rows.clone(), post)
    });
    Source {
        running,
        connectors,
        stop,
    }
}

impl Source {
    pub fn live(&self) -> Option<SourceLive> {
        self.running.door.board().get(NAME)
    }

    pub async fn until(&self, what: &str, is_so: impl Fn(&SourceLive) -> bool) {
        let waited = tokio::time::timeout(DEADLINE, async {
            while !self.live().is_some_and(|live| is_so(&live)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}: {:?}", self.live());
    }

    /// Until a round that began after now has ended well.
    pub async fn until_read(&self) {
        for _ in 0..2 {
            self.until("it reads", |live| live.state == SourceState::Working)
                .await;
            self.until("it has read", |live| live.state == SourceState::Waiting)
                .await;
        }
    }

    pub async fn until_fault(&self, code: &str) -> Trouble {
        self.until(code, |live| {
            live.fault.as_ref().is_some_and(|fault| fault.code == code)
        })
        .await;
        self.live().unwrap().fault.unwrap()
    }

    pub async fn stop(mut self) {
        self.stop.send(true).unwrap();
        self.connectors.ended().await;
        drop(self.connectors);
        self.running.stop().await;
    }
}

/// Entries by their subject, each with its operations and data in order.
pub fn by_subject(entries: &[Value]) -> BTreeMap<String, Vec<(String, Value)>> {
    let mut subjects: BTreeMap<String, Vec<(u64, String, Value)>> = BTreeMap::new();
    for entry in entries {
        let op = entry["op"].as_str().unwrap_or("upsert").to_owned();
        let subject = entry["subject"].as_str().unwrap().to_owned();
        let capture = entry["capture"].as_u64().unwrap();
        subjects
            .entry(subject)
            .or_default()
            .push((capture, op, entry["data"].clone()));
    }
    let sorted = subjects.into_iter().map(|(subject, mut entries)| {
        entries.sort_by_key(|(capture, ..)| *capture);
        let entries = entries.into_iter().map(|(_, op, data)| (op, data));
        (subject, entries.collect())
    });
    sorted.collect()
}
