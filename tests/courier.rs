//! The courier against real Mosquitto with mutual TLS, and against things that are no broker.

#![cfg(feature = "hub")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot set its stage has failed"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lienthong::model::UnixMs;
use lienthong::shell::clock::Clock;
use lienthong::shell::courier::{Courier, CourierConfig, CourierEvent, Rebuild, payload_bytes_max};
use lienthong::shell::dial::Address;
use lienthong::shell::down::DownReason;
use lienthong::shell::mqtt::{NotQueued, Presence};
use lienthong::shell::tls::{Files, Identity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::mpsc;
use tokio::time::timeout;

const TOPIC: &str = "lt/1/tram-01/up";
const SOON: Duration = Duration::from_secs(10);

/// A certificate authority in a folder, and what it issues.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(
            folder.path().join("ca.pem"),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        Authority {
            folder,
            issuer: Issuer::new(params, key),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Issues `name.pem` and `name.key` for localhost; `change` may spoil it.
    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn files(&self, name: &str) -> Files {
        Files {
            authority: self.path("ca.pem"),
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        }
    }
}

fn world() -> Authority {
    let authority = Authority::new();
    authority.issue("hub", |_| {});
    authority.issue("tram-01", |_| {});
    authority
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A Mosquitto that dies with the test.
struct Broker {
    child: Child,
    port: u16,
}

impl Broker {
    fn start(authority: &Authority, server: &str, port: u16, extra: &str) -> Broker {
        let config = authority.path(&format!("mosquitto-{port}.conf"));
        let path = |name: &str| authority.path(name).display().to_string();
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\ncafile {ca}\ncertfile {certificate}\nkeyfile {key}\n\
             require_certificate true\nset_tcp_nodelay true\nuse_identity_as_username true\nallow_anonymous false\n{extra}\n",
            ca = path("ca.pem"),
            certificate = path(&format!("{server}.pem")),
            key = path(&format!("{server}.key")),
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("/usr/sbin/mosquitto")
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's package mosquitto is installed");
        let broker = Broker { child, port };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return broker;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("mosquitto does not listen");
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A courier and its ear.
struct Post {
    courier: Courier,
    events: mpsc::Receiver<CourierEvent>,
}

impl Post {
    fn start(config: CourierConfig) -> Post {
        Post::start_with_channel(config, 64)
    }

    fn start_with_channel(config: CourierConfig, places: usize) -> Post {
        let (sender, events) = mpsc::channel(places);
        Post {
            courier: Courier::start(config, Clock::start(UnixMs(0)), sender),
            events,
        }
    }

    async fn next(&mut self, within: Duration) -> CourierEvent {
        timeout(within, self.events.recv())
            .await
            .expect("an event in time")
            .expect("a live courier")
    }

    /// The next event that `choose` takes, passing over others.
    async fn until<T>(
        &mut self,
        within: Duration,
        choose: impl Fn(CourierEvent) -> Option<T>,
    ) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("a live courier");
                if let Some(chosen) = choose(event) {
                    return chosen;
                }
            }
        };
        timeout(within, search).await.expect("the event in time")
    }

    async fn until_up(&mut self, within: Duration) -> (u16, u32, u16) {
        self.until(within, |event| match event {
            CourierEvent::Up {
                address,
                max_packet_bytes,
                receive_maximum,
            } => Some((address.port, max_packet_bytes, receive_maximum)),
            _ => None,
        })
        .await
    }

    async fn until_down(&mut self, within: Duration) -> DownReason {
        self.until(within, |event| match event {
            CourierEvent::Down { reason, .. } => Some(reason),
            _ => None,
        })
        .await
    }

    async fn until_message(&mut self) -> (String, Bytes) {
        self.until(SOON, |event| match event {
            CourierEvent::Message { topic, payload } => Some((topic, payload)),
            _ => None,
        })
        .await
    }

    /// Publishes, and waits for room as often as it takes.
    async fn publish(&mut self, payload: Bytes) {
        while self.courier.try_publish(TOPIC, payload.clone()) == Err(NotQueued::Full) {
            self.until(SOON, |event| {
                (event == CourierEvent::Writable).then_some(())
            })
            .await;
        }
    }
}

fn address(port: u16) -> Address {
    Address {
        host: "127.0.0.1".to_owned(),
        port,
    }
}

fn config(files: &Files, ports: &[u16]) -> CourierConfig {
    let identity = Identity::load(files, &Clock::start(UnixMs(0)), false).unwrap();
    let addresses = ports.iter().map(|port| address(*port)).collect();
    let mut config = CourierConfig::new("tram-01", addresses, identity.config);
    config.subscriptions = vec![TOPIC.to_owned()];
    config.spread = Duration::from_secs(2);
    config
}

#[tokio::test]
async fn messages_make_the_round_trip_in_order() {
    let authority = world();
    let broker = Broker::start(&authority, "hub", free_port(), "");
    let mut post = Post::start(config(&authority.files("tram-01"), &[broker.port]));
    assert_eq!(
        post.courier
            .try_publish(TOPIC, Bytes::from_static(b"early")),
        Err(NotQueued::NoLink)
    );
    assert_eq!(
        post.next(SOON).await,
        CourierEvent::Connecting {
            address: address(broker.port)
        }
    );
    assert!(matches!(
        post.next(SOON).await,
        CourierEvent::Up {
            receive_maximum: 8,
            ..
        }
    ));
    for number in 0..40_u8 {
        let payload = Bytes::from(vec![number; 50_000]);
        assert_eq!(post.courier.try_publish(TOPIC, payload.clone()), Ok(()));
        assert_eq!(post.until_message().await, (TOPIC.to_owned(), payload));
    }
    assert_eq!(
        post.courier.try_publish("a/+/b", Bytes::new()),
        Err(NotQueued::BadTopic)
    );
    post.courier.close().await;
}

#[tokio::test]
async fn a_name_is_looked_up_and_two_workers_share_a_subscription() {
    let authority = world();
    let broker = Broker::start(&authority, "hub", free_port(), "");
    let worker = |client_id: &str| {
        let mut config = config(&authority.files("hub"), &[broker.port]);
        config.addresses[0].host = "localhost".to_owned();
        config.client_id = client_id.to_owned();
        config.subscriptions = vec!["$share/trucd/lt/1/+/up".to_owned()];
        Post::start(config)
    };
    let (mut first, mut second) = (worker("hub-1"), worker("hub-2"));
    first.until_up(SOON).await;
    second.until_up(SOON).await;
    let mut sender = config(&authority.files("tram-01"), &[broker.port]);
    sender.subscriptions.clear();
    let mut sender = Post::start(sender);
    sender.until_up(SOON).await;
    for number in 0..20_u8 {
        sender.publish(Bytes::from(vec![number])).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let (_, payload) = tokio::select! {
            message = first.until_message() => message,
            message = second.until_message() => message,
        };
        seen.push(payload[0]);
    }
    seen.sort_unstable();
    assert_eq!(
        seen,
        (0..20).collect::<Vec<u8>>(),
        "each message once, to one of the two"
    );
}

#[tokio::test]
async fn presence_says_when_a_box_comes_leaves_and_dies() {
    let authority = world();
    let broker = Broker::start(&authority, "hub", free_port(), "");
    let mut watcher = config(&authority.files("hub"), &[broker.port]);
    watcher.client_id = "hub".to_owned();
    watcher.subscriptions = vec!["lt/1/+/presence".to_owned()];
    let mut watcher = Post::start(watcher);
    watcher.until_up(SOON).await;

    let mut present = config(&authority.files("tram-01"), &[broker.port]);
    present.presence = Some(Presence {
        topic: "lt/1/tram-01/presence".to_owned(),
        online: Bytes::from_static(b"online"),
        offline: Bytes::from_static(b"offline"),
    });
    let mut post = Post::start(present.clone());
    post.until_up(SOON).await;
    assert_eq!(&watcher.until_message().await.1[..], b"online");
    post.courier.close().await;
    assert_eq!(
        &watcher.until_message().await.1[..],
        b"offline",
        "said at the goodbye"
    );

    let mut post = Post::start(present);
    post.until_up(SOON).await;
    assert_eq!(&watcher.until_message().await.1[..], b"online");
    drop(post);
    assert_eq!(
        &watcher.until_message().await.1[..],
        b"offline",
        "said by the will"
    );
}

#[tokio::test]
async fn a_broker_that_restarts_is_found_again_within_two_seconds() {
    let authority = world();
    let port = free_port();
    let mut broker = Broker::start(&authority, "hub", port, "");
    let mut post = Post::start(config(&authority.files("tram-01"), &[port]));
    post.until_up(SOON).await;
    broker.child.kill().unwrap();
    broker.child.wait().unwrap();
    assert_eq!(post.until_down(SOON).await, DownReason::ClosedByPeer);
    assert_eq!(post.until_down(SOON).await, DownReason::TcpRefused);
    assert_eq!(
        post.courier.try_publish(TOPIC, Bytes::new()),
        Err(NotQueued::NoLink)
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(
        post.events.try_recv().is_err(),
        "attempts that repeat themselves are silent"
    );

    let _again = Broker::start(&authority, "hub", port, "");
    post.until_up(Duration::from_millis(2_500)).await;
    post.publish(Bytes::from_static(b"anew")).await;
    assert_eq!(&post.until_message().await.1[..], b"anew");
}

#[tokio::test]
async fn a_half_open_link_is_found_by_silence() {
    let authority = world();
    let broker = Broker::start(&authority, "hub", free_port(), "");
    let mut config = config(&authority.files("tram-01"), &[broker.port]);
    config.keep_alive = Duration::from_secs(2);
    let mut post = Post::start(config);
    post.until_up(SOON).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(post.events.try_recv().is_err(), "pings keep an idle link");
    broker.signal(Signal::SIGSTOP);
    assert_eq!(
        post.until_down(Duration::from_secs(4)).await,
        DownReason::Silent
    );
    // The kernel still takes connections for the stopped process.
    assert_eq!(
        post.until_down(Duration::from_secs(14)).await,
        DownReason::TlsTimedOut
    );
    broker.signal(Signal::SIGCONT);
    post.until_up(SOON).await;
}

#[tokio::test]
async fn a_link_that_swallows_a_long_message_is_found_by_silence_too() {
    let authority = world();
    let broker = Broker::start(&authority, "hub", free_port(), "");
    let mut config = config(&authority.files("tram-01"), &[broker.port]);
    config.keep_alive = Duration::from_secs(2);
    config.max_packet_bytes = 64 * 1024 * 1024;
    let mut post = Post::start(config);
    post.until_up(SOON).await;
    broker.signal(Signal::SIGSTOP);
    // More than the sockets' buffers take, so that the library hangs in its flush.
    post.courier
        .try_publish(TOPIC, Bytes::from(vec![7; 32 * 1024 * 1024]))
        .unwrap();
    assert_eq!(
        post.until_down(Duration::from_secs(5)).await,
        DownReason::Silent
    );
}

async fn first_reason(config: CourierConfig) -> DownReason {
    let mut post = Post::start(config);
    let reason = post.until_down(Duration::from_secs(20)).await;
    assert!(!reason.as_code().is_empty() && !reason.vietnamese().is_empty());
    reason
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let (ours, theirs) = (world(), world());
    let broker = Broker::start(&theirs, "hub", free_port(), "");
    let reason = first_reason(config(&ours.files("tram-01"), &[broker.port])).await;
    assert_eq!(reason, DownReason::TlsUnknownIssuer);
}

#[tokio::test]
async fn an_expired_server_certificate_is_named() {
    let authority = world();
    authority.issue("old", |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1)
    });
    let broker = Broker::start(&authority, "old", free_port(), "");
    let reason = first_reason(config(&authority.files("tram-01"), &[broker.port])).await;
    assert_eq!(reason, DownReason::TlsExpired);
}

