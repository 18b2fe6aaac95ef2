//! The way to the hub, step by step, and back with a signed receipt.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::edge::blobs::Blobs;
use crate::edge::check::{Both, Check, Outcome, both};
use crate::edge::config::Config;
use crate::edge::identity::Keys;
use crate::edge::lock::StoreLock;
use crate::edge::page::remedy::remedy;
use crate::edge::page::text::time;
use crate::edge::run::engines::open_engine;
use crate::edge::status::{LinkState, Status};
use crate::edge::texts;
use crate::engine::sending::{Effect, Event};
use crate::model::limits::MESSAGE_BYTES_MAX;
use crate::shell::clock::Clock;
use crate::shell::courier::payload_bytes_max;
use crate::shell::dial::{Address, Dialer, Line};
use crate::shell::down::DownReason;
use crate::shell::mqtt::{Greeting, Heard, Session};
use crate::wire;

const RECEIPT_TIMEOUT: Duration = Duration::from_secs(20);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const IN_FLIGHT: u16 = 16;

/// All checks beyond this machine.
pub fn checks(
    config: &Arc<Config>,
    keys: Keys,
    clock: &Clock,
    status: Option<&Status>,
) -> anyhow::Result<Vec<Check>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let checks = runtime.block_on(walk(config, &keys, clock, status));
    runtime.shutdown_background();
    Ok(checks)
}

/// The way to the hub by each of its addresses, one step after the other.
pub struct Way {
    dialers: Vec<Dialer>,
    /// Of those whose name was found, each with its connection.
    tcp: Vec<(usize, Option<TcpStream>)>,
    /// The first that was secured.
    line: Option<Line>,
}

#[derive(Default)]
struct Found {
    good: Vec<String>,
    bad: Vec<(String, DownReason)>,
}

async fn walk(
    config: &Arc<Config>,
    keys: &Keys,
    clock: &Clock,
    status: Option<&Status>,
) -> Vec<Check> {
    let mut way = Way::new(config, keys, clock);
    let mut checks = vec![way.look_up().await, way.connect().await, way.secure().await];
    match (status, way.line) {
        (Some(status), _) => checks.extend(of_daemon(status)),
        (None, Some(line)) => checks.extend(round_trip(config, keys, clock, line).await),
        (None, None) => {}
    }
    checks
}

impl Way {
    pub fn new(config: &Config, keys: &Keys, clock: &Clock) -> Way {
        let dialer = |address: &Address| {
            let tls = Arc::clone(&keys.identity.config);
            Dialer::new(address.clone(), tls, clock.clone())
        };
        Way {
            dialers: config.hub.addresses.iter().map(dialer).collect(),
            tcp: Vec::new(),
            line: None,
        }
    }

    pub async fn look_up(&mut self) -> Check {
        let mut found = Found::default();
        for (place, dialer) in self.dialers.iter_mut().enumerate() {
            let address = dialer.address.to_string();
            if found.add(&address, dialer.resolve().await).is_some() {
                self.tcp.push((place, None));
            }
        }
        found.check("name")
    }

    pub async fn connect(&mut self) -> Check {
        let mut found = Found::default();
        for (place, tcp) in &mut self.tcp {
            let dialer = &mut self.dialers[*place];
            let address = dialer.address.to_string();
            *tcp = found.add(&address, dialer.connect().await);
        }
        found.check("tcp")
    }

    /// Whether one address was reached by all three steps.
    pub fn is_open(&self) -> bool {
        self.line.is_some()
    }

    pub async fn secure(&mut self) -> Check {
        let mut found = Found::default();
        for (place, tcp) in &mut self.tcp {
            if let Some(tcp) = tcp.take() {
                let dialer = &self.dialers[*place];
                let line = found.add(&dialer.address.to_string(), dialer.secure(tcp).await);
                self.line = self.line.take().or(line);
            }
        }
        found.check("tls")
    }
}

impl Found {
    fn add<T>(&mut self, address: &str, result: Result<T, DownReason>) -> Option<T> {
        match result {
            Ok(value) => {
                self.good.push(address.to_owned());
                Some(value)
            }
            Err(reason) => {
                self.bad.push((address.to_owned(), reason));
                None
            }
        }
    }

