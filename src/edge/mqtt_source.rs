//! Kind `mqtt`: the box listens to a local broker, and acknowledges a message only after the commit.
//!
//! The broker keeps a session for the box, and in it everything that comes while the box is away or
//! cannot keep records. What was committed but not acknowledged when a link broke comes again; the
//! cursor, which moves with the rows, remembers what was committed last.
//!
//! A message that can never be rows is parked with its bytes and its reason, and acknowledged: it
//! would hold up all others behind it.

pub mod message;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use serde::{Deserialize, Serialize};

use crate::catalogue::Dataset;
use crate::edge::config::mqtt::MqttConfig;
use crate::edge::connectors::{Fault, Post};
use crate::edge::door::short_digest;
use crate::edge::rows::{Batch, Row, Rows};
use crate::edge::trust::no_authority;
use crate::engine::sending::Level;
use crate::model::BoxId;
use crate::model::record::Op;
use crate::shell::clock::Clock;
use crate::shell::down::DownReason;
use crate::shell::mqtt_in::{Inbox, Message, Subscription};
use crate::shell::tls;
use message::Poison;

/// Messages and rows of one commit.
const BATCH_MESSAGES: usize = 64;
const BATCH_ROWS: usize = 1_000;

/// What is remembered with the rows.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Cursor {
    /// The newest committed messages, which the broker may send again: number and digest.
    recent: VecDeque<(u16, String)>,
    /// What the broker was last asked for.
    filters: Vec<String>,
}

/// Recognises what was committed and comes again because the broker never got our word for it. In a
/// resumed session it comes under the number that it had (MQTT 5, 4.4), so number and content
/// together tell it from a later message of the same content.
#[derive(Debug)]
pub struct Recent {
    committed: VecDeque<(u16, String)>,
    /// Of an earlier connection, and not heard of in this one.
    known: BTreeMap<u16, String>,
    room: usize,
}

impl Recent {
    /// `committed` of a session that the broker still has, else nothing.
    pub fn new(committed: VecDeque<(u16, String)>, room: usize) -> Recent {
        Recent {
            known: committed.iter().cloned().collect(),
            committed,
            room,
        }
    }

    /// Whether a message that comes now was committed before.
    pub fn is_committed(&mut self, number: u16, digest: &str) -> bool {
        let before = self.known.remove(&number);
        before.is_some_and(|before| before == digest)
    }

    /// Remembers a message that is about to be committed.
    pub fn push(&mut self, number: u16, digest: String) {
        self.committed.retain(|(known, _)| *known != number);
        self.committed.push_back((number, digest));
        if self.room < self.committed.len() {
            self.committed.pop_front();
        }
    }
}

/// Listens until it is told to stop; a fault is why it cannot.
pub async fn listen(
    config: MqttConfig,
    box_id: BoxId,
    rows: Rows,
    post: Post,
) -> Result<(), Fault> {
    let cursor = rows.cursor().await?;
    let cursor: Option<Cursor> = cursor.and_then(|text| serde_json::from_str(&text).ok());
    let own = || format!("lienthong-{box_id}-{}", post.source());
    let client_id = config.client_id.clone().unwrap_or_else(own);
    let before = cursor.as_ref().map_or(&[][..], |cursor| &cursor.filters);
    let subscription = subscription(&config, client_id, post.clock(), before).await?;
    let mut inbox = Inbox::open(&subscription)
        .await
        .map_err(|reason| no_link(&config, reason))?;
    if cursor.is_some() && !inbox.was_known {
        let text = format!(
            "{}: broker không còn giữ phiên của trạm; thông điệp đến trong lúc trạm vắng mặt có thể đã mất",
            post.source()
        );
        rows.door()
            .intake()
            .note(Level::Warning, "mqtt_session_lost", text)
            .await;
    }
    // Twice the window: the broker may begin a new one before it has our word for the last.
    let room = usize::from(config.in_flight) * 2;
    let recent = cursor
        .filter(|_| inbox.was_known)
        .unwrap_or_default()
        .recent;
    let recent = Recent::new(recent, room);
    let mut listener = Listener {
        recent,
        config,
        rows,
        post: post.clone(),
    };
    post.waiting().await;
    let ended = listener.run(&mut inbox).await;
    inbox.close().await;
    ended
}