#[tokio::test]
async fn a_server_certificate_of_the_future_is_named_unless_the_floor_knows_better() {
    let authority = world();
    authority.issue("new", |params| {
        params.not_before = rcgen::date_time_ymd(2090, 1, 1);
        params.not_after = rcgen::date_time_ymd(2095, 1, 1);
    });
    let broker = Broker::start(&authority, "new", free_port(), "");
    let reason = first_reason(config(&authority.files("tram-01"), &[broker.port])).await;
    assert_eq!(reason, DownReason::TlsNotYetValid);

    // The box's clock is behind, but the store remembers a time in 2091.
    let clock = Clock::start(UnixMs(3_820_000_000_000));
    let files = authority.files("tram-01");
    let mut config = config(&files, &[broker.port]);
    config.tls = Identity::load(&files, &clock, false).unwrap().config;
    Post::start(config).until_up(SOON).await;
}

#[tokio::test]
async fn a_server_certificate_of_another_name_is_named() {
    let authority = world();
    authority.issue("elsewhere", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("hub.example".try_into().unwrap())];
    });
    let broker = Broker::start(&authority, "elsewhere", free_port(), "");
    let reason = first_reason(config(&authority.files("tram-01"), &[broker.port])).await;
    assert_eq!(reason, DownReason::TlsWrongName);
}

