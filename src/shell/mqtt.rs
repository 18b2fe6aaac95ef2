//! One MQTT 5 session on a stream that stands. With [`crate::shell::mqtt_in`] the only file that knows
//! the library.
//!
//! The library is trusted with nothing. It gets a connected stream once and is thrown away after
//! any error, so its reconnecting, its replay queue and its session store never run. What it is
//! told, and why:
//!
//! - clean start, no session expiry: what is to be resent is read from the store again;
//! - a small upper limit in flight: it allocates by that limit, and takes the lower of it and the
//!   broker's receive maximum;
//! - small read batches: a batch of messages lies in memory before we see the first;
//! - no packet above a limit is queued: the encoder's fault would end the session and the same
//!   packet would be sent again;
//! - `poll` is never cancelled while the session is to live: a write that is cut short is lost;
//! - it takes a late answer to a ping for a dead line, and it does not read while it writes; on a
//!   slow line the answer stands behind a window of messages, so whether the far end lives is
//!   judged by the stream (`dial::Life`) and the library is told that its ping was answered.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::mqttbytes::Error as PacketError;
use rumqttc::mqttbytes::v5::LastWill;
use rumqttc::{
    AsyncClient, Broker, ClientError, ConnAck, ConnAckProperties, ConnectReturnCode,
    ConnectionError, DisconnectProperties, DisconnectReasonCode, Event, EventLoop, MqttOptions,
    Packet, PubAckReason, Publish, PublishOptions, QoS, StateError, SubscribeFilterInput,
    SubscribeReasonCode,
};
use tokio::time::timeout;

use crate::shell::dial::{Life, Line};
use crate::shell::down::DownReason;

/// For CONNACK, and again for SUBACK.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Most messages that the library reads at once, and writes between two flushes.
const BATCH_MAX: u16 = 16;
const SHARED_PREFIX: &str = "$share/";
/// MQTT 5 reason codes of refusals that we find ourselves in the broker's terms.
const QOS_NOT_SUPPORTED: u8 = 0x9b;
const SHARED_NOT_SUPPORTED: u8 = 0x9e;

/// What we say at the door of a broker.
#[derive(Debug, Clone)]
pub struct Greeting {
    pub client_id: String,
    pub keep_alive: Duration,
    pub presence: Option<Presence>,
    pub subscriptions: Vec<String>,
    /// Largest packet that we take and send.
    pub max_packet_bytes: u32,
    /// Most unacknowledged messages, each way.
    pub in_flight: u16,
}

/// A retained message that says whether we are there; the broker publishes `offline` when the
/// connection breaks, and when we leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    pub topic: String,
    pub online: Bytes,
    pub offline: Bytes,
}

/// What holds for this session: the lower of our limits and the broker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    pub max_packet_bytes: u32,
    pub receive_maximum: u16,
    pub keep_alive: Duration,
}

/// What a session hears.
#[derive(Debug)]
pub enum Heard {
    Message(Message),
    /// A message of ours left the queue, or was acknowledged.
    Progress,
    /// The broker took a message of ours and threw it away, with this MQTT 5 reason code.
    PublishRefused(u8),
}

#[derive(Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Bytes,
}

/// Why a message was not queued; it is still the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotQueued {
    #[error("the queue is full")]
    Full,
    #[error("there is no link")]
    NoLink,
    #[error("the packet has {bytes} bytes, more than the limit of {limit_bytes}")]
    TooLarge { bytes: usize, limit_bytes: u32 },
    #[error("not a topic to publish on")]
    BadTopic,
}

/// A connected session.
pub struct Session {
    pub terms: Terms,
    pub life: Life,
    client: AsyncClient,
    event_loop: EventLoop,
    /// Messages that came before the subscriptions were confirmed.
    early: VecDeque<Message>,
    says_goodbye: bool,
}

impl Session {
    /// CONNECT, presence, SUBSCRIBE, and the broker's yes to all of them.
    pub async fn open(line: Line, greeting: &Greeting) -> Result<Session, DownReason> {
        let Line { stream, life } = line;
        let mut options = options(greeting);
        let stream = Mutex::new(Some(stream));
        options.set_socket_connector(move |_, _| {
            let stream = stream.lock().expect("no holder panics").take();
            async move { stream.ok_or_else(|| io::Error::other("a session has one stream")) }
        });
        let (client, mut event_loop) = AsyncClient::builder(options).build();

        let connack = timeout(ANSWER_TIMEOUT, wait_for_connack(&mut event_loop))
            .await
            .map_err(|_| DownReason::MqttTimedOut)??;
        let terms = terms(greeting, connack.properties.as_ref())?;
        // A broker may ask for rarer pings; ours are also how a dead line is found.
        event_loop
            .options
            .set_keep_alive(keep_alive_seconds(terms.keep_alive));
        let says_goodbye = greeting.presence.is_some();
        let mut session = Session {
            terms,
            life,
            client,
            event_loop,
            early: VecDeque::new(),
            says_goodbye,
        };
        session.introduce(greeting).await?;
        Ok(session)
    }