/// Rows of the messages that come within `patience`, in a session of its own that the broker forgets;
/// nothing is acknowledged.
pub async fn sample(
    config: &MqttConfig,
    dataset: &Dataset,
    clock: &Clock,
    rows_max: usize,
    patience: Duration,
) -> Result<Vec<Row>, Fault> {
    let mut number = [0; 8];
    getrandom::fill(&mut number).expect("the operating system has random numbers");
    let client_id = format!("lienthong-try-{}", u64::from_be_bytes(number));
    let mut subscription = subscription(config, client_id, clock, &[]).await?;
    subscription.session_s = 0;
    let mut inbox = Inbox::open(&subscription)
        .await
        .map_err(|reason| no_link(config, reason))?;
    let mut found = Vec::new();
    let listening = async {
        while found.len() < rows_max.min(usize::from(config.in_flight)) {
            let message = inbox
                .next()
                .await
                .map_err(|reason| no_link(config, reason))?;
            let content_type = message.content_type.as_deref();
            match message::rows(
                config,
                dataset,
                &message.topic,
                content_type,
                &message.payload,
            ) {
                Ok(rows) => found.extend(rows),
                Err(poison) => found.push(poisoned(&message, poison)),
            }
        }
        Ok(())
    };
    // Silence is no fault: it says that nothing comes.
    let listened = tokio::time::timeout(patience, listening).await;
    listened.unwrap_or(Ok(()))?;
    inbox.close().await;
    found.truncate(rows_max);
    Ok(found)
}

struct Listener {
    config: MqttConfig,
    rows: Rows,
    post: Post,
    recent: Recent,
}

impl Listener {
    async fn run(&mut self, inbox: &mut Inbox) -> Result<(), Fault> {
        loop {
            let first = tokio::select! {
                () = self.post.stopped() => return Ok(()),
                first = inbox.next() => first,
            };
            let mut messages = vec![first.map_err(|reason| no_link(&self.config, reason))?];
            let mut broken = None;
            while messages.len() < BATCH_MESSAGES {
                match inbox.next_ready() {
                    Some(Ok(message)) => messages.push(message),
                    Some(Err(reason)) => {
                        broken = Some(reason);
                        break;
                    }
                    None => break,
                }
            }
            self.take(inbox, &messages).await?;
            match broken {
                Some(reason) => return Err(no_link(&self.config, reason)),
                None => self.post.waiting().await,
            }
        }
    }

    /// Commits messages in their order, and acknowledges each behind its commit.
    async fn take(&mut self, inbox: &Inbox, messages: &[Message]) -> Result<(), Fault> {
        self.post.working();
        let mut batch = Batch::default();
        let mut begun = 0;
        for (place, message) in messages.iter().enumerate() {
            self.add(&mut batch, message).await?;
            if BATCH_ROWS <= batch.rows.len() || place + 1 == messages.len() {
                self.commit(std::mem::take(&mut batch)).await?;
                for message in &messages[begun..=place] {
                    let acknowledged = inbox.acknowledge(message);
                    acknowledged.map_err(|reason| no_link(&self.config, reason))?;
                }
                begun = place + 1;
            }
        }
        Ok(())
    }