    /// One address is enough to work; all of them is what was meant.
    fn check(&self, id: &'static str) -> Check {
        let mut vi: Vec<String> = self
            .good
            .iter()
            .map(|address| format!("{address}: thông"))
            .collect();
        let mut en: Vec<String> = self
            .good
            .iter()
            .map(|address| format!("{address}: fine"))
            .collect();
        for (address, reason) in &self.bad {
            vi.push(format!("{address}: {reason}"));
            en.push(format!("{address}: {reason}"));
        }
        let detail = both(vi.join("\n"), en.join("\n"));
        let outcome = match (self.good.is_empty(), self.bad.is_empty()) {
            (true, true) => {
                let why = both("bước trước chưa thông", "the step before it failed");
                return Check::skipped(id, why);
            }
            (_, true) => return Check::ok(id, detail),
            (false, false) => Outcome::Warning,
            (true, false) => Outcome::Failed,
        };
        let reason = self.bad[0].1;
        Check::new(id, outcome, detail, hint(reason))
    }
}

/// What the reason means, and then each thing to do on a line of its own.
fn hint(reason: DownReason) -> Both {
    let remedy = remedy(reason);
    let lines = |index: usize| {
        let steps = remedy.steps.iter().map(|step| step[index]);
        let lines: Vec<&str> = std::iter::once(remedy.what[index]).chain(steps).collect();
        lines.join("\n")
    };
    both(lines(0), lines(1))
}

/// The daemon holds the only place at the broker; it is asked.
pub fn of_daemon(status: &Status) -> Vec<Check> {
    let link = &status.link;
    let address = link.address.as_deref().unwrap_or("-");
    if link.state != LinkState::Up {
        let reason = link.reason.as_ref();
        let code = reason.map_or("connecting", |reason| reason.code.as_str());
        let text = reason.map_or(
            "Dịch vụ đang nối; thử lại sau ít giây.",
            |reason| &reason.text_vi,
        );
        let detail = both(
            format!("dịch vụ chưa nối được với {address}: {code}"),
            format!("the daemon has no link to {address}: {code}"),
        );
        let hint = both(text, "Look at the steps before this one.");
        return vec![Check::new("mqtt", Outcome::Failed, detail, hint)];
    }
    let up = both(
        format!("dịch vụ đã nối với {address}"),
        format!("the daemon is connected to {address}"),
    );
    let receipt = match (&status.refused_by_hub, link.last_receipt, link.since) {
        (Some(refused), ..) => Check::new(
            "receipt",
            Outcome::Failed,
            both(
                format!("trục từ chối: {}", refused.code),
                format!("the hub refuses: {}", refused.code),
            ),
            both(
                &*refused.text_vi,
                "Ask the hub's administrator (trucd box list, trucd status).",
            ),
        ),
        (None, Some(receipt), Some(since)) if since <= receipt => {
            let text = time(receipt);
            Check::ok(
                "receipt",
                both(
                    format!("biên nhận lần cuối {text}"),
                    format!("last receipt {text}"),
                ),
            )
        }
        _ => Check::new(
            "receipt",
            Outcome::Failed,
            both(
                "đã nối nhưng trục chưa gửi biên nhận nào",
                "connected, but the hub has not sent a receipt",
            ),
            both(
                "Kiểm tra trucd ở trung tâm có đang chạy và đã đăng ký trạm này.",
                "Check that trucd runs in the data centre and has registered this box.",
            ),
        ),
    };
    vec![Check::ok("mqtt", up), receipt]
}

/// MQTT, and a greeting that the hub answers with a signed receipt.
async fn round_trip(config: &Arc<Config>, keys: &Keys, clock: &Clock, line: Line) -> Vec<Check> {
    let greeting = Greeting {
        client_id: config.box_id.to_string(),
        keep_alive: KEEP_ALIVE,
        presence: None,
        subscriptions: vec![wire::topic_down(&config.box_id)],
        max_packet_bytes: MESSAGE_BYTES_MAX as u32,
        in_flight: IN_FLIGHT,
    };
    let mut session = match Session::open(line, &greeting).await {
        Ok(session) => session,
        Err(reason) => {
            let detail = both(reason.to_string(), reason.to_string());
            return vec![Check::new("mqtt", Outcome::Failed, detail, hint(reason))];
        }
    };
    let mqtt = Check::ok(
        "mqtt",
        both(
            "broker nhận kết nối của trạm",
            "the broker takes the box's connection",
        ),
    );
    let receipt = match timeout(RECEIPT_TIMEOUT, greet(config, keys, clock, &mut session)).await {
        Ok(check) => check,
        Err(_) => no_receipt(
            "không có biên nhận nào trong 20 giây",
            "no receipt within 20 seconds",
        ),
    };
    session.close().await;
    vec![mqtt, receipt]
}

