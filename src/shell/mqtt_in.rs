//! A persistent MQTT 5 session with a local broker, from which messages are taken one by one: each
//! is acknowledged when its taker says so, and not before.
//!
//! As in [`crate::shell::mqtt`] the library is trusted with nothing: it gets a connected stream once
//! and is thrown away after any error. What is unacknowledged then comes again, because the broker
//! keeps the session. What the library is told, and why:
//!
//! - no clean start and a session that outlives us: the broker keeps what comes while we are away;
//! - a session that only the broker remembers is resumed: what matters of it stands in our store;
//! - manual acknowledgements, and a receive maximum that bounds what lies in memory.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::mqttbytes::v5::{RetainForwardRule, SubscribeFilter};
use rumqttc::{
    AckMode, AsyncClient, Broker, BrokerSessionResumePolicy, Event, EventLoop, MqttOptions, Packet,
    Publish, QoS,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::shell::dial::Address;
use crate::shell::down::DownReason;
use crate::shell::mqtt::{of_connection, refusal_of_subscription, wait_for_connack};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
const KEEP_ALIVE_S: u16 = 30;

/// Where to listen, and as whom.
#[derive(Clone)]
pub struct Subscription {
    pub client_id: String,
    pub address: Address,
    pub tls: Option<Arc<ClientConfig>>,
    /// User and password.
    pub login: Option<(String, String)>,
    pub filters: Vec<String>,
    /// Filters of an earlier configuration, which the broker may still remember.
    pub dropped: Vec<String>,
    /// How long the broker keeps messages while we are away.
    pub session_s: u32,
    /// Most unacknowledged messages.
    pub in_flight: u16,
    pub max_packet_bytes: u32,
}

/// One message; it is the broker's until it was acknowledged.
#[derive(Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Bytes,
    /// Its number within the session. None: it comes without any promise, and no copy is kept.
    pub number: Option<u16>,
    pub content_type: Option<String>,
    publish: Publish,
}

/// An open session.
pub struct Inbox {
    /// The broker remembered us.
    pub was_known: bool,
    client: AsyncClient,
    messages: mpsc::Receiver<Result<Message, DownReason>>,
    task: JoinHandle<()>,
}

impl Inbox {
    /// Connects and subscribes. A subscription that is refused shows at [`Inbox::next`].
    pub async fn open(subscription: &Subscription) -> Result<Inbox, DownReason> {
        let mut options = options(subscription);
        let stream = connect(&subscription.address).await?;
        match &subscription.tls {
            None => hand_over(&mut options, stream),
            Some(tls) => {
                let name = ServerName::try_from(subscription.address.host.clone())
                    .map_err(|_| DownReason::TlsWrongName)?;
                let connector = TlsConnector::from(Arc::clone(tls));
                let stream = timeout(CONNECT_TIMEOUT, connector.connect(name, stream)).await;
                let stream = stream.map_err(|_| DownReason::TlsTimedOut)?;
                hand_over(
                    &mut options,
                    stream.map_err(|error| DownReason::of_stream(&error))?,
                );
            }
        }
        let (client, mut event_loop) = AsyncClient::builder(options).build();
        let connack = timeout(ANSWER_TIMEOUT, wait_for_connack(&mut event_loop))
            .await
            .map_err(|_| DownReason::MqttTimedOut)??;
        for filter in &subscription.dropped {
            // A filter that the broker does not know is none to be rid of.
            let _ = client.try_unsubscribe(filter.as_str());
        }
        let filters = subscription.filters.iter().map(|filter| {
            let mut filter = SubscribeFilter::new(filter.as_str(), QoS::AtLeastOnce);
            // Kept messages came with the first subscription; they are not news at each connect.
            filter.retain_forward_rule = RetainForwardRule::OnNewSubscribe;
            filter
        });
        client
            .try_subscribe_many(filters)
            .map_err(|_| DownReason::SubscriptionRefused(0x8f))?;
        let (sender, messages) = mpsc::channel(usize::from(subscription.in_flight).max(1));
        Ok(Inbox {
            was_known: connack.session_present,
            client,
            messages,
            task: tokio::spawn(carry(event_loop, sender)),
        })
    }

