//! Kind `webhook` to a real TLS server, which is believed only with the right certificate.

use std::fs;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificates::{Certificates, Shown};
use crate::live::Daemon;
use crate::stage::{Hub, Office, free_port};
use crate::webhook::{Target, assert_complete, output_to};
use crate::{until, until_empty};

/// Connections whose handshake has ended well.
struct Door {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for Door {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (tcp, peer) = self.tcp.accept().await.unwrap();
            // Whoever does not believe us hangs up.
            if let Ok(stream) = self.tls.accept(tcp).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

async fn serve(target: &Target, port: u16, shown: &Shown) -> tokio::task::JoinHandle<()> {
    let chain = CertificateDer::from_pem_slice(shown.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let door = Door {
        tcp: TcpListener::bind(("127.0.0.1", port)).await.unwrap(),
        tls: TlsAcceptor::from(std::sync::Arc::new(config)),
    };
    let router = target.router();
    tokio::spawn(async move { axum::serve(door, router).await.unwrap() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_service_gets_events_only_when_it_proves_who_it_is() {
    let hub = Hub::new();
    let (port, target, certificates) = (free_port(), Target::default(), Certificates::new());
    fs::copy(certificates.authority("ca"), hub.path("ca.pem")).unwrap();
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    output_to(
        &hub,
        &format!("https://localhost:{port}/nhan"),
        "ca = \"ca.pem\"\n",
    );
    office.send(crate::steps(0, 30));
    for wrong in [certificates.of_another_host(), certificates.expired()] {
        let server = serve(&target, port, &wrong).await;
        let daemon = Daemon::start(&hub).await;
        let standing = until(&hub, "day", "the fault is told", |standing| {
            standing["state"] == "failed"
        });
        let told = standing["trouble"]["en"].as_str().unwrap().to_lowercase();
        assert!(told.contains("certificate"), "{told}");
        assert_eq!(standing["waiting"], 30, "{standing}");
        daemon.kill();
        server.abort();
        // The port is free when the task is gone.
        assert!(server.await.is_err());
    }
    assert!(target.kept().is_empty(), "somebody else was told");
    let _server = serve(&target, port, &certificates.good()).await;
    let daemon = Daemon::start(&hub).await;
    until_empty(&hub, "day");
    assert_complete(&target.kept(), 30);
    assert_eq!(daemon.stop(), 0);
}