/// Opens the engine under the store's lock, so that the greeting is the real one, signed. What
/// waits in the store may go out with it, as it would with the daemon.
async fn greet(config: &Arc<Config>, keys: &Keys, clock: &Clock, session: &mut Session) -> Check {
    if !config.store.path.exists() {
        let why = both(
            "chưa có kho dữ liệu; chạy dịch vụ rồi kiểm tra lại",
            "there is no store yet; run the daemon and check again",
        );
        return Check::skipped("receipt", why);
    }
    let Ok(lock) = StoreLock::take(&config.store.path) else {
        let why = both(
            "kho dữ liệu đang có chương trình khác dùng",
            "the store is in use",
        );
        return Check::skipped("receipt", why);
    };
    let limit = config.store.blobs_bytes_max;
    let blobs = Arc::new(Blobs::beside(&config.store.path, limit));
    let mut engine = match open_engine(config, keys, &blobs)() {
        Ok(engine) => engine,
        Err(error) => {
            let why = both(
                format!("kho dữ liệu: {error}"),
                format!("the store: {error}"),
            );
            return Check::skipped("receipt", why);
        }
    };
    let topic = wire::topic_up(&config.box_id);
    let message_bytes_max = payload_bytes_max(&topic, session.terms.max_packet_bytes);
    let publisher = session.publisher();
    let mut events = vec![Event::LinkUp { message_bytes_max }];
    loop {
        let effects = match engine.step(clock.now(), std::mem::take(&mut events)) {
            Ok(effects) => effects,
            Err(error) => {
                let why = both(
                    format!("kho dữ liệu: {error}"),
                    format!("the store: {error}"),
                );
                return Check::skipped("receipt", why);
            }
        };
        for effect in effects {
            match effect {
                Effect::Publish(message) => {
                    // What does not fit now is offered again.
                    let _ = publisher.try_publish(&topic, message, false);
                }
                Effect::HubTime(time) => {
                    drop((engine, lock));
                    let detail = both(
                        format!("trục trả lời bằng biên nhận ký số, giờ của trục {time}"),
                        format!("the hub answers with a signed receipt, its time is {time}"),
                    );
                    return Check::ok("receipt", detail);
                }
                Effect::RefusedByHub(code) => {
                    let text = code.as_str();
                    let detail = both(
                        format!("trục từ chối: {text}"),
                        format!("the hub refuses: {text}"),
                    );
                    let hint = both(
                        texts::refusal_vi(code),
                        "Ask the hub's administrator (trucd box list).",
                    );
                    return Check::new("receipt", Outcome::Failed, detail, hint);
                }
                Effect::ForgedReceipt => {
                    return no_receipt(
                        "biên nhận không có chữ ký của khóa trong hub.receipt_keys",
                        "the receipt is not signed by a key of hub.receipt_keys",
                    );
                }
                _ => {}
            }
        }
        match session.next().await {
            Ok(Heard::Message(message)) => events.push(Event::Received(message.payload)),
            Ok(_) => {}
            Err(reason) => {
                let detail = both(reason.to_string(), reason.to_string());
                return Check::new("receipt", Outcome::Failed, detail, hint(reason));
            }
        }
    }
}

fn no_receipt(vi: &str, en: &str) -> Check {
    Check::new(
        "receipt",
        Outcome::Failed,
        both(vi, en),
        both(
            "Kiểm tra trucd ở trung tâm có đang chạy, đã đăng ký trạm này, và hub.pub là khóa của nó.",
            "Check that trucd runs in the data centre, has registered this box, and that hub.pub is its key.",
        ),
    )
}
