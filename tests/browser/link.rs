//! The page for each reason for which a link can be down, each made by a real fault of the way to
//! the hub, with the remedy that a technician reads out.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use lienthong::edge::page::remedy::remedy_of_code;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, Socket, Type};

use crate::broker::{Trick, tricky};
use crate::certificates::{Certificates, Shown};
use crate::driver::Browser;
use crate::office::origin_of;
use crate::rig::{Broker, Rig, free_port, wait_for};
use crate::states::{State, faults_of};

/// What a way of TLS that ends in silence may take to be given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Accepts for ever; `answer` is all that is said.
fn listener(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(answer);
            // Read what comes, so that closing does not reset what was said.
            let mut piece = [0; 512];
            if !answer.is_empty() {
                let _ = stream.read(&mut piece);
            }
            kept.push(stream);
            kept.drain(..kept.len().saturating_sub(16));
        }
    });
    port
}

/// A port whose queue of connections is full, so that the kernel drops what comes.
fn drops_everything() -> (u16, Socket, Vec<Socket>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into())
        .unwrap();
    socket.listen(1).unwrap();
    let address = socket.local_addr().unwrap();
    let queue = (0..4).map(|_| {
        let one = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        one.set_nonblocking(true).unwrap();
        let _ = one.connect(&address);
        one
    });
    let queue = queue.collect();
    let port = address.as_socket_ipv4().unwrap().port();
    (port, socket, queue)
}

