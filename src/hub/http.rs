//! The hub's page for machines, on its own machine only:
//!
//! | Path | Answer |
//! |---|---|
//! | `/status.json` | the fleet, as `trucd status --json`, and what this process did |
//! | `/healthz` | 200 while the engine makes progress, else 503 and why |
//! | `/metrics` | Prometheus text |

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::hub::config::Config;
use crate::hub::counters::Counters;
use crate::hub::output::outlook;
use crate::hub::registry;
use crate::hub::status::{self, Status};
use crate::model::UnixMs;
use crate::shell::clock::Clock;

/// What the handlers look at.
#[derive(Clone)]
pub struct Shared {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub counters: Arc<Counters>,
}

/// Serves until `ended` says so.
pub async fn serve(listener: TcpListener, shared: Shared, mut ended: watch::Receiver<bool>) {
    let router = Router::new()
        .route("/status.json", get(status_json))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(shared);
    let stop = async move {
        // A sender that is gone means the end too.
        let _ = ended.wait_for(|ended| *ended).await;
    };
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
    {
        tracing::error!(%error, "the HTTP server ended");
    }
}

/// The fleet as it stands in the store; blocks.
pub fn read_status(config: &Config, now: UnixMs) -> anyhow::Result<Status> {
    let view = registry::open_view(config)?;
    let mut status =
        status::read(&view, config.store.quota_bytes, now).context("cannot read the database")?;
    status.outputs = outlook::read(config, &view, now)?;
    Ok(status)
}

