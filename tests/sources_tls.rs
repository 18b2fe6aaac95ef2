//! Sources that reach their servers by TLS, with real servers: PostgreSQL, MariaDB, Mosquitto, a web
//! service and vsftpd, each with a good certificate, with bad ones, and without TLS.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

#[path = "bed/certificates.rs"]
#[allow(dead_code)]
mod certificates;
#[path = "bed/servers.rs"]
mod servers;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use certificates::{Certificates, Shown};
use lienthong::edge::look::try_source;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use servers::{Mariadb, Postgres, SECRET};

const BASE: &str = "[box]\nid = \"xa-tan-bien\"\nagency = \"H53.12\"\n[hub]\naddresses = [\"truc.example\"]\nreceipt_keys = [\"hub.pub\"]\n[catalogue]\npath = \"CATALOGUE\"\n";
const SELECT: &str = "SELECT 1 AS id, 'H53.12-261120-0001' AS ma_ho_so, '1.001193' AS ma_tthc, 'H53.12' AS co_quan_tiep_nhan, 'H53.12' AS co_quan_giai_quyet, 'ca_nhan' AS loai, 'Ông Thử' AS ten, '2026-11-20 08:00:00' AS ngay_tiep_nhan, 'Mới' AS goc, 'MOI_NOP' AS chuan";
const MAPPED: &str = "[source.columns]\nma_ho_so = \"ma_ho_so\"\nma_tthc = \"ma_tthc\"\nco_quan_tiep_nhan = \"co_quan_tiep_nhan\"\nco_quan_giai_quyet = \"co_quan_giai_quyet\"\nloai = \"nguoi_nop.loai\"\nten = \"nguoi_nop.ho_ten\"\nngay_tiep_nhan = \"ngay_tiep_nhan\"\ngoc = \"trang_thai_goc\"\nchuan = \"trang_thai_chuan\"\n";

/// What stands behind each refusal, in the fault that a person reads.
const STRANGER: &str = "signed by another authority";
const WRONG_NAME: &str = "not for the name";
const EXPIRED: &str = "has expired";
const NO_TLS: &str = "does not encrypt";

/// A configuration with one source.
struct Config {
    folder: tempfile::TempDir,
}

impl Config {
    fn new(source: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
        let base = BASE.replace("CATALOGUE", &catalogue.display().to_string());
        let text = format!("{base}[[source]]\nname = \"nguon\"\n{source}");
        fs::write(folder.path().join("tramd.toml"), text).unwrap();
        fs::write(folder.path().join("secret"), SECRET).unwrap();
        Config { folder }
    }

    /// What a try of the source says, or why it fails.
    async fn tried(&self) -> Result<String, String> {
        let path = self.folder.path().join("tramd.toml");
        let trying = tokio::task::spawn_blocking(move || {
            try_source(&path, "nguon").map_err(|failure| failure.text())
        });
        trying.await.unwrap()
    }
}

/// A server that can show what it is told to.
trait Server {
    /// Starts again with this certificate, or without TLS.
    async fn show(&mut self, shown: Option<&Shown>);
    /// The source's settings, but for the authority.
    fn source(&self) -> String;
    /// The name of the setting.
    const AUTHORITY: &str = "ca";
}

/// The story of every kind: `good` stands in what a try with a good certificate says, `refused` in
/// what is said of a bad one.
async fn is_trusted_only_if_it_should(server: &mut impl Server, good: &str, bad: [&str; 4]) {
    let certificates = Certificates::new();
    let config = |server: &dyn Fn() -> String, authority: &str, setting: &str| {
        let file: PathBuf = certificates.authority(authority);
        Config::new(&server().replace("AUTHORITY", &format!("{setting} = \"{}\"", file.display())))
    };
    async fn with<S: Server>(
        server: &mut S,
        shown: Option<&Shown>,
        config: impl Fn(&dyn Fn() -> String, &str, &str) -> Config,
        authority: &str,
    ) -> Result<String, String> {
        server.show(shown).await;
        let source = || server.source();
        config(&source, authority, S::AUTHORITY).tried().await
    }
    let shown = certificates.good();
    let tried = with(server, Some(&shown), config, "ca").await;
    let tried = tried.expect("a good certificate");
    assert!(tried.contains(good), "{tried}");
    let cases = [
        (Some(shown), "stranger", bad[0]),
        (Some(certificates.of_another_host()), "ca", bad[1]),
        (Some(certificates.expired()), "ca", bad[2]),
        (None, "ca", bad[3]),
    ];
    for (shown, authority, expected) in cases {
        let refused = with(server, shown.as_ref(), config, authority).await;
        let refused = refused.expect_err(expected);
        assert!(refused.contains(expected), "{expected}: {refused}");
        // Both languages, each with what to do.
        assert!(refused.lines().count() >= 4, "{refused}");
    }
}