    async fn introduce(&mut self, greeting: &Greeting) -> Result<(), DownReason> {
        if let Some(presence) = &greeting.presence {
            let options = PublishOptions::at_least_once().retained();
            self.client
                .try_publish(presence.topic.as_str(), presence.online.clone(), options)
                .map_err(|_| DownReason::NotMqtt)?;
        }
        if greeting.subscriptions.is_empty() {
            return Ok(());
        }
        let filters = greeting
            .subscriptions
            .iter()
            .map(|filter| SubscribeFilterInput::new(filter.as_str(), QoS::AtLeastOnce));
        self.client
            .try_subscribe_many(filters)
            .map_err(|_| DownReason::SubscriptionRefused(0x8f))?;
        timeout(ANSWER_TIMEOUT, self.wait_for_suback())
            .await
            .map_err(|_| DownReason::MqttTimedOut)?
    }

    async fn wait_for_suback(&mut self) -> Result<(), DownReason> {
        loop {
            match self.poll().await? {
                Event::Incoming(Packet::SubAck(answer)) => {
                    return match answer
                        .return_codes
                        .into_iter()
                        .find_map(refusal_of_subscription)
                    {
                        Some(code) => Err(DownReason::SubscriptionRefused(code)),
                        None => Ok(()),
                    };
                }
                Event::Incoming(Packet::Publish(publish)) => self.early.extend(message(publish)),
                _ => {}
            }
        }
    }

    /// Where messages are queued for this session, from any thread.
    pub fn publisher(&self) -> Publisher {
        Publisher {
            client: self.client.clone(),
            max_packet_bytes: self.terms.max_packet_bytes,
        }
    }

    /// What comes next. Dropping the future unfinished is the end of the session.
    pub async fn next(&mut self) -> Result<Heard, DownReason> {
        if let Some(message) = self.early.pop_front() {
            return Ok(Heard::Message(message));
        }
        loop {
            match self.poll().await? {
                Event::Incoming(Packet::Publish(publish)) => {
                    if let Some(message) = message(publish) {
                        return Ok(Heard::Message(message));
                    }
                }
                Event::Incoming(Packet::PubAck(answer)) => {
                    return Ok(match answer.reason {
                        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => {
                            Heard::Progress
                        }
                        refusal => Heard::PublishRefused(refusal as u8),
                    });
                }
                Event::Outgoing(rumqttc::Outgoing::Publish(_)) => return Ok(Heard::Progress),
                _ => {}
            }
        }
    }

    async fn poll(&mut self) -> Result<Event, DownReason> {
        let event = self
            .event_loop
            .poll()
            .await
            .map_err(|error| of_connection(&error))?;
        if matches!(event, Event::Incoming(_)) && self.event_loop.state.await_pingresp() {
            // Whatever is heard proves as much as the answer that is still under way.
            let answer = self
                .event_loop
                .state
                .handle_incoming_packet(Packet::PingResp);
            answer.map_err(|error| of_state(&error))?;
        }
        Ok(event)
    }

    /// Leaves at once, and lets the broker publish that we are away.
    pub async fn close(mut self) {
        let reason = match self.says_goodbye {
            true => DisconnectReasonCode::DisconnectWithWillMessage,
            false => DisconnectReasonCode::NormalDisconnection,
        };
        let properties = DisconnectProperties {
            session_expiry_interval: None,
            reason_string: None,
            user_properties: Vec::new(),
            server_reference: None,
        };
        if self
            .client
            .try_disconnect_now_with_properties(reason, properties)
            .is_ok()
        {
            let goodbye = async { while self.event_loop.poll().await.is_ok() {} };
            // A line that hangs gets no goodbye; the broker finds out by itself.
            let _ = timeout(GOODBYE_TIMEOUT, goodbye).await;
        }
    }
}

/// Queues messages for one session.
pub struct Publisher {
    client: AsyncClient,
    max_packet_bytes: u32,
}

