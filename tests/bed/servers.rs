//! Database servers of the tests' own: on loopback, in temporary folders, gone with their owner.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const SECRET: &str = "mat-khau-thu-nghiem";
const POSTGRES: &str = "/usr/lib/postgresql/15/bin";
/// Servers refuse to run as root.
const NOBODY: u32 = 65_534;
const START_TRIES: u32 = 300;

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A command that runs without root's rights.
fn unprivileged(program: &str) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([
        &format!("--reuid={NOBODY}"),
        &format!("--regid={NOBODY}"),
        "--clear-groups",
        program,
    ]);
    command
}

fn own(path: &Path) {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

pub struct Postgres {
    folder: tempfile::TempDir,
    pub port: u16,
    child: Option<Child>,
}

/// Puts a server's certificate and key into its folder, for it alone; none takes them away.
#[allow(dead_code)]
fn show(folder: &Path, shown: Option<(&str, &str)>) {
    for (name, content) in [
        ("tls.crt", shown.map(|pair| pair.0)),
        ("tls.key", shown.map(|pair| pair.1)),
    ] {
        let file = folder.join(name);
        let _ = std::fs::remove_file(&file);
        let Some(content) = content else {
            continue;
        };
        std::fs::write(&file, content).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode).unwrap();
        own(&file);
    }
}

impl Postgres {
    pub async fn start() -> Postgres {
        let folder = tempfile::tempdir().unwrap();
        own(folder.path());
        let secret = folder.path().join("secret");
        std::fs::write(&secret, SECRET).unwrap();
        own(&secret);
        done(
            unprivileged(&format!("{POSTGRES}/initdb"))
                .args(["-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"])
                .args(["--auth=scram-sha-256", "--pwfile"])
                .arg(&secret)
                .arg("-D")
                .arg(folder.path().join("data"))
                .current_dir("/"),
        );
        let mut server = Postgres {
            folder,
            port: free_port(),
            child: None,
        };
        server.run().await;
        server
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts again with this certificate and key, or without TLS.
    #[allow(dead_code)]
    pub async fn show(&mut self, shown: Option<(&str, &str)>) {
        self.stop();
        show(self.folder.path(), shown);
        self.run().await;
    }

    /// Starts the server again after `stop`.
    pub async fn run(&mut self) {
        let tls = ["crt", "key"].map(|end| self.folder.path().join(format!("tls.{end}")));
        let ssl = if tls[0].exists() { "ssl=on" } else { "ssl=off" };
        let log = self.folder.path().join("log");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let child = unprivileged(&format!("{POSTGRES}/postgres"))
            .arg("-D")
            .arg(self.data())
            .args([
                "-p",
                &self.port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
            ])
            .args([
                "-c",
                "fsync=off",
                "-c",
                "max_connections=20",
                "-c",
                "timezone=Asia/Ho_Chi_Minh",
            ])
            .args(["-c", "unix_socket_directories=", "-c", ssl])
            .args(["-c", &format!("ssl_cert_file={}", tls[0].display())])
            .args(["-c", &format!("ssl_key_file={}", tls[1].display())])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .current_dir("/")
            .spawn()
            .unwrap();
        self.child = Some(child);
        for _ in 0..START_TRIES {
            if self.connect().await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        panic!("PostgreSQL does not start:\n{log}");
    }

    pub async fn connect(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user("postgres")
            .password(SECRET)
            .dbname("postgres")
            .connect(tokio_postgres::NoTls)
            .await?;
        tokio::spawn(async { drop(connection.await) });
        Ok(client)
    }

    /// Ends the server at once, as a power cut of the office's machine would.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGQUIT);
            let _ = child.wait();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

pub struct Mariadb {
    folder: tempfile::TempDir,
    pub port: u16,
    child: Option<Child>,
}

impl Mariadb {
    pub async fn start() -> Mariadb {
        let folder = tempfile::tempdir().unwrap();
        own(folder.path());
        let data = folder.path().join("data");
        done(
            unprivileged("mariadb-install-db")
                .arg("--no-defaults")
                .arg(format!("--datadir={}", data.display()))
                .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
                .current_dir("/"),
        );
        let mut server = Mariadb {
            folder,
            port: free_port(),
            child: None,
        };
        server.run().await;
        let mut root = server.connect_as("root", "").await.unwrap();
        for statement in [
            "CREATE DATABASE motcua CHARACTER SET utf8mb4".to_owned(),
            format!("CREATE USER 'chu'@'%' IDENTIFIED BY '{SECRET}'"),
            "GRANT ALL ON motcua.* TO 'chu'@'%'".to_owned(),
        ] {
            mysql_async::prelude::Queryable::query_drop(&mut root, statement)
                .await
                .unwrap();
        }
        server
    }

    /// Starts again with this certificate and key, or without TLS.
    #[allow(dead_code)]
    pub async fn show(&mut self, shown: Option<(&str, &str)>) {
        self.stop();
        show(self.folder.path(), shown);
        self.run().await;
    }

    pub async fn run(&mut self) {
        let path = self.folder.path();
        let tls = ["crt", "key"].map(|end| path.join(format!("tls.{end}")));
        let tls = match tls[0].exists() {
            true => vec![
                format!("--ssl-cert={}", tls[0].display()),
                format!("--ssl-key={}", tls[1].display()),
            ],
            false => vec!["--skip-ssl".to_owned()],
        };
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path.join("log"))
            .unwrap();
        let child = unprivileged("mariadbd")
            .arg("--no-defaults")
            .arg(format!("--datadir={}", path.join("data").display()))
            .arg(format!("--socket={}", path.join("s").display()))
            .arg(format!("--pid-file={}", path.join("pid").display()))
            .args(["--bind-address=127.0.0.1", &format!("--port={}", self.port)])
            .args(tls)
            .args([
                "--innodb-flush-log-at-trx-commit=2",
                "--innodb-buffer-pool-size=32M",
            ])
            .args([
                "--log-bin-trust-function-creators=1",
                "--default-time-zone=+00:00",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .current_dir("/")
            .spawn()
            .unwrap();
        self.child = Some(child);
        for _ in 0..START_TRIES {
            if self.connect_as("root", "").await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let log = std::fs::read_to_string(path.join("log")).unwrap();
        panic!("MariaDB does not start:\n{log}");
    }

    pub async fn connect_as(
        &self,
        user: &str,
        secret: &str,
    ) -> mysql_async::Result<mysql_async::Conn> {
        let options = mysql_async::OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .prefer_socket(false)
            .user(Some(user))
            .pass(Some(secret))
            .db_name((user != "root").then_some("motcua"));
        mysql_async::Conn::new(options).await
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        self.stop();
    }
}