#[tokio::test]
async fn a_certificate_of_a_stranger_is_refused_by_the_server() {
    let (authority, strangers) = (world(), world());
    let broker = Broker::start(&authority, "hub", free_port(), "");
    let mut files = strangers.files("tram-01");
    files.authority = authority.path("ca.pem");
    assert_eq!(
        first_reason(config(&files, &[broker.port])).await,
        DownReason::TlsOursRefused
    );
}

#[tokio::test]
async fn our_expired_certificate_is_refused_by_the_server() {
    let authority = world();
    authority.issue("tram-02", |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1)
    });
    let broker = Broker::start(&authority, "hub", free_port(), "");
    let reason = first_reason(config(&authority.files("tram-02"), &[broker.port])).await;
    assert_eq!(reason, DownReason::TlsOursRefused);
}

#[tokio::test]
async fn refused_and_unknown_addresses_are_told_apart() {
    let authority = world();
    let files = authority.files("tram-01");
    assert_eq!(
        first_reason(config(&files, &[free_port()])).await,
        DownReason::TcpRefused
    );
    let mut nowhere = config(&files, &[8883]);
    nowhere.addresses[0].host = "hub.invalid".to_owned();
    assert_eq!(first_reason(nowhere).await, DownReason::NameLookup);
}

#[tokio::test]
async fn a_host_that_does_not_answer_times_out() {
    let authority = world();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let port = listener.local_addr().unwrap().port();
    // The kernel drops further SYN once the queue of connections to be accepted is full.
    let _queue: Vec<_> = (0..4)
        .map(|_| tokio::spawn(tokio::net::TcpStream::connect(("127.0.0.1", port))))
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let reason = first_reason(config(&authority.files("tram-01"), &[port])).await;
    assert_eq!(reason, DownReason::TcpTimedOut);
}