impl Publisher {
    /// Never waits. The broker keeps a `retained` message for whoever subscribes later.
    pub fn try_publish(
        &self,
        topic: &str,
        payload: Bytes,
        retained: bool,
    ) -> Result<(), NotQueued> {
        let bytes = packet_bytes(topic, payload.len());
        if bytes > self.max_packet_bytes as usize {
            return Err(NotQueued::TooLarge {
                bytes,
                limit_bytes: self.max_packet_bytes,
            });
        }
        let options = match retained {
            true => PublishOptions::at_least_once().retained(),
            false => PublishOptions::at_least_once(),
        };
        match self.client.try_publish(topic, payload, options) {
            Ok(()) => Ok(()),
            Err(ClientError::RequestChannelFull(_)) => Err(NotQueued::Full),
            Err(ClientError::InvalidRequest(_)) => Err(NotQueued::BadTopic),
            Err(_) => Err(NotQueued::NoLink),
        }
    }
}

/// Size of a QoS 1 PUBLISH packet without properties.
pub fn packet_bytes(topic: &str, payload_bytes: usize) -> usize {
    // Topic length, topic, packet id, length of no properties.
    let rest = 2 + topic.len() + 2 + 1 + payload_bytes;
    let length_bytes = match rest {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    };
    1 + length_bytes + rest
}

fn options(greeting: &Greeting) -> MqttOptions {
    // The address is never used: the stream is handed over by the connector.
    let batch = usize::from((greeting.in_flight / 2).clamp(1, BATCH_MAX));
    let mut options = MqttOptions::new(greeting.client_id.as_str(), Broker::tcp("hub", 1));
    options
        .set_clean_start(true)
        .set_keep_alive(keep_alive_seconds(greeting.keep_alive))
        .set_session_expiry_interval(Some(0))
        .set_receive_maximum(Some(greeting.in_flight))
        .set_max_packet_size(Some(greeting.max_packet_bytes))
        .set_outgoing_inflight_upper_limit(greeting.in_flight)
        .set_request_channel_capacity(usize::from(greeting.in_flight).max(2))
        .set_max_request_batch(batch)
        .set_read_batch_size(batch)
        .set_connect_timeout(ANSWER_TIMEOUT);
    if let Some(presence) = &greeting.presence {
        let offline = presence.offline.to_vec();
        options.set_last_will(LastWill::new(
            presence.topic.as_str(),
            offline,
            QoS::AtLeastOnce,
            true,
            None,
        ));
    }
    options
}

fn keep_alive_seconds(keep_alive: Duration) -> u16 {
    u16::try_from(keep_alive.as_secs().max(1)).unwrap_or(u16::MAX)
}

pub(in crate::shell) async fn wait_for_connack(
    event_loop: &mut EventLoop,
) -> Result<ConnAck, DownReason> {
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => return Ok(connack),
            Ok(_) => {}
            Err(error) => return Err(of_connection(&error)),
        }
    }
}

fn terms(greeting: &Greeting, broker: Option<&ConnAckProperties>) -> Result<Terms, DownReason> {
    let ours = Terms {
        max_packet_bytes: greeting.max_packet_bytes,
        receive_maximum: greeting.in_flight,
        keep_alive: greeting.keep_alive,
    };
    let Some(broker) = broker else {
        return Ok(ours);
    };
    if broker.max_qos == Some(0) {
        return Err(DownReason::MqttRefused(QOS_NOT_SUPPORTED));
    }
    let wants_shared = greeting
        .subscriptions
        .iter()
        .any(|filter| filter.starts_with(SHARED_PREFIX));
    if wants_shared && broker.shared_subscription_available == Some(0) {
        return Err(DownReason::SubscriptionRefused(SHARED_NOT_SUPPORTED));
    }
    let keep_alive = match broker.server_keep_alive {
        None => ours.keep_alive,
        // The library takes this for good as a ban on pings; only the rows' progress is left then.
        Some(0) => Duration::from_secs(u64::from(u16::MAX)),
        Some(seconds) => ours.keep_alive.min(Duration::from_secs(u64::from(seconds))),
    };
    Ok(Terms {
        max_packet_bytes: broker
            .max_packet_size
            .map_or(ours.max_packet_bytes, |theirs| {
                theirs.min(ours.max_packet_bytes)
            }),
        receive_maximum: broker.receive_max.map_or(ours.receive_maximum, |theirs| {
            theirs.min(ours.receive_maximum)
        }),
        keep_alive,
    })
}

