//! The embedded broker from outside: real TLS over loopback, real clients, certificates of the real
//! authority.
#![cfg(feature = "hub")]
// Real certificates and sockets live in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lienthong::hub::authority::{Authority, Issued, PUBLIC, SECRET, write_new};
use lienthong::hub::broker::{self, Broker, BrokerConfig, Shown};
use lienthong::model::UnixMs;
use rumqttc::{
    AckMode, AsyncClient, ConnAck, ConnectReturnCode, ConnectionError, Event, LastWill,
    MqttOptions, Packet, PubAckReason, Publish, PublishOptions, QoS, SubscribeReasonCode,
    TlsConfiguration, Transport,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const HUB: &str = "trucd";
/// Longer than anything here takes, so that only a fault meets it.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long silence is listened to.
const SILENCE: Duration = Duration::from_millis(400);

fn now() -> UnixMs {
    UnixMs(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis() as i64,
    )
}

/// A hub's folder with its authority.
struct Hub {
    dir: TempDir,
    authority: Authority,
    suspended: Arc<Mutex<HashSet<String>>>,
}

impl Hub {
    fn new() -> Hub {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), now()).unwrap();
        let server = authority
            .issue_server(&["localhost".into(), "127.0.0.1".into()], now())
            .unwrap();
        write_new(
            &dir.path().join("server.crt"),
            server.cert_pem.as_bytes(),
            PUBLIC,
        )
        .unwrap();
        write_new(
            &dir.path().join("server.key"),
            server.key_pem.as_bytes(),
            SECRET,
        )
        .unwrap();
        Hub {
            dir,
            authority,
            suspended: Arc::default(),
        }
    }

    fn config(&self) -> BrokerConfig {
        let file = |name: &str| self.dir.path().join(name);
        let listen = "127.0.0.1:0".parse().unwrap();
        BrokerConfig::new(
            listen,
            file("ca.crt"),
            file("server.crt"),
            file("server.key"),
            HUB.into(),
        )
    }

    async fn start(&self) -> Broker {
        self.start_with(&self.config()).await
    }

    async fn start_with(&self, config: &BrokerConfig) -> Broker {
        let suspended = self.suspended.clone();
        let may_connect = move |guest: &Shown| !suspended.lock().unwrap().contains(&guest.name);
        broker::start(config, Arc::new(may_connect)).await.unwrap()
    }

    fn tls_as(&self, name: &str) -> Arc<ClientConfig> {
        self.tls_with(Some(self.authority.issue_client(name, now()).unwrap()))
    }

    fn tls_with(&self, identity: Option<Issued>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate(self.authority.certificate_pem()))
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match identity {
            Some(issued) => {
                let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
                tls.with_client_auth_cert(vec![certificate(&issued.cert_pem)], key)
                    .unwrap()
            }
            None => tls.with_no_client_auth(),
        })
    }

    fn options(&self, broker: &Broker, name: &str) -> MqttOptions {
        options(broker, name, self.tls_as(name))
    }

    async fn connect(&self, broker: &Broker, name: &str) -> Client {
        Client::connect(self.options(broker, name)).await.unwrap()
    }

    /// The hub's own client, subscribed to all that boxes say.
    async fn connect_hub(&self, broker: &Broker) -> Client {
        let mut hub = self.connect(broker, HUB).await;
        let granted = hub.subscribe("$share/hub/lt/1/+/up").await;
        assert_eq!(granted, SubscribeReasonCode::Success(QoS::AtLeastOnce));
        hub
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn options(broker: &Broker, client_id: &str, tls: Arc<ClientConfig>) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, ("localhost", broker.address().port()));
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    options.set_keep_alive(30);
    options.set_connect_timeout(PATIENCE);
    options.set_max_packet_size(Some(256 * 1024));
    options
}

/// A client that never connects again.
struct Client {
    client: AsyncClient,
    packets: Receiver<Result<Packet, ConnectionError>>,
    task: JoinHandle<()>,
    connack: ConnAck,
}