    /// The next message. Safe to drop while it waits.
    pub async fn next(&mut self) -> Result<Message, DownReason> {
        let message = self.messages.recv().await;
        message.unwrap_or(Err(DownReason::ClosedByPeer))
    }

    /// A message that has come already.
    pub fn next_ready(&mut self) -> Option<Result<Message, DownReason>> {
        self.messages.try_recv().ok()
    }

    /// The broker may forget the message.
    pub fn acknowledge(&self, message: &Message) -> Result<(), DownReason> {
        // There is always room: the queue holds more than may be unacknowledged.
        self.client
            .try_ack(&message.publish)
            .map_err(|_| DownReason::ClosedByPeer)
    }

    /// Leaves; the broker keeps the session.
    pub async fn close(mut self) {
        if self.client.try_disconnect_now().is_ok() {
            let _ = timeout(GOODBYE_TIMEOUT, &mut self.task).await;
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hands on what comes until the session ends. `poll` is never cancelled.
async fn carry(mut event_loop: EventLoop, messages: mpsc::Sender<Result<Message, DownReason>>) {
    loop {
        let told = match event_loop.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => match message(publish) {
                Some(message) => Ok(message),
                None => continue,
            },
            Ok(Event::Incoming(Packet::SubAck(answer))) => {
                let refused = answer
                    .return_codes
                    .into_iter()
                    .find_map(refusal_of_subscription);
                match refused {
                    Some(code) => Err(DownReason::SubscriptionRefused(code)),
                    None => continue,
                }
            }
            Ok(_) => continue,
            Err(error) => Err(of_connection(&error)),
        };
        let is_end = told.is_err();
        if messages.send(told).await.is_err() || is_end {
            return;
        }
    }
}

fn message(publish: Publish) -> Option<Message> {
    let topic = std::str::from_utf8(&publish.topic).ok()?.to_owned();
    let properties = publish.properties.as_ref();
    Some(Message {
        topic,
        payload: publish.payload.clone(),
        number: (publish.qos != QoS::AtMostOnce).then_some(publish.pkid),
        content_type: properties.and_then(|properties| properties.content_type.clone()),
        publish,
    })
}

async fn connect(address: &Address) -> Result<TcpStream, DownReason> {
    let connecting = TcpStream::connect((address.host.as_str(), address.port));
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Err(_) => Err(DownReason::TcpTimedOut),
        Ok(Ok(stream)) => {
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => DownReason::TcpRefused,
            io::ErrorKind::TimedOut => DownReason::TcpTimedOut,
            // Names that lead nowhere have no kind of their own.
            _ if error.raw_os_error().is_none() => DownReason::NameLookup,
            _ => DownReason::TcpUnreachable,
        }),
    }
}

fn hand_over<S>(options: &mut MqttOptions, stream: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Sync + Unpin + 'static,
{
    let stream = Mutex::new(Some(stream));
    options.set_socket_connector(move |_, _| {
        let stream = stream.lock().expect("no holder panics").take();
        async move { stream.ok_or_else(|| io::Error::other("a session has one stream")) }
    });
}

fn options(subscription: &Subscription) -> MqttOptions {
    // The address is never used: the stream is handed over by the connector.
    let broker = Broker::tcp("local", 1);
    let in_flight = subscription.in_flight;
    let mut options = MqttOptions::new(subscription.client_id.as_str(), broker);
    options
        .set_clean_start(false)
        .set_broker_session_resume_policy(BrokerSessionResumePolicy::AllowBrokerOnly)
        .set_session_expiry_interval(Some(subscription.session_s))
        .set_ack_mode(AckMode::Manual)
        .set_keep_alive(KEEP_ALIVE_S)
        .set_receive_maximum(Some(in_flight))
        .set_max_packet_size(Some(subscription.max_packet_bytes))
        .set_outgoing_inflight_upper_limit(in_flight)
        .set_request_channel_capacity(usize::from(in_flight) * 2 + subscription.dropped.len() + 4)
        .set_read_batch_size(usize::from(in_flight.min(16)))
        .set_connect_timeout(ANSWER_TIMEOUT);
    if let Some((user, password)) = &subscription.login {
        options.set_credentials(user.clone(), password.clone());
    }
    options
}