    async fn add(&mut self, batch: &mut Batch, message: &Message) -> Result<(), Fault> {
        if message.number.is_none() {
            self.post.warn(Some(&comes_unsafe())).await;
        }
        let digest = digest(message);
        if let Some(number) = message.number
            && self.recent.is_committed(number, &digest)
        {
            return Ok(());
        }
        let dataset = self.rows.door().dataset(self.rows.dataset());
        let dataset = dataset.expect("the configuration names datasets of the catalogue");
        let content_type = message.content_type.as_deref();
        match message::rows(
            &self.config,
            &dataset,
            &message.topic,
            content_type,
            &message.payload,
        ) {
            Ok(rows) => batch.rows.extend(rows),
            Err(poison) => batch.rows.push(poisoned(message, poison)),
        }
        if let Some(number) = message.number {
            self.recent.push(number, digest);
        }
        Ok(())
    }

    async fn commit(&self, mut batch: Batch) -> Result<(), Fault> {
        if batch.rows.is_empty() {
            return Ok(());
        }
        let cursor = Cursor {
            recent: self.recent.committed.clone(),
            filters: self.config.topics.clone(),
        };
        batch.cursor = Some(serde_json::to_string(&cursor).expect("texts are JSON"));
        self.rows.hand_in(batch).await?;
        Ok(())
    }
}

/// A message that is no row, as a row that is parked with the message's bytes.
fn poisoned(message: &Message, poison: Poison) -> Row {
    let content = match std::str::from_utf8(&message.payload) {
        Ok(text) => serde_json::json!({"topic": message.topic, "payload": text}),
        Err(_) => {
            let text = base64::engine::general_purpose::STANDARD.encode(&message.payload);
            serde_json::json!({"topic": message.topic, "payload_base64": text})
        }
    };
    let data = serde_json::value::to_raw_value(&content).expect("texts are JSON");
    Row {
        flaw: Some(poison),
        ..Row::new(data, Op::Upsert)
    }
}

async fn subscription(
    config: &MqttConfig,
    client_id: String,
    clock: &Clock,
    before: &[String],
) -> Result<Subscription, Fault> {
    let tls = match config.authority.clone() {
        None => None,
        Some(file) => {
            let clock = clock.clone();
            let loaded = tokio::task::spawn_blocking(move || tls::trusting(&file, &clock)).await;
            Some(
                loaded
                    .expect("reading does not panic")
                    .map_err(no_authority)?,
            )
        }
    };
    let login = match (&config.user, &config.password) {
        (Some(user), Some(file)) => Some((user.clone(), read_password(file)?)),
        (Some(user), None) => Some((user.clone(), String::new())),
        (None, _) => None,
    };
    let dropped = before
        .iter()
        .filter(|filter| !config.topics.contains(filter));
    Ok(Subscription {
        client_id,
        address: config.broker.clone(),
        tls,
        login,
        filters: config.topics.clone(),
        dropped: dropped.cloned().collect(),
        session_s: u32::try_from(config.session_ms / 1_000).unwrap_or(u32::MAX),
        in_flight: config.in_flight,
        max_packet_bytes: u32::try_from(config.message_bytes_max).unwrap_or(u32::MAX),
    })
}

/// The first line of a file that holds a secret.
pub fn read_password(file: &std::path::Path) -> Result<String, Fault> {
    match crate::shell::systemd::read_secret(file) {
        Ok(secret) => Ok(secret),
        Err(error) => {
            let name = file.display();
            Err(Fault::new(
                "password_file",
                [
                    format!("không đọc được tệp mật khẩu {name}: {error}"),
                    format!("the password file {name} cannot be read: {error}"),
                ],
                [
                    "Tạo tệp với một dòng mật khẩu, hoặc dùng LoadCredential= của systemd.",
                    "Make the file with the password in one line, or use systemd's LoadCredential=.",
                ],
            ))
        }
    }
}