fn message(publish: Publish) -> Option<Message> {
    let topic = std::str::from_utf8(&publish.topic).ok()?.to_owned();
    Some(Message {
        topic,
        payload: publish.payload,
    })
}

pub(in crate::shell) fn of_connection(error: &ConnectionError) -> DownReason {
    match error {
        ConnectionError::Timeout(_) => DownReason::MqttTimedOut,
        ConnectionError::Io(error) => DownReason::of_stream(error),
        ConnectionError::ConnectionRefused(code) => DownReason::MqttRefused(code_of_refusal(*code)),
        ConnectionError::MqttState(error) => of_state(error),
        _ => DownReason::NotMqtt,
    }
}

fn of_state(error: &StateError) -> DownReason {
    match error {
        StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        } => DownReason::TakenOver,
        StateError::ServerDisconnect { reason_code, .. } => {
            DownReason::BrokerLeft(*reason_code as u8)
        }
        StateError::AwaitPingResp => DownReason::Silent,
        StateError::ConnectionAborted => DownReason::ClosedByPeer,
        StateError::Io(error) | StateError::Deserialization(PacketError::Io(error)) => {
            DownReason::of_stream(error)
        }
        _ => DownReason::NotMqtt,
    }
}

/// MQTT 5, 3.2.2.2; the library keeps its own table to itself.
fn code_of_refusal(code: ConnectReturnCode) -> u8 {
    match code {
        ConnectReturnCode::Success => 0x00,
        ConnectReturnCode::RefusedProtocolVersion => 0x01,
        ConnectReturnCode::BadClientId => 0x02,
        ConnectReturnCode::ServiceUnavailable => 0x03,
        ConnectReturnCode::UnspecifiedError => 0x80,
        ConnectReturnCode::MalformedPacket => 0x81,
        ConnectReturnCode::ProtocolError => 0x82,
        ConnectReturnCode::ImplementationSpecificError => 0x83,
        ConnectReturnCode::UnsupportedProtocolVersion => 0x84,
        ConnectReturnCode::ClientIdentifierNotValid => 0x85,
        ConnectReturnCode::BadUserNamePassword => 0x86,
        ConnectReturnCode::NotAuthorized => 0x87,
        ConnectReturnCode::ServerUnavailable => 0x88,
        ConnectReturnCode::ServerBusy => 0x89,
        ConnectReturnCode::Banned => 0x8a,
        ConnectReturnCode::BadAuthenticationMethod => 0x8c,
        ConnectReturnCode::TopicNameInvalid => 0x90,
        ConnectReturnCode::PacketTooLarge => 0x95,
        ConnectReturnCode::QuotaExceeded => 0x97,
        ConnectReturnCode::PayloadFormatInvalid => 0x99,
        ConnectReturnCode::RetainNotSupported => 0x9a,
        ConnectReturnCode::QoSNotSupported => 0x9b,
        ConnectReturnCode::UseAnotherServer => 0x9c,
        ConnectReturnCode::ServerMoved => 0x9d,
        ConnectReturnCode::ConnectionRateExceeded => 0x9f,
    }
}

/// MQTT 5, 3.9.3; `None` when the subscription stands.
pub(in crate::shell) fn refusal_of_subscription(code: SubscribeReasonCode) -> Option<u8> {
    match code {
        SubscribeReasonCode::Success(_) => None,
        SubscribeReasonCode::Failure | SubscribeReasonCode::Unspecified => Some(0x80),
        SubscribeReasonCode::ImplementationSpecific => Some(0x83),
        SubscribeReasonCode::NotAuthorized => Some(0x87),
        SubscribeReasonCode::TopicFilterInvalid => Some(0x8f),
        SubscribeReasonCode::PkidInUse => Some(0x91),
        SubscribeReasonCode::QuotaExceeded => Some(0x97),
        SubscribeReasonCode::SharedSubscriptionsNotSupported => Some(0x9e),
        SubscribeReasonCode::SubscriptionIdNotSupported => Some(0xa1),
        SubscribeReasonCode::WildcardSubscriptionsNotSupported => Some(0xa2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_sizes_are_the_librarys() {
        for payload_bytes in [
            0, 1, 100, 118, 119, 16_000, 16_375, 16_376, 131_072, 2_097_200,
        ] {
            let mut publish =
                Publish::new("lt/1/a/up", QoS::AtLeastOnce, vec![0; payload_bytes], None);
            publish.pkid = 1;
            assert_eq!(
                packet_bytes("lt/1/a/up", payload_bytes),
                publish.size(),
                "{payload_bytes}"
            );
        }
    }
}