const REASONS: [&str; 4] = [STRANGER, WRONG_NAME, EXPIRED, NO_TLS];

impl Server for Postgres {
    const AUTHORITY: &str = "tls_ca";

    async fn show(&mut self, shown: Option<&Shown>) {
        let shown = shown.map(|shown| (shown.certificate.as_str(), shown.key.as_str()));
        Postgres::show(self, shown).await;
    }

    fn source(&self) -> String {
        format!(
            "kind = \"sql\"\ndataset = \"ho_so_tthc\"\ndriver = \"postgres\"\nhost = \"127.0.0.1\"\nport = {}\ndatabase = \"postgres\"\nuser = \"postgres\"\npassword_file = \"secret\"\nAUTHORITY\nmode = \"snapshot\"\nkey = [\"id\"]\nquery = \"SELECT a.* FROM ({SELECT}) AS a JOIN pg_stat_ssl ON pid = pg_backend_pid() AND ssl\"\n{MAPPED}",
            self.port
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_trusted_only_if_it_should() {
    let mut server = Postgres::start().await;
    is_trusted_only_if_it_should(&mut server, "1 taken", REASONS).await;
}

impl Server for Mariadb {
    const AUTHORITY: &str = "tls_ca";

    async fn show(&mut self, shown: Option<&Shown>) {
        let shown = shown.map(|shown| (shown.certificate.as_str(), shown.key.as_str()));
        Mariadb::show(self, shown).await;
    }

    fn source(&self) -> String {
        format!(
            "kind = \"sql\"\ndataset = \"ho_so_tthc\"\ndriver = \"mysql\"\nhost = \"127.0.0.1\"\nport = {}\ndatabase = \"motcua\"\nuser = \"chu\"\npassword_file = \"secret\"\nAUTHORITY\nmode = \"snapshot\"\nkey = [\"id\"]\nquery = \"{SELECT} FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher' AND variable_value <> ''\"\n{MAPPED}",
            self.port
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_trusted_only_if_it_should() {
    let mut server = Mariadb::start().await;
    is_trusted_only_if_it_should(&mut server, "1 taken", REASONS).await;
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A program that listens, in a folder of its own, and ends with its owner.
struct Daemon {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Daemon {
    fn new() -> Daemon {
        Daemon {
            folder: tempfile::tempdir().unwrap(),
            port: free_port(),
            child: None,
        }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn restart(&mut self, command: &mut Command) {
        self.stop();
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        for _ in 0..300 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{command:?} does not listen");
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Mosquitto(Daemon);

impl Server for Mosquitto {
    async fn show(&mut self, shown: Option<&Shown>) {
        let daemon = &mut self.0;
        let tls = shown.map_or(String::new(), |shown| {
            let certificate = daemon.file("b.crt", &shown.certificate);
            let key = daemon.file("b.key", &shown.key);
            format!(
                "certfile {}\nkeyfile {}\n",
                certificate.display(),
                key.display()
            )
        });
        let config = format!(
            "listener {} 127.0.0.1\nuser root\nallow_anonymous true\n{tls}",
            daemon.port
        );
        let config = daemon.file("b.conf", &config);
        daemon.restart(Command::new("/usr/sbin/mosquitto").arg("-c").arg(config));
        // A retained message is there for whoever comes.
        let mut publish = Command::new("mosquitto_pub");
        publish
            .args(["-h", "127.0.0.1", "-p", &daemon.port.to_string(), "-r", "-q", "1"])
            .args(["-t", "tram/1", "-m", r#"{"tram":"A","co_so":"KCNA","thoi_diem":"2026-11-20T08:00:00+07:00","gia_tri":[{"k":"COD","v":12.5,"u":"mg/L","s":"00"}]}"#]);
        if let Some(shown) = shown {
            let authority = daemon.file("b.ca", &shown.authority);
            publish.arg("--cafile").arg(authority).arg("--insecure");
        }
        // Whether the publisher trusts it does not matter here.
        let _ = publish.stderr(Stdio::null()).status();
    }

    fn source(&self) -> String {
        format!(
            "kind = \"mqtt\"\ndataset = \"quan_trac_moi_truong\"\nbroker = \"127.0.0.1:{}\"\ntopics = [\"tram/+\"]\nAUTHORITY\n",
            self.0.port
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_trusted_only_if_it_should() {
    let mut server = Mosquitto(Daemon::new());
    let reasons = [
        "tls-unknown-issuer",
        "tls-wrong-name",
        "tls-expired",
        "may not encrypt",
    ];
    is_trusted_only_if_it_should(&mut server, "1 taken", reasons).await;
}

struct Vsftpd(Daemon);

impl Server for Vsftpd {
    async fn show(&mut self, shown: Option<&Shown>) {
        let daemon = &mut self.0;
        let place = daemon.folder.path().display().to_string();
        for folder in ["logger/so-lieu", "empty"] {
            fs::create_dir_all(daemon.folder.path().join(folder)).unwrap();
        }
        daemon.file(
            "logger/so-lieu/TNI_KCNA_NUO001_20261120080500.txt",
            "COD\t12.5\tmg/L\t20261120080500\t00\n",
        );
        let tls = shown.map_or(String::new(), |shown| {
            let both = daemon.file("ftp.pem", &(shown.certificate.clone() + &shown.key));
            format!(
                "ssl_enable=YES\nallow_anon_ssl=YES\nforce_anon_data_ssl=YES\nforce_anon_logins_ssl=YES\nrsa_cert_file={}\nrequire_ssl_reuse=NO\nssl_ciphers=HIGH\nssl_tlsv1=YES\n",
                both.display()
            )
        });
        let config = format!(
            "listen=YES\nlisten_address=127.0.0.1\nlisten_port={}\nbackground=NO\nrun_as_launching_user=YES\nanonymous_enable=YES\nlocal_enable=NO\nno_anon_password=YES\nanon_root={place}/logger\nanon_world_readable_only=NO\nsecure_chroot_dir={place}/empty\nseccomp_sandbox=NO\nxferlog_enable=NO\n{tls}",
            daemon.port
        );
        let config = daemon.file("vsftpd.conf", &config);
        daemon.restart(Command::new("/usr/sbin/vsftpd").arg(config));
    }

    fn source(&self) -> String {
        format!(
            "kind = \"ftp_fetch\"\ndataset = \"quan_trac_moi_truong\"\nserver = \"localhost:{}\"\nfolder = \"so-lieu\"\npatterns = [\"*.txt\"]\npath = \"fetch\"\nAUTHORITY\n",
            self.0.port
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loggers_ftp_is_trusted_only_if_it_should() {
    let mut server = Vsftpd(Daemon::new());
    is_trusted_only_if_it_should(&mut server, "TNI_KCNA_NUO001", REASONS).await;
}

/// A web service that answers every request with one list.
struct Service {
    port: u16,
}

impl Server for Service {
    async fn show(&mut self, shown: Option<&Shown>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.port = listener.local_addr().unwrap().port();
        let tls = shown.map(|shown| {
            let chain = CertificateDer::from_pem_slice(shown.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![chain], key);
            Arc::new(config.unwrap())
        });
        std::thread::spawn(move || {
            // One connection: each test of a certificate asks once.
            let (mut tcp, _) = listener.accept().unwrap();
            tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            match tls {
                None => serve(&mut tcp),
                Some(tls) => {
                    let session = rustls::ServerConnection::new(tls).unwrap();
                    serve(&mut rustls::StreamOwned::new(session, tcp));
                }
            }
        });
    }

    fn source(&self) -> String {
        format!(
            "kind = \"http_pull\"\ndataset = \"quan_trac_moi_truong\"\nurl = \"https://localhost:{}/so-lieu\"\nkey = [\"/tram\"]\nAUTHORITY\n",
            self.port
        )
    }
}

/// Whoever does not trust us hangs up.
fn serve(stream: &mut (impl Read + Write)) {
    let mut request = [0; 4096];
    let Ok(1..) = stream.read(&mut request) else {
        return;
    };
    let body = r#"[{"tram":"A","co_so":"KCNA","thoi_diem":"2026-11-20T08:00:00+07:00","gia_tri":[{"k":"COD","v":12.5,"u":"mg/L","s":"00"}]}]"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream
        .write_all(answer.as_bytes())
        .and_then(|()| stream.flush());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_service_is_trusted_only_if_it_should() {
    let mut server = Service { port: 0 };
    is_trusted_only_if_it_should(&mut server, "1 taken", REASONS).await;
}