impl Client {
    async fn connect(options: MqttOptions) -> Result<Client, ConnectionError> {
        let (client, mut events) = AsyncClient::builder(options).capacity(200).build();
        let connack = loop {
            match timeout(PATIENCE, events.poll())
                .await
                .expect("an answer to CONNECT")?
            {
                Event::Incoming(Packet::ConnAck(connack)) => break connack,
                _ => continue,
            }
        };
        let (sender, packets) = channel(1000);
        let task = tokio::spawn(async move {
            loop {
                let packet = match events.poll().await {
                    Ok(Event::Incoming(packet)) => Ok(packet),
                    Ok(_) => continue,
                    Err(error) => Err(error),
                };
                let over = packet.is_err();
                if sender.send(packet).await.is_err() || over {
                    break;
                }
            }
        });
        Ok(Client {
            client,
            packets,
            task,
            connack,
        })
    }

    async fn wait<T>(&mut self, mut pick: impl FnMut(Packet) -> Option<T>) -> T {
        timeout(PATIENCE, async {
            loop {
                let packet = self
                    .packets
                    .recv()
                    .await
                    .expect("the connection lives")
                    .unwrap();
                if let Some(found) = pick(packet) {
                    break found;
                }
            }
        })
        .await
        .expect("the awaited packet comes")
    }

    async fn subscribe(&mut self, filter: &str) -> SubscribeReasonCode {
        self.client
            .subscribe(filter, QoS::AtLeastOnce)
            .await
            .unwrap();
        self.wait(|packet| match packet {
            Packet::SubAck(ack) => Some(ack.return_codes[0]),
            _ => None,
        })
        .await
    }

    async fn publish(&mut self, topic: &str, payload: &[u8]) -> PubAckReason {
        self.publish_as(topic, payload, PublishOptions::at_least_once())
            .await
    }

    async fn publish_as(
        &mut self,
        topic: &str,
        payload: &[u8],
        options: PublishOptions,
    ) -> PubAckReason {
        self.client
            .publish(topic, payload.to_vec(), options)
            .await
            .unwrap();
        self.wait(|packet| match packet {
            Packet::PubAck(ack) => Some(ack.reason),
            _ => None,
        })
        .await
    }

    async fn message(&mut self) -> Publish {
        self.wait(|packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        })
        .await
    }

    async fn hears_nothing(&mut self) {
        let heard = timeout(SILENCE, self.message()).await;
        assert!(
            heard.is_err(),
            "heard {:?}",
            heard.map(|publish| publish.topic)
        );
    }

    /// The connection ends without this side's doing.
    async fn is_ended(&mut self) {
        let ended = async { while let Some(Ok(_)) = self.packets.recv().await {} };
        timeout(PATIENCE, ended).await.expect("the connection ends");
    }

    /// Closes the socket without a word.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn refusal(outcome: Result<Client, ConnectionError>) -> ConnectReturnCode {
    match outcome {
        Ok(_) => panic!("connected"),
        Err(ConnectionError::ConnectionRefused(code)) => code,
        Err(error) => panic!("{error:?}"),
    }
}

/// TLS without an MQTT client above it.
async fn raw(broker: &Broker, tls: Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let socket = TcpStream::connect(broker.address()).await.unwrap();
    TlsConnector::from(tls)
        .connect(ServerName::try_from("localhost").unwrap(), socket)
        .await
        .unwrap()
}

/// CONNECT with clean start and a keep-alive of 30 s.
fn connect_packet(level: u8, client_id: &str) -> Vec<u8> {
    let mut body = vec![0, 4];
    body.extend_from_slice(b"MQTT");
    body.extend_from_slice(&[level, 0x02, 0, 30]);
    if level == 5 {
        body.push(0);
    }
    body.extend_from_slice(&[0, client_id.len() as u8]);
    body.extend_from_slice(client_id.as_bytes());
    let mut packet = vec![0x10, body.len() as u8];
    packet.append(&mut body);
    packet
}