/// Accepts for ever and hands each connection to `serve`.
fn listener(serve: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    port
}

#[tokio::test]
async fn a_listener_that_never_answers_is_given_up() {
    let authority = world();
    let kept = std::sync::Mutex::new(Vec::new());
    let port = listener(move |stream| kept.lock().unwrap().push(stream));
    let reason = first_reason(config(&authority.files("tram-01"), &[port])).await;
    assert_eq!(reason, DownReason::TlsTimedOut);
}

#[tokio::test]
async fn a_captive_portal_is_named() {
    let authority = world();
    let port = listener(|mut stream| {
        let page =
            "HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(page.as_bytes());
        std::thread::sleep(Duration::from_millis(200));
    });
    let reason = first_reason(config(&authority.files("tram-01"), &[port])).await;
    assert_eq!(reason, DownReason::NotTls);
}

/// A line with a deep queue in its router: it takes everything at once and passes on
/// `bytes_per_second` upwards.
fn slow_line(target: u16, bytes_per_second: u64) -> u16 {
    listener(move |near| carry_slowly(near, target, bytes_per_second))
}

fn carry_slowly(mut near: TcpStream, target: u16, bytes_per_second: u64) {
    let mut far = TcpStream::connect(("127.0.0.1", target)).unwrap();
    let (mut back_from, mut back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
    let mut piece = [0; 2_000];
    while let Ok(length @ 1..) = near.read(&mut piece) {
        std::thread::sleep(Duration::from_millis(
            length as u64 * 1_000 / bytes_per_second,
        ));
        if far.write_all(&piece[..length]).is_err() {
            break;
        }
    }
}

#[tokio::test]
async fn a_slow_line_is_not_taken_for_a_dead_one() {
    let authority = world();
    let broker = Broker::start(&authority, "hub", free_port(), "");
    let port = slow_line(broker.port, 30_000);
    let mut hub = config(&authority.files("hub"), &[broker.port]);
    hub.client_id = "hub".to_owned();
    let mut hub = Post::start(hub);
    hub.until_up(SOON).await;
    let mut sender = config(&authority.files("tram-01"), &[port]);
    sender.keep_alive = Duration::from_secs(1);
    sender.subscriptions.clear();
    let mut sender = Post::start(sender);
    sender.until_up(SOON).await;
    // Each message takes two thirds of a second, all of them five: the answer to a ping comes long
    // after its time, but acknowledgements are heard.
    for number in 0..8 {
        sender.publish(Bytes::from(vec![number; 20_000])).await;
    }
    for number in 0..8 {
        assert_eq!(hub.until_message().await.1, vec![number; 20_000]);
    }
    assert!(
        sender.events.try_recv().is_err(),
        "the link stood all the time"
    );
}

/// A line that takes no more than it passes on: the far kernel's window closes.
fn narrow_line(target: u16, bytes_per_second: u64) -> u16 {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8_192).unwrap();
    socket
        .bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(4).unwrap();
    let listener = TcpListener::from(socket);
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        listener
            .incoming()
            .flatten()
            .for_each(|near| carry_slowly(near, target, bytes_per_second));
    });
    port
}