fn digest(message: &Message) -> String {
    let topic = short_digest(&[&message.topic]);
    let payload = crate::evidence::sha256(&message.payload);
    let bytes = topic.iter().take(4).chain(payload.iter().take(12));
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

const NO_TLS: [&str; 2] = [
    "Broker có thể không mã hóa ở cổng này: bật TLS ở broker hoặc sửa cổng; bỏ ca chỉ khi chấp nhận không mã hóa.",
    "The broker may not encrypt at this port: switch TLS on there or correct the port; leave ca out only if that is acceptable.",
];

fn no_link(config: &MqttConfig, reason: DownReason) -> Fault {
    let (address, code) = (&config.broker, reason.as_code());
    let [hint_vi, hint_en] = match reason {
        DownReason::MqttRefused(0x04 | 0x05 | 0x86 | 0x87) => [
            "Kiểm tra user và password_file của nguồn này, và quyền của tài khoản đó ở broker.",
            "Check this source's user and password_file, and that account's rights at the broker.",
        ],
        DownReason::SubscriptionRefused(_) => [
            "Cho tài khoản này quyền đọc các chủ đề trong topics.",
            "Let this account read the topics in topics.",
        ],
        DownReason::TakenOver => [
            "Có chương trình khác dùng cùng client_id; đặt client_id riêng cho nguồn này.",
            "Another program uses the same client_id; give this source one of its own.",
        ],
        DownReason::TlsUnknownIssuer
        | DownReason::TlsWrongName
        | DownReason::TlsExpired
        | DownReason::TlsNotYetValid
        | DownReason::TlsBadCertificate => [
            "Kiểm tra tệp ca, tên máy chủ và hạn trong chứng thư của broker.",
            "Check the ca file, and the host name and the dates in the broker's certificate.",
        ],
        DownReason::NotTls | DownReason::TlsTimedOut | DownReason::TlsFailed => NO_TLS,
        // A broker that was not asked for TLS hangs up on it.
        DownReason::ClosedByPeer if config.authority.is_some() => NO_TLS,
        _ => [
            "Kiểm tra broker có chạy không, địa chỉ broker và mạng nội bộ; trạm tự nối lại.",
            "Check that the broker runs, its address and the local network; the box connects again by itself.",
        ],
    };
    let number = reason
        .reason_code()
        .map_or(String::new(), |number| format!(" {number:#04x}"));
    Fault::new(
        "mqtt_link",
        [
            format!(
                "không nghe được broker MQTT {address} ({code}{number}); broker giữ thông điệp trong lúc chờ"
            ),
            format!(
                "no session with the MQTT broker {address} ({code}{number}); the broker keeps the messages meanwhile"
            ),
        ],
        [hint_vi, hint_en],
    )
}

fn comes_unsafe() -> Fault {
    Fault::new(
        "mqtt_qos0",
        [
            "có thông điệp gửi với QoS 0: khi trạm vắng mặt broker không giữ lại, dữ liệu đó sẽ mất",
            "messages come with QoS 0: the broker does not keep them while the box is away, and they are lost",
        ],
        [
            "Cấu hình thiết bị hoặc phần mềm gửi với QoS 1.",
            "Set the device or program to publish with QoS 1.",
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(words: &str, room: usize) -> Recent {
        let committed = (1..).zip(words.chars().map(String::from));
        Recent::new(committed.collect(), room)
    }

    #[test]
    fn what_was_committed_is_recognised_by_its_number_and_content() {
        let mut some = recent("aba", 8);
        assert!(some.is_committed(1, "a") && some.is_committed(3, "a"));
        assert!(!some.is_committed(3, "a"), "a number comes again only once");
        // Another message took the number: the old one was acknowledged.
        assert!(!some.is_committed(2, "a") && !some.is_committed(2, "b"));
        assert!(
            !some.is_committed(4, "a"),
            "the same content under a new number is news"
        );
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_the_newest() {
        let mut recent = recent("abc", 3);
        recent.push(4, "d".to_owned());
        recent.push(2, "e".to_owned());
        let left: Vec<&str> = recent
            .committed
            .iter()
            .map(|(_, digest)| digest.as_str())
            .collect();
        assert_eq!(left, ["c", "d", "e"]);
    }
}