async fn status_json(State(shared): State<Shared>) -> Response {
    let counters = process_json(&shared.counters);
    match fleet(shared).await {
        Ok(status) => {
            let mut value = serde_json::to_value(status).expect("a status is plain data");
            value["process"] = counters;
            axum::Json(value).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

async fn healthz(State(shared): State<Shared>) -> Response {
    match shared.counters.ailment(shared.clock.mono_ms()) {
        None => "ok\n".into_response(),
        Some(ailment) => (StatusCode::SERVICE_UNAVAILABLE, format!("{ailment}\n")).into_response(),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let mut text = process_metrics(&shared.counters);
    match fleet(shared).await {
        Ok(status) => {
            text.push_str(&fleet_metrics(&status));
            text.push_str(&outlook::metrics(&status.outputs));
        }
        Err(error) => return unavailable(&error),
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn fleet(shared: Shared) -> anyhow::Result<Status> {
    let now = shared.clock.now().wall;
    tokio::task::spawn_blocking(move || read_status(&shared.config, now))
        .await
        .context("the reader ended")?
}

fn unavailable(error: &anyhow::Error) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")).into_response()
}

fn process_json(counters: &Counters) -> serde_json::Value {
    json!({
        "messages": counters.messages.load(Relaxed),
        "commits": counters.commits.load(Relaxed),
        "records": counters.records.load(Relaxed),
        "refused": counters.refused.load(Relaxed),
        "receipts": counters.receipts.load(Relaxed),
        "receipts_dropped": counters.receipts_dropped.load(Relaxed),
        "offers": counters.offers.load(Relaxed),
        "refused_by_boxes": counters.refused_by_boxes.load(Relaxed),
        "set_aside": counters.set_aside.load(Relaxed),
        "store_failures": counters.store_failures.load(Relaxed),
        "link_up": counters.link_up.load(Relaxed),
        "store_works": counters.store_works.load(Relaxed),
    })
}

fn process_metrics(counters: &Counters) -> String {
    let mut text = String::new();
    let totals = [
        (
            "messages",
            "Messages taken from the broker",
            &counters.messages,
        ),
        ("commits", "Transactions committed", &counters.commits),
        ("records", "Records committed", &counters.records),
        ("refused", "Batches refused", &counters.refused),
        (
            "receipts",
            "Receipts handed to the broker",
            &counters.receipts,
        ),
        (
            "receipts_dropped",
            "Receipts that found no room",
            &counters.receipts_dropped,
        ),
        ("offers", "Batches sent down to boxes", &counters.offers),
        (
            "refused_by_boxes",
            "Batches that boxes have refused",
            &counters.refused_by_boxes,
        ),
        (
            "set_aside",
            "Messages that the store cannot take",
            &counters.set_aside,
        ),
        (
            "store_failures",
            "Transactions that failed",
            &counters.store_failures,
        ),
    ];
    for (name, help, count) in totals {
        metric(&mut text, &format!("trucd_{name}_total"), "counter", help);
        let _ = writeln!(text, "trucd_{name}_total {}", count.load(Relaxed));
    }
    let states = [
        (
            "link_up",
            "Whether there is a link to the broker",
            &counters.link_up,
        ),
        (
            "store_works",
            "Whether the last transaction went through",
            &counters.store_works,
        ),
    ];
    for (name, help, state) in states {
        metric(&mut text, &format!("trucd_{name}"), "gauge", help);
        let _ = writeln!(text, "trucd_{name} {}", u8::from(state.load(Relaxed)));
    }
    text
}

fn fleet_metrics(status: &Status) -> String {
    let mut text = String::new();
    let mut per_box = |name: &str, help: &str, of: &dyn Fn(&status::BoxStatus) -> Option<i64>| {
        metric(&mut text, &format!("trucd_box_{name}"), "gauge", help);
        for known in &status.boxes {
            if let Some(value) = of(known) {
                let _ = writeln!(text, "trucd_box_{name}{{box=\"{}\"}} {value}", known.box_id);
            }
        }
    };
    per_box(
        "online",
        "Whether the box says that it is there",
        &|known| {
            Some(i64::from(
                known
                    .presence
                    .as_ref()
                    .is_some_and(|presence| presence.online),
            ))
        },
    );
    per_box("entries", "Entries held", &|known| {
        Some(known.entries as i64)
    });
    per_box("lost", "Numbers that the box said it lost", &|known| {
        Some(known.lost as i64)
    });
    per_box("parked", "Entries parked", &|known| {
        Some(known.parked as i64)
    });
    per_box(
        "suspected_clone",
        "Whether two machines seem to use the name",
        &|known| Some(i64::from(known.suspected_clone)),
    );
    per_box("waiting", "Entries that wait in the box", &|known| {
        let waiting = known.presence.as_ref()?.waiting?;
        Some(waiting.iter().sum::<u64>() as i64)
    });
    per_box(
        "certificate_days",
        "Days until the certificate ends",
        &|known| {
            let said = known
                .presence
                .as_ref()
                .and_then(|presence| presence.certificate_days);
            Some(said.unwrap_or(known.certificate_days))
        },
    );
    per_box(
        "waiting_down",
        "Entries that wait to go down to the box",
        &|known| Some(known.down.as_ref()?.waiting as i64),
    );
    per_box(
        "oldest_down_seconds",
        "Age of the oldest of them",
        &|known| Some(known.down.as_ref()?.oldest_s as i64),
    );
    per_box("loading", "Datasets whose copy is being loaded", &|known| {
        Some(known.loads.iter().filter(|load| !load.done).count() as i64)
    });
    per_box(
        "undelivered",
        "Documents of the box that found no office",
        &|known| Some(known.undelivered.iter().map(|one| one.count as i64).sum()),
    );
    per_box(
        "last_seen_timestamp_seconds",
        "When the box was last heard",
        &|known| known.last_seen.map(|seen| seen.0.0 / 1_000),
    );
    metric(
        &mut text,
        "trucd_store_used_bytes",
        "gauge",
        "Bytes of the store in use",
    );
    let _ = writeln!(text, "trucd_store_used_bytes {}", status.store.used_bytes);
    metric(
        &mut text,
        "trucd_store_quota_bytes",
        "gauge",
        "Most bytes of the store",
    );
    let _ = writeln!(text, "trucd_store_quota_bytes {}", status.store.quota_bytes);
    text
}

fn metric(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