/// A TLS server at `host` with the hub's certificate that says `words` and nothing else.
fn tls_only(rig: &Rig, host: &str, words: &'static [u8]) -> u16 {
    let read = |name: &str| fs::read(rig.hub_folder().join(name)).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&read("server.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&read("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let server = Arc::new(server);
    let listener = TcpListener::bind((host, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut tcp in listener.incoming().flatten() {
            let mut tls = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
            while tls.is_handshaking() && tls.complete_io(&mut tcp).is_ok() {}
            let _ = tls.writer().write_all(words);
            let _ = tls.complete_io(&mut tcp);
            kept.push((tls, tcp));
            kept.drain(..kept.len().saturating_sub(16));
        }
    });
    port
}

fn reason(rig: &Rig, name: &str) -> String {
    let status = rig.status(name);
    let code = status["link"]["reason"]["code"].as_str();
    code.unwrap_or_default().to_owned()
}

/// Changes where a box looks for its hub.
fn dial(rig: &Rig, name: &str, address: &str) {
    let file = rig.boxes[name].folder.join("tramd.d/50-way.toml");
    fs::write(file, format!("[hub]\naddresses = [\"{address}\"]\n")).unwrap();
}

/// Waits for each box's reason and judges its page.
fn judge_all(rig: &Rig, boxes: &[(&str, &str)]) {
    let browser = Browser::start();
    let faults: Vec<String> = boxes
        .iter()
        .flat_map(|(name, code)| faults_of_reason(&browser, rig, name, code))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn faults_of_reason(browser: &Browser, rig: &Rig, name: &str, code: &str) -> Vec<String> {
    wait_for(&format!("{name} says {code}"), 2 * PATIENCE, || {
        reason(rig, name) == code
    });
    let status = rig.status(name);
    let mqtt = status["link"]["reason"]["mqtt"].as_u64();
    let mqtt = mqtt.map(|code| u8::try_from(code).unwrap());
    let remedy = remedy_of_code(code, mqtt).expect("a known reason");
    let [stage_vi, stage_en] = remedy.stage.name();
    let [what_vi, what_en] = remedy.what;
    let mut vi = vec![stage_vi, what_vi, "Cách xử lý:", code];
    let mut en = vec![stage_en, what_en, "What to do:", code];
    for [step_vi, step_en] in remedy.steps {
        vi.push(step_vi);
        en.push(step_en);
    }
    let state = State {
        name: &format!("link-{code}"),
        vi: &vi,
        en: &en,
    };
    faults_of(browser, &origin_of(rig, name), &state)
}

/// Faults below TLS, and of it.
#[test]
fn the_way_is_cut() {
    let mut rig = Rig::start(Broker::Embedded);
    let port = rig.port;
    let (full, _socket, _queue) = drops_everything();
    let portal = listener(
        b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n\r\n",
    );
    let mute = listener(b"");
    // TLS 1.2, 7.2: a fatal alert, handshake failure.
    let unwilling = listener(&[0x15, 3, 3, 0, 2, 2, 40]);
    let elsewhere = tls_only(&rig, "127.0.0.2", b"");
    let stranger = Rig::start(Broker::Embedded);
    let boxes = [
        ("b-name", "khong-co.invalid:8883".to_owned(), "name-lookup"),
        (
            "b-refused",
            format!("127.0.0.1:{}", free_port()),
            "tcp-refused",
        ),
        (
            "b-nowhere",
            "255.255.255.255:8883".to_owned(),
            "tcp-unreachable",
        ),
        ("b-full", format!("127.0.0.1:{full}"), "tcp-timed-out"),
        ("b-portal", format!("127.0.0.1:{portal}"), "not-tls"),
        ("b-mute", format!("127.0.0.1:{mute}"), "tls-timed-out"),
        (
            "b-unwilling",
            format!("127.0.0.1:{unwilling}"),
            "tls-failed",
        ),
        (
            "b-stranger",
            format!("127.0.0.1:{}", stranger.port),
            "tls-unknown-issuer",
        ),
        (
            "b-elsewhere",
            format!("127.0.0.2:{elsewhere}"),
            "tls-wrong-name",
        ),
    ];
    for (name, address, _) in &boxes {
        rig.add_box(name, "H53.12", port);
        dial(&rig, name, address);
        rig.launch_box(name);
    }
    let names: Vec<(&str, &str)> = boxes.iter().map(|(name, _, code)| (*name, *code)).collect();
    for (name, _) in &names {
        wait_for_page(&rig, name);
    }
    judge_all(&rig, &names);
}

fn wait_for_page(rig: &Rig, name: &str) {
    let url = format!("{}/healthz", origin_of(rig, name));
    wait_for("the box takes in", PATIENCE, || {
        crate::rig::agent().get(&url).call().is_ok()
    });
}

/// Faults of clocks, of certificates, and of what answers behind TLS.
#[test]
fn the_hub_does_not_let_the_box_in() {
    let mut rig = Rig::start(Broker::Embedded);
    let port = rig.port;
    let mute = tls_only(&rig, "127.0.0.1", b"");
    let web = tls_only(
        &rig,
        "127.0.0.1",
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 50\r\n\r\n\
          This is a web server, it does not speak your words.",
    );
    for name in ["b-late", "b-mute", "b-web", "b-strange", "b-suspended"] {
        rig.add_box(name, "H53.12", port);
    }
    dial(&rig, "b-mute", &format!("127.0.0.1:{mute}"));
    dial(&rig, "b-web", &format!("127.0.0.1:{web}"));
    // The keys of another hub's box, which knows this hub.
    let mut other = Rig::start(Broker::Embedded);
    other.add_box("b-strange", "H53.12", port);
    for file in ["box.crt", "box.key"] {
        let from = other.boxes["b-strange"].folder.join(file);
        fs::copy(from, rig.boxes["b-strange"].folder.join(file)).unwrap();
    }
    rig.trucd(&["box", "suspend", "b-suspended"], 0);
    for name in ["b-mute", "b-web", "b-strange", "b-suspended"] {
        rig.launch_box(name);
    }
    rig.set_days_ahead(20 * 365);
    rig.launch_box("b-late");
    rig.set_days_ahead(0);
    let boxes = [
        ("b-late", "tls-expired"),
        ("b-web", "not-mqtt"),
        ("b-strange", "tls-ours-refused"),
        ("b-suspended", "mqtt-refused"),
        ("b-mute", "mqtt-timed-out"),
    ];
    for (name, _) in boxes {
        wait_for_page(&rig, name);
    }
    judge_all(&rig, &boxes);
}

/// A box whose hub has another authority.
fn add_box_of(rig: &mut Rig, certificates: &Certificates, name: &str, port: u16) {
    rig.add_box(name, "H53.12", port);
    let folder = &rig.boxes[name].folder;
    fs::copy(certificates.authority("ca"), folder.join("ca.crt")).unwrap();
    let text = "[hub]\nkeep_alive = \"2 s\"\n";
    fs::write(folder.join("tramd.d/60-pings.toml"), text).unwrap();
}

/// The next attempt ends otherwise and takes the place of the reason, on a busy machine before the page
/// was judged: then once more.
fn judge_while_it_holds(
    browser: &Browser,
    rig: &mut Rig,
    (shown, trick): (&Shown, Trick),
    name: &str,
    code: &str,
) -> Vec<String> {
    for _ in 0..5 {
        dial(rig, name, &format!("127.0.0.1:{}", tricky(shown, trick)));
        rig.start_box(name);
        let faults = faults_of_reason(browser, rig, name, code);
        let holds = reason(rig, name) == code;
        rig.kill_box(name);
        if holds {
            return faults;
        }
    }
    vec![format!("{code} never stays for long enough")]
}

/// The link stood, and broke in one way or another.
#[test]
fn the_link_breaks_when_it_stood() {
    let mut rig = Rig::start(Broker::Embedded);
    rig.kill_hub();
    let certificates = Certificates::new();
    let good = certificates.good();
    let browser = Browser::start();
    let mut faults = Vec::new();
    let port = rig.port;
    for (name, shown, trick, code) in [
        (
            "b-future",
            certificates.of_the_future(),
            Trick::SendsAway,
            "tls-not-yet-valid",
        ),
        (
            "b-client",
            certificates.of_a_client(),
            Trick::SendsAway,
            "tls-bad-certificate",
        ),
        (
            "b-forbidden",
            good.clone(),
            Trick::ForbidsSubscription,
            "subscription-refused",
        ),
        ("b-away", good.clone(), Trick::SendsAway, "broker-left"),
        ("b-over", good.clone(), Trick::HandsOver, "taken-over"),
        ("b-closed", good.clone(), Trick::Closes(1), "closed-by-peer"),
        ("b-again", good.clone(), Trick::Closes(3), "keeps-closing"),
    ] {
        add_box_of(&mut rig, &certificates, name, port);
        faults.extend(judge_while_it_holds(
            &browser,
            &mut rig,
            (&shown, trick),
            name,
            code,
        ));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