/// Everything that still comes until the other side closes.
async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is as good an end as an orderly one.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the broker closes");
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn box_and_hub_hear_each_other() {
    let hub = Hub::new();
    let broker = hub.start().await;
    let mut center = hub.connect_hub(&broker).await;
    let mut station = hub.connect(&broker, "xa-a").await;

    let limits = station.connack.properties.clone().unwrap();
    assert_eq!(limits.max_packet_size, Some(160 * 1024));
    assert_eq!(limits.receive_max, Some(64));
    assert_eq!(limits.max_qos, Some(1));
    assert_eq!(limits.shared_subscription_available.unwrap_or(1), 1);

    assert_eq!(
        station.subscribe("lt/1/xa-a/down").await,
        SubscribeReasonCode::Success(QoS::AtLeastOnce)
    );
    let batch = vec![7; 128 * 1024];
    assert_eq!(
        station.publish("lt/1/xa-a/up", &batch).await,
        PubAckReason::Success
    );
    let heard = center.message().await;
    assert_eq!(
        (&heard.topic[..], &heard.payload[..]),
        (&b"lt/1/xa-a/up"[..], &batch[..])
    );
    assert_eq!(
        center.publish("lt/1/xa-a/down", b"receipt").await,
        PubAckReason::Success
    );
    assert_eq!(&station.message().await.payload[..], b"receipt");
    assert_eq!(broker.connected(), [HUB, "xa-a"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_boxs_topic_is_refused_and_disturbs_nobody() {
    let hub = Hub::new();
    let broker = hub.start().await;
    let mut center = hub.connect_hub(&broker).await;
    let mut victim = hub.connect(&broker, "xa-a").await;
    let mut rogue = hub.connect(&broker, "xa-b").await;
    victim.subscribe("lt/1/xa-a/down").await;

    for topic in [
        "lt/1/xa-a/up",
        "lt/1/xa-a/down",
        "lt/1/xa-a/presence",
        "lt/1/xa-b/down",
        "elsewhere",
    ] {
        assert_eq!(
            rogue.publish(topic, b"forged").await,
            PubAckReason::NotAuthorized,
            "{topic}"
        );
    }
    rogue
        .client
        .publish("lt/1/xa-a/up", "forged", PublishOptions::at_most_once())
        .await
        .unwrap();
    let retained = PublishOptions::at_least_once().retained();
    assert_eq!(
        rogue.publish_as("lt/1/xa-b/up", b"kept", retained).await,
        PubAckReason::NotAuthorized
    );
    for filter in [
        "lt/1/#",
        "lt/1/xa-a/down",
        "lt/1/+/down",
        "#",
        "$share/hub/lt/1/+/up",
        "$SYS/#",
    ] {
        assert_eq!(
            rogue.subscribe(filter).await,
            SubscribeReasonCode::NotAuthorized,
            "{filter}"
        );
    }
    assert_eq!(
        center.publish("lt/1/xa-a/presence", b"forged").await,
        PubAckReason::NotAuthorized
    );

    victim.hears_nothing().await;
    center.hears_nothing().await;
    assert_eq!(
        victim.publish("lt/1/xa-a/up", b"true").await,
        PubAckReason::Success
    );
    assert_eq!(&center.message().await.payload[..], b"true");
    assert_eq!(
        rogue.publish("lt/1/xa-b/up", b"own").await,
        PubAckReason::Success
    );
    assert_eq!(&center.message().await.payload[..], b"own");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_on_anothers_topic_is_refused() {
    let hub = Hub::new();
    let broker = hub.start().await;
    for topic in [
        "lt/1/xa-a/presence",
        "lt/1/xa-a/up",
        "lt/1/xa-b/up",
        "lt/1/xa-b/down",
    ] {
        let mut options = hub.options(&broker, "xa-b");
        options.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, true, None));
        let code = refusal(Client::connect(options).await);
        assert_eq!(code, ConnectReturnCode::NotAuthorized, "{topic}");
    }
    assert!(broker.connected().is_empty());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_no_certificate_of_ours_stays_outside() {
    let hub = Hub::new();
    let stranger = Hub::new();
    let broker = hub.start().await;
    let forged = stranger.authority.issue_client("xa-a", now()).unwrap();
    let server = hub
        .authority
        .issue_server(&["localhost".into()], now())
        .unwrap();
    for (what, identity) in [
        ("none", None),
        ("a stranger's", Some(forged)),
        ("a server's", Some(server)),
    ] {
        let outcome = Client::connect(options(&broker, "xa-a", hub.tls_with(identity))).await;
        assert!(
            !matches!(outcome, Ok(_) | Err(ConnectionError::ConnectionRefused(_))),
            "{what}"
        );
    }
    // Without TLS there is nobody to talk to.
    let mut plain = TcpStream::connect(broker.address()).await.unwrap();
    plain.write_all(&connect_packet(5, "xa-a")).await.unwrap();
    assert!(!rest(&mut plain).await.starts_with(&[0x20]));

    assert!(broker.connected().is_empty());
    hub.connect(&broker, "xa-a").await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_id_is_the_common_name() {
    let hub = Hub::new();
    let broker = hub.start().await;
    let mut victim = hub.connect(&broker, "xa-a").await;
    for client_id in ["xa-a", HUB, "trucd/2", "", "xa-b/2"] {
        let mut options = options(&broker, client_id, hub.tls_as("xa-b"));
        options.set_username("xa-a");
        let code = refusal(Client::connect(options).await);
        assert_eq!(code, ConnectReturnCode::NotAuthorized, "{client_id:?}");
    }
    // The hub's workers each have a client id of their own.
    Client::connect(options(&broker, "trucd/2", hub.tls_as(HUB)))
        .await
        .unwrap();
    assert_eq!(
        victim.publish("lt/1/xa-a/up", b"still here").await,
        PubAckReason::Success
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inner_listener_lets_nobody_in() {
    let hub = Hub::new();
    let broker = hub.start().await;
    // The hub's own client is connected, as its name would be worth most.
    let _center = hub.connect_hub(&broker).await;
    let mut refused = 0;
    for address in own_listeners() {
        for client_id in ["xa-a", HUB] {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket
                .write_all(&connect_packet(5, client_id))
                .await
                .unwrap();
            let answer = rest(&mut socket).await;
            // CONNACK is 0x20, length, flags, reason: 0x87 is "not authorised".
            assert!(
                !answer.starts_with(&[0x20]) || answer[3] == 0x87,
                "{answer:?}"
            );
            refused += usize::from(answer.starts_with(&[0x20]));
        }
    }
    assert!(refused >= 2, "the inner listener was found");
    assert_eq!(broker.connected(), [HUB]);
    broker.stop().await;
}

/// Where this process listens.
fn own_listeners() -> Vec<SocketAddr> {
    let own: HashSet<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| {
            Some(
                target
                    .to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    std::fs::read_to_string("/proc/self/net/tcp")
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields[3] == "0A" && own.contains(fields[9]))
        .map(|fields| {
            let port = u16::from_str_radix(fields[1].split(':').nth(1).unwrap(), 16).unwrap();
            SocketAddr::from(([127, 0, 0, 1], port))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversize_packet_ends_its_own_connection_only() {
    let hub = Hub::new();
    let broker = hub.start().await;
    let mut center = hub.connect_hub(&broker).await;
    let mut station = hub.connect(&broker, "xa-a").await;

    let mut rogue = raw(&broker, hub.tls_as("xa-b")).await;
    rogue.write_all(&connect_packet(5, "xa-b")).await.unwrap();
    let mut start = [0; 4];
    rogue.read_exact(&mut start).await.unwrap();
    assert_eq!((start[0], start[3]), (0x20, 0));
    // The fixed header of a PUBLISH that claims 200 MiB.
    rogue
        .write_all(&[0x30, 0x80, 0x80, 0x80, 0x64])
        .await
        .unwrap();
    rest(&mut rogue).await;

    assert_eq!(
        station.publish("lt/1/xa-a/up", b"fine").await,
        PubAckReason::Success
    );
    assert_eq!(&center.message().await.payload[..], b"fine");
    broker.stop().await;
}

const GARBAGE_ROUNDS: usize = 400;

/// Well-formed packets after CONNECT, to be damaged.
const PACKETS: [&[u8]; 9] = [
    // PUBLISH, QoS 1, on the own topic, with a property.
    b"\x32\x18\x00\x0clt/1/xa-b/up\x00\x05\x05\x02\x00\x00\x00\x09hi",
    // PUBLISH, QoS 0, retained presence.
    b"\x31\x17\x00\x12lt/1/xa-b/presence\x00hi",
    // PUBLISH with a topic alias and no topic.
    b"\x32\x0a\x00\x00\x00\x06\x03\x23\x00\x01hi",
    // SUBSCRIBE.
    b"\x82\x14\x00\x07\x00\x00\x0elt/1/xa-b/down\x01",
    // SUBSCRIBE, shared.
    b"\x82\x15\x00\x08\x00\x00\x0f$share/g/lt/1/#\x01",
    // UNSUBSCRIBE.
    b"\xa2\x13\x00\x09\x00\x00\x0elt/1/xa-b/down",
    // PUBACK, PUBREL and DISCONNECT.
    b"\x40\x04\x00\x01\x10\x00",
    b"\x62\x02\x00\x01",
    b"\xe0\x07\x00\x05\x11\xff\xff\xff\xff",
];

/// A small generator of its own (xorshift), so that a failure repeats.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a [u8]]) -> &'a [u8] {
        from[self.roll(from.len())]
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let place = self.roll(bytes.len());
        match self.roll(4) {
            0 => bytes[place] = self.roll(256) as u8,
            1 => bytes[place] ^= 1 << self.roll(8),
            2 => bytes.truncate(place.max(1)),
            _ => bytes.insert(place, self.roll(256) as u8),
        }
    }
}

/// Counts panics from now on: the product aborts where a test's tasks would only unwind.
fn count_panics() -> Arc<AtomicUsize> {
    let panics = Arc::new(AtomicUsize::new(0));
    let counter = panics.clone();
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        counter.fetch_add(1, Ordering::Relaxed);
        shown(panic);
    }));
    panics
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_old_protocols_end_their_own_connection_only() {
    let hub = Hub::new();
    let broker = hub.start().await;
    let mut center = hub.connect_hub(&broker).await;
    let tls = hub.tls_as("xa-b");

    let mut old = raw(&broker, tls.clone()).await;
    old.write_all(&connect_packet(4, "xa-b")).await.unwrap();
    let answer = rest(&mut old).await;
    assert!(
        answer.is_empty() || answer[3] != 0,
        "MQTT 3.1.1 was let in: {answer:?}"
    );

    let panics = count_panics();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..GARBAGE_ROUNDS {
        let mut rogue = raw(&broker, tls.clone()).await;
        let mut bytes = connect_packet(5, "xa-b");
        if round % 4 == 0 {
            dice.damage(&mut bytes);
        }
        for _ in 0..12 {
            let mut packet = dice.pick(&PACKETS).to_vec();
            if dice.roll(2) == 0 {
                dice.damage(&mut packet);
            }
            bytes.append(&mut packet);
        }
        let _ = rogue.write_all(&bytes).await;
        let _ = rogue.shutdown().await;
        rest(&mut rogue).await;
    }
    assert_eq!(panics.load(Ordering::Relaxed), 0);
    let mut station = hub.connect(&broker, "xa-a").await;
    assert_eq!(
        station.publish("lt/1/xa-a/up", b"fine").await,
        PubAckReason::Success
    );
    center
        .wait(|packet| match packet {
            Packet::Publish(publish) => (publish.topic == b"lt/1/xa-a/up"[..]).then_some(()),
            _ => None,
        })
        .await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_identity_takes_over_and_its_old_will_stays_silent() {
    let hub = Hub::new();
    let broker = hub.start().await;
    let mut center = hub.connect_hub(&broker).await;
    center.subscribe("lt/1/+/presence").await;
    let online = PublishOptions::at_least_once().retained();
    let mut with_will = hub.options(&broker, "xa-a");
    with_will.set_last_will(LastWill::new(
        "lt/1/xa-a/presence",
        "gone",
        QoS::AtLeastOnce,
        true,
        None,
    ));

    let mut first = Client::connect(with_will.clone()).await.unwrap();
    first
        .publish_as("lt/1/xa-a/presence", b"first", online.clone())
        .await;
    assert_eq!(&center.message().await.payload[..], b"first");
    let mut second = Client::connect(with_will).await.unwrap();
    second
        .publish_as("lt/1/xa-a/presence", b"second", online)
        .await;
    first.is_ended().await;

    assert_eq!(&center.message().await.payload[..], b"second");
    center.hears_nothing().await;
    assert_eq!(
        second.publish("lt/1/xa-a/up", b"batch").await,
        PubAckReason::Success
    );
    assert_eq!(&center.message().await.payload[..], b"batch");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_is_kept_and_a_killed_boxs_will_replaces_it() {
    let hub = Hub::new();
    let broker = hub.start().await;
    let mut options = hub.options(&broker, "xa-a");
    options.set_last_will(LastWill::new(
        "lt/1/xa-a/presence",
        "gone",
        QoS::AtLeastOnce,
        true,
        None,
    ));
    let mut station = Client::connect(options).await.unwrap();
    let retained = PublishOptions::at_least_once().retained();
    station
        .publish_as("lt/1/xa-a/presence", b"here", retained)
        .await;

    // A hub that comes later hears what stands.
    let mut center = hub.connect(&broker, HUB).await;
    center.subscribe("lt/1/+/presence").await;
    let standing = center.message().await;
    assert_eq!(
        (&standing.payload[..], standing.retain),
        (&b"here"[..], true)
    );

    station.kill().await;
    assert_eq!(&center.message().await.payload[..], b"gone");
    center.kill().await;
    let mut center = hub.connect(&broker, HUB).await;
    center.subscribe("lt/1/+/presence").await;
    assert_eq!(&center.message().await.payload[..], b"gone");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_is_given_up_after_its_keep_alive() {
    let hub = Hub::new();
    let broker = hub.start().await;
    let mut silent = raw(&broker, hub.tls_as("xa-a")).await;
    let mut connect = connect_packet(5, "xa-a");
    let keep_alive_low_byte = 2 + 6 + 1 + 1 + 1;
    assert_eq!(connect[keep_alive_low_byte], 30);
    connect[keep_alive_low_byte] = 1;
    silent.write_all(&connect).await.unwrap();
    let answer = rest(&mut silent).await;
    assert_eq!((answer[0], answer[3]), (0x20, 0));
    assert!(broker.connected().is_empty());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_box_is_refused_and_a_connected_one_can_be_sent_away() {
    let hub = Hub::new();
    let broker = hub.start().await;
    let mut station = hub.connect(&broker, "xa-a").await;
    let mut other = hub.connect(&broker, "xa-b").await;

    hub.suspended.lock().unwrap().insert("xa-a".into());
    assert_eq!(broker.disconnect("xa-a"), 1);
    station.is_ended().await;
    let code = refusal(Client::connect(hub.options(&broker, "xa-a")).await);
    assert_eq!(code, ConnectReturnCode::NotAuthorized);
    assert_eq!(broker.disconnect("xa-c"), 0);
    assert_eq!(
        other.publish("lt/1/xa-b/up", b"fine").await,
        PubAckReason::Success
    );

    hub.suspended.lock().unwrap().clear();
    hub.connect(&broker, "xa-a").await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_boxes_at_once() {
    let hub = Hub::new();
    let broker = hub.start().await;
    let mut center = hub.connect_hub(&broker).await;
    let names: Vec<String> = (0..200).map(|number| format!("xa-{number:03}")).collect();
    let connecting: Vec<_> = names
        .iter()
        .map(|name| tokio::spawn(Client::connect(hub.options(&broker, name))))
        .collect();
    let mut stations = Vec::new();
    for connection in connecting {
        stations.push(connection.await.unwrap().unwrap());
    }
    assert_eq!(broker.connected().len(), 201);

    for (name, station) in names.iter().zip(&stations) {
        let options = PublishOptions::at_least_once();
        station
            .client
            .publish(format!("lt/1/{name}/up"), name.clone(), options)
            .await
            .unwrap();
    }
    let mut heard = HashSet::new();
    for _ in &names {
        let message = center.message().await;
        let name = String::from_utf8(message.payload.to_vec()).unwrap();
        assert_eq!(message.topic, format!("lt/1/{name}/up").as_bytes());
        heard.insert(name);
    }
    assert_eq!(heard.len(), 200);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_never_speak_keep_nobody_out() {
    let hub = Hub::new();
    let broker = hub.start().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(broker.address()).await.unwrap());
    }
    hub.connect(&broker, "xa-a").await;
    // The oldest had to go; the newest may still try.
    rest(&mut silent[0]).await;
    let newest = timeout(SILENCE, silent[299].read_u8()).await;
    assert!(newest.is_err(), "{newest:?}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded() {
    let hub = Hub::new();
    let config = BrokerConfig {
        max_connections: 2,
        ..hub.config()
    };
    let broker = hub.start_with(&config).await;
    let first = hub.connect(&broker, "xa-a").await;
    let mut second = hub.connect(&broker, "xa-b").await;
    assert!(Client::connect(hub.options(&broker, "xa-c")).await.is_err());
    assert_eq!(
        second.publish("lt/1/xa-b/up", b"fine").await,
        PubAckReason::Success
    );
    first.kill().await;
    let free = async { while Client::connect(hub.options(&broker, "xa-c")).await.is_err() {} };
    timeout(PATIENCE, free)
        .await
        .expect("a place that was left is free again");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_hub_that_takes_nothing_is_bounded() {
    let hub = Hub::new();
    let mut config = hub.config();
    config.waiting_bytes_max = 400 * 1024;
    let broker = hub.start_with(&config).await;
    let mut options = hub.options(&broker, HUB);
    options.set_ack_mode(AckMode::Manual);
    let mut center = Client::connect(options).await.unwrap();
    center.subscribe("lt/1/+/up").await;
    let mut station = hub.connect(&broker, "xa-a").await;

    let batch = vec![7; 100 * 1024];
    let mut accepted = 0;
    let refused = loop {
        match station.publish("lt/1/xa-a/up", &batch).await {
            PubAckReason::Success => accepted += 1,
            reason => break reason,
        }
        assert!(accepted < 5, "more waits than is allowed");
    };
    assert_eq!((accepted, refused), (3, PubAckReason::QuotaExceeded));
    for _ in 0..accepted {
        let message = center.message().await;
        center.client.ack(&message).await.unwrap();
    }
    assert_eq!(
        station.publish("lt/1/xa-a/up", &batch).await,
        PubAckReason::Success
    );
    center.message().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_an_error_and_a_stopped_broker_frees_it() {
    let hub = Hub::new();
    let broker = hub.start().await;
    let mut station = hub.connect(&broker, "xa-a").await;
    let config = BrokerConfig {
        listen: broker.address(),
        ..hub.config()
    };
    let error = broker::start(&config, Arc::new(|_: &Shown| true))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("cannot listen"), "{error:#}");

    broker.stop().await;
    station.is_ended().await;
    let again = hub.start_with(&config).await;
    hub.connect(&again, "xa-a").await;
    drop(again);
    tokio::time::sleep(SILENCE).await;
    assert!(
        TcpStream::connect(config.listen).await.is_err(),
        "a dropped broker stops too"
    );
}

#[test]
fn a_runtime_that_ends_takes_the_broker_with_it() {
    let panics = count_panics();
    for mut builder in [Builder::new_multi_thread(), Builder::new_current_thread()] {
        let runtime = builder.enable_all().build().unwrap();
        let hub = Hub::new();
        let (broker, clients) = runtime.block_on(async {
            let broker = hub.start().await;
            let center = hub.connect_hub(&broker).await;
            let station = hub.connect(&broker, "xa-a").await;
            (broker, [center, station])
        });
        drop(runtime);
        drop((broker, clients));
    }
    assert_eq!(panics.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_is_missing_is_told() {
    let hub = Hub::new();
    let config = BrokerConfig {
        ca_path: hub.dir.path().join("none.crt"),
        ..hub.config()
    };
    let error = broker::start(&config, Arc::new(|_: &Shown| true))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("none.crt"), "{error:#}");
    let config = BrokerConfig {
        key_path: hub.dir.path().join("ca.key"),
        ..hub.config()
    };
    let error = broker::start(&config, Arc::new(|_: &Shown| true))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("does not fit"), "{error:#}");
}
