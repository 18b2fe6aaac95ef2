//! What the peers need on a fresh Debian machine, and a folder on a real disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

pub const MOSQUITTO: &str = "/usr/sbin/mosquitto";
/// Debian's own, whose packages apt-get installs.
pub const PYTHON: &str = "/usr/bin/python3";
pub const STRACE: &str = "/usr/bin/strace";

/// Asked by Debian before a service that is being installed is started.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing as root; otherwise says what is missing.
pub fn prepare() -> Result<()> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    ensure!(
        nix::unistd::geteuid().is_root(),
        "not installed here: {0}; as root: apt-get install --no-install-recommends {0}",
        packages.join(" ")
    );
    eprintln!("installing {}", packages.join(" "));
    apt_get(&["--version"]).context("this is no Debian")?;
    let quiet = NoServices::begin()?;
    let install = || {
        let mut arguments = vec!["-qq", "-y", "--no-install-recommends", "install"];
        arguments.extend(&packages);
        apt_get(&arguments)
    };
    // The first try fails on a machine whose package lists are missing or out of date.
    install().or_else(|_| apt_get(&["-qq", "update"]).and_then(|()| install()))?;
    drop(quiet);
    let still = missing();
    ensure!(still.is_empty(), "still missing: {}", still.join(" "));
    Ok(())
}

/// While it lives, Debian does not start the services that are installed.
struct NoServices {
    is_ours: bool,
}

impl NoServices {
    fn begin() -> Result<NoServices> {
        let is_ours = !Path::new(POLICY).exists();
        let guard = NoServices { is_ours };
        if is_ours {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

fn missing() -> Vec<&'static str> {
    let has_paho = || {
        let mut python = Command::new(PYTHON);
        python.args(["-c", "import paho.mqtt.client"]);
        python
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    [
        ("mosquitto", Path::new(MOSQUITTO).exists()),
        ("python3", Path::new(PYTHON).exists()),
        ("python3-paho-mqtt", has_paho()),
        ("strace", Path::new(STRACE).exists()),
    ]
    .into_iter()
    .filter_map(|(package, is_here)| (!is_here).then_some(package))
    .collect()
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(arguments)
        .output()
        .context("apt-get does not start")?;
    if !output.status.success() {
        bail!(
            "apt-get {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// All stores go to the disk that the programs are built on: where the usual folder for temporary
/// files is memory, a sync costs nothing and no byte is written.
pub fn use_real_disk() -> Result<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(folder)?;
    let kind = nix::sys::statfs::statfs(folder)?.filesystem_type();
    ensure!(
        kind != nix::sys::statfs::TMPFS_MAGIC,
        "{} is memory, not a disk: set CARGO_TARGET_DIR",
        folder.display()
    );
    tempfile::env::override_temp_dir(folder)
        .ok()
        .context("the folder for temporary files is set once")
}

/// Names and versions for the table's foot.
pub fn versions() -> String {
    let first_line = |command: &mut Command| {
        let output = command.output().ok();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.and_then(|text| text.lines().next().map(str::to_owned))
            .unwrap_or_default()
    };
    let paho = "import paho.mqtt as m, sys; print('paho', m.__version__, 'on Python', sys.version.split()[0])";
    [
        first_line(Command::new(MOSQUITTO).arg("-h")),
        first_line(Command::new(PYTHON).args(["-c", paho])),
        first_line(Command::new("uname").arg("-sr")),
    ]
    .join(", ")
}
