//! The processes of the demo: a hub and its boxes, each this very program under another name, so
//! that the demo needs nothing but itself.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use lienthong::evidence::sha256;
use lienthong::model::{AgencyCode, BoxId};

use crate::office::TOKEN;

/// Datasets that the demo's offices hand in over HTTP: all that the catalogue has.
const STATION_DATASET: &str = "quan_trac_moi_truong";
/// How long an orderly stop may take.
const STOP_STEPS: u32 = 500;
const STEP: Duration = Duration::from_millis(20);
/// So many lines of the log of a process that ended too early are shown.
const LAST_LINES: usize = 20;

/// A process that dies with its owner, and the file that it writes its log to.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn start(name: &str, arguments: &[&str], log: &Path) -> anyhow::Result<Daemon> {
        let file = fs::File::create(log).with_context(|| log.display().to_string())?;
        let child = this_program(name)?
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Daemon {
            child,
            log: log.to_owned(),
        })
    }

    /// How the process has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Fails with what the process last said if it has ended.
    pub fn must_run(&mut self, who: &str) -> anyhow::Result<()> {
        let Some(status) = self.ended() else {
            return Ok(());
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        bail!("{who} ended with {status}:\n{last}")
    }

    /// Asks for an orderly stop and waits; SIGKILL after ten seconds.
    pub fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        for _ in 0..STOP_STEPS {
            if self.ended().is_some() {
                return;
            }
            std::thread::sleep(STEP);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This program under the name of one of the product's, which decides what it is.
fn this_program(name: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg0(name);
    Ok(command)
}

/// Runs one of the hub's own commands to its end.
fn trucd(arguments: &[&str]) -> anyhow::Result<()> {
    let output = this_program("trucd")?
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        bail!(
            "trucd {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// A hub in a folder of its own.
pub struct Hub {
    folder: PathBuf,
    pub port: u16,
}

impl Hub {
    pub fn init(folder: PathBuf) -> anyhow::Result<Hub> {
        let port = free_port()?;
        let listen = format!("127.0.0.1:{port}");
        trucd(&[
            "init",
            text(&folder)?,
            "--listen",
            &listen,
            "--ip",
            "127.0.0.1",
        ])?;
        // A hub that works on this machine has the usual port for its status.
        let drop_ins = folder.join("trucd.d");
        fs::create_dir(&drop_ins)?;
        let settings = format!("[http]\nlisten = \"127.0.0.1:{}\"\n", free_port()?);
        fs::write(drop_ins.join("10-demo.toml"), settings)?;
        Ok(Hub { folder, port })
    }

    fn config(&self) -> PathBuf {
        self.folder.join("trucd.toml")
    }

    pub fn store(&self) -> PathBuf {
        self.folder.join("trucd.db")
    }

    pub fn start(&self) -> anyhow::Result<Daemon> {
        let config = self.config();
        Daemon::start(
            "trucd",
            &["run", "--config", text(&config)?],
            &self.folder.join("trucd.log"),
        )
    }

    /// `trucd verify`: every chain and signature.
    pub fn verify(&self) -> anyhow::Result<()> {
        trucd(&["verify", "--config", text(&self.config())?])
    }

    /// Registers a box that looks for the hub at `hub_port`, and writes its configuration.
    pub fn add_box(
        &self,
        folder: PathBuf,
        box_id: &BoxId,
        agency: &AgencyCode,
        hub_port: u16,
    ) -> anyhow::Result<BoxHome> {
        let (hub, config) = (format!("127.0.0.1:{hub_port}"), self.config());
        trucd(&[
            "box",
            "add",
            box_id.as_str(),
            "--agency",
            agency.as_str(),
            "--hub",
            &hub,
            "--out",
            text(&folder)?,
            "--config",
            text(&config)?,
        ])?;
        let home = BoxHome {
            http_port: free_port()?,
            folder,
        };
        home.write_settings()?;
        Ok(home)
    }
}

/// Where a box of the demo lives.
pub struct BoxHome {
    folder: PathBuf,
    pub http_port: u16,
}

impl BoxHome {
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    pub fn drop_folder(&self) -> PathBuf {
        self.folder.join("tram")
    }

    pub fn start(&self) -> anyhow::Result<Daemon> {
        let config = self.folder.join("tramd.toml");
        Daemon::start("tramd", &[text(&config)?], &self.folder.join("tramd.log"))
    }

    /// What the demo sets beside what `trucd box add` wrote.
    fn write_settings(&self) -> anyhow::Result<()> {
        let catalogue = catalogue_folder()?;
        let token: String = sha256(TOKEN.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        fs::create_dir_all(self.drop_folder())?;
        let drop_ins = self.folder.join("tramd.d");
        fs::create_dir_all(&drop_ins)?;
        let datasets: Vec<String> = dataset_names(&catalogue)?
            .iter()
            .map(|name| format!("{name:?}"))
            .collect();
        let settings = format!(
            "[store]\npath = \"../tramd.db\"\nquota = \"1 GiB\"\nreserve = \"12 MiB\"\n\
             [hub]\nkeep_alive = \"5 s\"\n\
             [http]\nlisten = \"127.0.0.1:{port}\"\n\
             [[http.token]]\nname = \"van-phong\"\nsha256 = \"{token}\"\ndatasets = [{datasets}]\n\
             [catalogue]\npath = {catalogue:?}\n\
             [[source]]\nname = \"quan-trac\"\nkind = \"folder\"\ndataset = \"{STATION_DATASET}\"\n\
             path = \"../tram\"\nformat = \"station\"\nsettle = \"300 ms\"\nrescan = \"2 s\"\n",
            port = self.http_port,
            datasets = datasets.join(", "),
        );
        fs::write(drop_ins.join("10-demo.toml"), settings)?;
        Ok(())
    }
}

/// The catalogue of this checkout, or the installed one.
fn catalogue_folder() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
    let installed = PathBuf::from("/usr/share/lienthong/catalogue");
    [PathBuf::from("catalogue"), here, installed]
        .into_iter()
        .find(|folder| folder.is_dir())
        .and_then(|folder| folder.canonicalize().ok())
        .context("no catalogue folder; run the demo from the checkout")
}

fn dataset_names(catalogue: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(catalogue)? {
        let path = file?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            names.extend(
                path.file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned()),
            );
        }
    }
    names.sort();
    Ok(names)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str()
        .context("the temporary folder's name is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_a_box_are_valid() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BoxHome {
            folder: folder.path().to_owned(),
            http_port: 8480,
        };
        home.write_settings().expect("written");
        let text = fs::read_to_string(folder.path().join("tramd.d/10-demo.toml")).expect("read");
        let config = folder.path().join("tramd.toml");
        let written_by_the_hub = "[box]\nid = \"xa\"\nagency = \"H53.12\"\n\
             [hub]\naddresses = [\"h:8883\"]\nca = \"a\"\ncertificate = \"b\"\nkey = \"c\"\n\
             receipt_keys = [\"d\"]\n";
        fs::write(&config, written_by_the_hub).expect("written");
        let faults = lienthong::edge::config::load::load(&config).err();
        assert!(faults.is_none(), "{text}\n{faults:#?}");
    }
}