#[tokio::test]
async fn a_long_message_on_a_narrow_line_is_a_sign_of_life() {
    let authority = world();
    let broker = Broker::start(&authority, "hub", free_port(), "");
    let port = narrow_line(broker.port, 30_000);
    let mut sender = config(&authority.files("tram-01"), &[port]);
    sender.keep_alive = Duration::from_secs(2);
    sender.max_packet_bytes = 1_000_000;
    let mut sender = Post::start(sender);
    sender.until_up(SOON).await;
    let since = Clock::start(UnixMs(0));
    sender.publish(Bytes::from(vec![7; 300_000])).await;
    let within = Duration::from_secs(20);
    let event = sender.next(within).await;
    assert!(matches!(event, CourierEvent::Message { .. }), "{event:?}");
    assert!(since.mono_ms() > 8_000, "the line was narrow");
}

/// A TLS server with the hub's certificate that says `words` and nothing else.
fn tls_server(authority: &Authority, words: &'static [u8]) -> u16 {
    let read = |path: &Path| std::fs::read(path).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&read(&authority.path("hub.pem"))).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&read(&authority.path("hub.key"))).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let server = Arc::new(server);
    let kept = std::sync::Mutex::new(Vec::new());
    listener(move |mut tcp| {
        let mut tls = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
        while tls.is_handshaking() && tls.complete_io(&mut tcp).is_ok() {}
        let _ = tls.writer().write_all(words);
        let _ = tls.complete_io(&mut tcp);
        kept.lock().unwrap().push((tls, tcp));
    })
}

#[tokio::test]
async fn a_tls_server_that_is_no_broker_is_named() {
    let authority = world();
    let files = authority.files("tram-01");
    let web = tls_server(
        &authority,
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
        Content-Length: 50\r\n\r\nThis is a web server, it does not speak your words.",
    );
    assert_eq!(
        first_reason(config(&files, &[web])).await,
        DownReason::NotMqtt
    );
    let mute = tls_server(&authority, b"");
    assert_eq!(
        first_reason(config(&files, &[mute])).await,
        DownReason::MqttTimedOut
    );
}

