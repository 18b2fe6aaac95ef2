//! Kind `station` to a real OpenSSH server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::live::Daemon;
use crate::stage::{Hub, Office, free_port};
use crate::station::{expected, measurement, tree};
use crate::{configure, until, until_empty};

/// sshd with one key that may log in, as whoever runs the test.
struct Sshd {
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Sshd {
    fn new(folder: &Path) -> Sshd {
        let folder = folder.join("sshd");
        fs::create_dir(&folder).unwrap();
        // Only root's sshd wants this folder, and the package's service makes it at a start.
        if nix::unistd::getuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let sshd = Sshd {
            folder,
            port: free_port(),
            child: None,
        };
        sshd.new_key("host");
        sshd.new_key("stranger");
        sshd.new_key("client");
        fs::copy(sshd.path("client.pub"), sshd.path("authorized")).unwrap();
        let shown = sshd.folder.display();
        let config = format!(
            "ListenAddress 127.0.0.1:{}\nHostKey {shown}/host\nAuthorizedKeysFile {shown}/authorized\n\
             PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n\
             PasswordAuthentication no\nSubsystem sftp internal-sftp\n",
            sshd.port
        );
        fs::write(sshd.path("config"), config).unwrap();
        sshd
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn new_key(&self, name: &str) {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(self.path(name))
            .status()
            .unwrap();
        assert!(made.success());
    }

    /// Writes down whose key the server is to show.
    fn trust(&self, name: &str) {
        let key = fs::read_to_string(self.path(name).with_extension("pub")).unwrap();
        let line = format!("[127.0.0.1]:{} {key}", self.port);
        fs::write(self.path("known_hosts"), line).unwrap();
    }

    fn start(&mut self) {
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(self.path("config"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(self.path("log")).unwrap())
            .spawn()
            .expect("Debian's package openssh-server is installed");
        self.child = Some(child);
        let begin = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let said = fs::read_to_string(self.path("log")).unwrap();
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "sshd does not listen: {said}"
            );
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_reach_an_openssh_server_byte_for_byte_and_no_stranger() {
    let hub = Hub::new();
    let mut sshd = Sshd::new(hub.folder());
    fs::create_dir(hub.path("den")).unwrap();
    let user = nix::unistd::User::from_uid(nix::unistd::getuid());
    configure(
        &hub,
        &format!(
            "[[output]]\nname = \"bo-nnmt\"\nkind = \"station\"\ndatasets = [\"quan_trac_moi_truong\"]\n\
             protocol = \"sftp\"\nserver = \"127.0.0.1:{}\"\nuser = \"{}\"\nkey_file = \"sshd/client\"\n\
             known_hosts = \"sshd/known_hosts\"\nremote = \"{}\"\ntimeout = \"10 s\"\n",
            sshd.port,
            user.unwrap().unwrap().name,
            hub.path("den").display()
        ),
    );
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    office.send((0..10).map(|minute| measurement(minute, false)).collect());
    // Somebody else answers in the server's place.
    sshd.start();
    sshd.trust("stranger");
    let daemon = Daemon::start(&hub).await;
    let standing = until(&hub, "bo-nnmt", "the stranger is told", |standing| {
        standing["state"] == "failed"
    });
    let told = standing["trouble"]["en"].as_str().unwrap().to_lowercase();
    assert!(told.contains("host key"), "{told}");
    assert!(tree(&hub.path("den")).is_empty());
    sshd.trust("host");
    // The hub and the server die on the way.
    until(&hub, "bo-nnmt", "files arrive", |standing| {
        0 < standing["delivered"].as_u64().unwrap_or(0)
    });
    daemon.kill();
    office.send((10..20).map(|minute| measurement(minute, true)).collect());
    let daemon = Daemon::start(&hub).await;
    std::thread::sleep(Duration::from_millis(300));
    sshd.kill();
    std::thread::sleep(Duration::from_millis(300));
    sshd.start();
    let standing = until_empty(&hub, "bo-nnmt");
    assert_eq!(standing["delivered"], 20, "{standing}");
    assert_eq!(tree(&hub.path("den")), expected(20));
    assert_eq!(daemon.stop(), 0);
}