#[tokio::test]
async fn the_second_address_takes_over_and_the_first_is_returned_to() {
    let authority = world();
    let (first, second) = (free_port(), free_port());
    let _standby = Broker::start(&authority, "hub", second, "");
    let mut config = config(&authority.files("tram-01"), &[first, second]);
    config.return_after = Duration::from_secs(2);
    let mut post = Post::start(config);
    assert_eq!(post.until_up(SOON).await.0, second);
    let _main = Broker::start(&authority, "hub", first, "");
    assert_eq!(post.until_down(SOON).await, DownReason::Returning);
    assert_eq!(post.until_up(SOON).await.0, first);
    post.courier.rebuild(Rebuild::NoProgress);
    assert_eq!(post.until_down(SOON).await, DownReason::NoProgress);
    assert_eq!(post.until_up(SOON).await.0, second);
    post.courier.rebuild(Rebuild::Asked);
    assert_eq!(post.until_down(SOON).await, DownReason::Asked);
    assert_eq!(post.until_up(SOON).await.0, second);
}

#[tokio::test]
async fn the_brokers_packet_size_is_kept_to_the_byte() {
    let authority = world();
    let broker = Broker::start(&authority, "hub", free_port(), "max_packet_size 2000");
    let mut post = Post::start(config(&authority.files("tram-01"), &[broker.port]));
    let (_, limit_bytes, _) = post.until_up(SOON).await;
    assert_eq!(limit_bytes, 2_000);
    let most = payload_bytes_max(TOPIC, limit_bytes);
    post.publish(Bytes::from(vec![1; most])).await;
    assert_eq!(post.until_message().await.1.len(), most);
    assert_eq!(
        post.courier
            .try_publish(TOPIC, Bytes::from(vec![1; most + 1])),
        Err(NotQueued::TooLarge {
            bytes: 2_001,
            limit_bytes: 2_000
        })
    );
    post.publish(Bytes::from_static(b"still up")).await;
    assert_eq!(&post.until_message().await.1[..], b"still up");
}

#[tokio::test]
async fn a_receive_maximum_of_one_is_honoured() {
    let authority = world();
    let broker = Broker::start(&authority, "hub", free_port(), "max_inflight_messages 1");
    let mut config = config(&authority.files("tram-01"), &[broker.port]);
    config.presence = Some(Presence {
        topic: "lt/1/tram-01/presence".to_owned(),
        online: Bytes::from_static(b"online"),
        offline: Bytes::new(),
    });
    let mut post = Post::start_with_channel(config, 200);
    assert_eq!(post.until_up(SOON).await.2, 1);
    let mut sent = 0;
    let mut seen = Vec::new();
    while seen.len() < 100 {
        // The queue is kept full, so that the library always has more than it may send.
        while sent < 100
            && post
                .courier
                .try_publish(TOPIC, Bytes::from(vec![sent]))
                .is_ok()
        {
            sent += 1;
        }
        match post.next(SOON).await {
            CourierEvent::Message { payload, .. } => seen.push(payload[0]),
            CourierEvent::Writable => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, (0..100).collect::<Vec<u8>>());
}

#[tokio::test]
async fn a_full_queue_says_when_there_is_room() {
    let authority = world();
    let broker = Broker::start(&authority, "hub", free_port(), "");
    let mut post = Post::start(config(&authority.files("tram-01"), &[broker.port]));
    post.until_up(SOON).await;
    broker.signal(Signal::SIGSTOP);
    let mut queued = 0;
    loop {
        match post.courier.try_publish(TOPIC, Bytes::from_static(b"x")) {
            Ok(()) => queued += 1,
            Err(NotQueued::Full) => break,
            Err(other) => panic!("{other}"),
        }
        assert!(queued < 40, "the queue is bounded");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(queued >= 8);
    broker.signal(Signal::SIGCONT);
    post.until(SOON, |event| {
        (event == CourierEvent::Writable).then_some(())
    })
    .await;
    assert_eq!(
        post.courier.try_publish(TOPIC, Bytes::from_static(b"x")),
        Ok(())
    );
}

#[tokio::test]
async fn a_takeover_that_the_broker_announces_is_not_fought() {
    let authority = world();
    // CONNACK, then DISCONNECT with reason 0x8e.
    let port = tls_server(&authority, &[0x20, 0x03, 0, 0, 0, 0xe0, 0x02, 0x8e, 0]);
    let mut config = config(&authority.files("tram-01"), &[port]);
    config.subscriptions.clear();
    let mut post = Post::start(config);
    post.until_up(SOON).await;
    assert_eq!(post.until_down(SOON).await, DownReason::TakenOver);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(
        post.events.try_recv().is_err(),
        "no new attempt within the first seconds"
    );
}

#[tokio::test]
async fn a_takeover_that_the_broker_hides_is_suspected() {
    let authority = world();
    let broker = Broker::start(&authority, "hub", free_port(), "");
    let config = config(&authority.files("tram-01"), &[broker.port]);
    let mut ours = Post::start(config.clone());
    ours.until_up(SOON).await;
    let _clone = Post::start(config);
    let suspects = |event| match event {
        CourierEvent::Down {
            reason: DownReason::KeepsClosing,
            ..
        } => Some(()),
        CourierEvent::Down { reason, .. } => {
            assert_eq!(reason, DownReason::ClosedByPeer);
            None
        }
        _ => None,
    };
    ours.until(Duration::from_secs(40), suspects).await;
}

#[tokio::test]
async fn a_hub_that_sends_everybody_away_is_left_alone_for_a_while() {
    let authority = world();
    // CONNACK, then DISCONNECT with reason 0x8b, server shutting down.
    let port = tls_server(&authority, &[0x20, 0x03, 0, 0, 0, 0xe0, 0x02, 0x8b, 0]);
    let mut config = config(&authority.files("tram-01"), &[port]);
    config.subscriptions.clear();
    let mut post = Post::start(config);
    post.until_up(SOON).await;
    assert_eq!(post.until_down(SOON).await, DownReason::BrokerLeft(0x8b));
    post.until_up(Duration::from_secs(3)).await;
}

#[tokio::test]
async fn what_the_brokers_access_list_forbids_is_said() {
    let authority = world();
    let list = authority.path("acl");
    std::fs::write(&list, format!("user tram-01\ntopic readwrite {TOPIC}\n")).unwrap();
    let extra = format!("acl_file {}", list.display());
    let broker = Broker::start(&authority, "hub", free_port(), &extra);
    let mut post = Post::start(config(&authority.files("tram-01"), &[broker.port]));
    post.until_up(SOON).await;
    post.courier
        .try_publish("lt/1/tram-02/up", Bytes::from_static(b"forged"))
        .unwrap();
    let code = post
        .until(SOON, |event| match event {
            CourierEvent::PublishRefused { reason_code } => Some(reason_code),
            _ => None,
        })
        .await;
    assert_eq!(code, 0x87);
    post.publish(Bytes::from_static(b"our own")).await;
    assert_eq!(&post.until_message().await.1[..], b"our own");
}

#[tokio::test]
async fn a_slow_reader_slows_the_socket_and_loses_nothing() {
    let authority = world();
    let broker = Broker::start(&authority, "hub", free_port(), "");
    let mut reader = config(&authority.files("hub"), &[broker.port]);
    reader.client_id = "hub".to_owned();
    let mut reader = Post::start_with_channel(reader, 1);
    reader.until_up(SOON).await;
    let mut sender = config(&authority.files("tram-01"), &[broker.port]);
    sender.subscriptions.clear();
    let mut sender = Post::start(sender);
    sender.until_up(SOON).await;
    for number in 0..60_u8 {
        sender.publish(Bytes::from(vec![number; 100_000])).await;
    }
    for number in 0..60_u8 {
        assert_eq!(reader.until_message().await.1, vec![number; 100_000]);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
