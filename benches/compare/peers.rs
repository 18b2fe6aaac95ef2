//! The two peers and the data centre that they share: a Mosquitto and a subscriber with SQLite.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use lienthong::hub::authority::{Authority, Issued, PUBLIC, SECRET, write_new};
use lienthong::model::UnixMs;
use nix::sys::signal::Signal;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::link::Road;
use crate::mqtt::{Client, Packet, publish};
use crate::rig::{Process, free_port};
use crate::setup::{MOSQUITTO, PYTHON};
use crate::system::{Door, GROUP, OFFICE, Part, System, Tally};
use crate::wait;

/// Longer than any start takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Messages that a publisher has under way; Mosquitto's own window is raised to the same.
const WINDOW: usize = 1000;

fn topic() -> String {
    format!("ho_so_tthc/{OFFICE}")
}

// ---------------------------------------------------------------------------------- data centre

struct Centre {
    broker: Option<Process>,
    subscriber: Option<Process>,
    database: Connection,
    /// For offices, with TLS.
    port: u16,
    /// For the subscriber beside it.
    inner_port: u16,
    folder: TempDir,
}

impl Centre {
    fn start(autosave_s: u32) -> Result<Centre> {
        let folder = tempfile::tempdir()?;
        write_certificates(&folder.path().join("tls"))?;
        let path = folder.path().join("hub.db");
        // The subscriber makes the table; this only makes the file that is read from.
        Connection::open(&path)?.pragma_update(None, "journal_mode", "WAL")?;
        let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut centre = Centre {
            broker: None,
            subscriber: None,
            database,
            port: free_port(),
            inner_port: free_port(),
            folder,
        };
        let tls = centre.tls();
        let tls = tls.display();
        let settings = format!(
            "listener {} 127.0.0.1\n\
             listener {} 127.0.0.1\n\
             cafile {tls}/ca.crt\ncertfile {tls}/server.crt\nkeyfile {tls}/server.key\n\
             require_certificate true\nuse_identity_as_username true\n",
            centre.inner_port, centre.port,
        );
        configure(centre.folder.path(), "remote", autosave_s, &settings)?;
        centre.start_broker()?;
        centre.start_subscriber()?;
        let ready = centre.folder.path().join("hub.ready");
        wait::until("the subscriber is subscribed", PATIENCE, || ready.exists())?;
        let broker = centre.broker.as_ref().context("started")?;
        save_state(centre.folder.path(), "remote", broker)?;
        Ok(centre)
    }

    fn tls(&self) -> PathBuf {
        self.folder.path().join("tls")
    }

    fn start_broker(&mut self) -> Result<()> {
        self.broker = Some(mosquitto(self.folder.path(), "remote"));
        await_port(self.port)
    }

    fn start_subscriber(&mut self) -> Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("--subscribe")
            .arg(self.folder.path().join("hub.db"))
            .arg(self.inner_port.to_string())
            .arg(topic());
        let log = self.folder.path().join("subscriber.log");
        self.subscriber = Some(Process::start("subscriber", &mut command, &log));
        Ok(())
    }

    fn kill(&mut self, part: Part) -> Result<()> {
        let process = match part {
            Part::Broker => &mut self.broker,
            Part::Office | Part::Hub => &mut self.subscriber,
        };
        process.take().context("it runs")?.kill();
        match part {
            Part::Broker => self.start_broker(),
            Part::Office | Part::Hub => self.start_subscriber(),
        }
    }

    fn pids(&self) -> Vec<u32> {
        let processes = [&self.broker, &self.subscriber];
        processes.into_iter().flatten().map(Process::pid).collect()
    }

    fn held(&self) -> Result<u64> {
        let sql = "SELECT coalesce(max(number), 0) FROM record";
        let mut statement = self.database.prepare_cached(sql)?;
        let held: i64 = statement.query_row([], |row| row.get(0))?;
        Ok(u64::try_from(held)?)
    }

    fn tally(&self) -> Result<Tally> {
        let sql = "SELECT count(DISTINCT record ->> 'ma_ho_so'), count(*) FROM record";
        let mut statement = self.database.prepare(sql)?;
        let (distinct, rows): (i64, i64) =
            statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Tally {
            distinct: u64::try_from(distinct)?,
            rows: u64::try_from(rows)?,
        })
    }
}

/// An authority, a server and a client, with the keys that the product uses too.
fn write_certificates(folder: &Path) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now = UnixMs(i64::try_from(now.as_millis())?);
    let authority = Authority::create(folder, now)?;
    let write = |name: &str, issued: &Issued| -> Result<()> {
        let path = |end: &str| folder.join(format!("{name}.{end}"));
        write_new(&path("crt"), issued.cert_pem.as_bytes(), PUBLIC)?;
        write_new(&path("key"), issued.key_pem.as_bytes(), SECRET)
    };
    write(
        "server",
        &authority.issue_server(&["127.0.0.1".to_owned()], now)?,
    )?;
    write("client", &authority.issue_client(OFFICE, now)?)
}

/// Settings that hold for both brokers, and those of one.
fn configure(folder: &Path, name: &str, autosave_s: u32, settings: &str) -> Result<()> {
    let state = folder.join(name);
    fs::create_dir(&state)?;
    // As root it would become a user who may not read this folder.
    let user = if nix::unistd::geteuid().is_root() {
        "user root\n"
    } else {
        ""
    };
    let text = format!(
        "{user}persistence true\npersistence_location {}/\nautosave_interval {autosave_s}\n\
         max_inflight_messages {WINDOW}\nmax_queued_messages 0\nmax_queued_bytes 0\n\
         allow_anonymous true\nset_tcp_nodelay true\n\
         log_dest stderr\nlog_type error\nlog_type warning\n{settings}",
        state.display()
    );
    Ok(fs::write(folder.join(format!("{name}.conf")), text)?)
}

fn mosquitto(folder: &Path, name: &str) -> Process {
    let mut command = Command::new(MOSQUITTO);
    command.arg("-c").arg(folder.join(format!("{name}.conf")));
    Process::start(name, &mut command, &folder.join(format!("{name}.log")))
}

/// A broker that has been up for days has its sessions on the disk.
fn save_state(folder: &Path, name: &str, broker: &Process) -> Result<()> {
    broker.signal(Signal::SIGUSR1);
    let file = folder.join(name).join("mosquitto.db");
    wait::until("the broker has saved its state", PATIENCE, || file.exists())
}

fn await_port(port: u16) -> Result<()> {
    wait::until("something listens", PATIENCE, || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    })
}

// --------------------------------------------------------------------------------------- bridge

/// Mosquitto at the office, with a bridge to the one at the data centre.
pub struct Bridge {
    broker: Option<Process>,
    publisher: Option<Client>,
    number: u16,
    port: u16,
    road: Road,
    centre: Centre,
}

impl Bridge {
    pub fn start(autosave_s: u32) -> Result<Bridge> {
        let centre = Centre::start(autosave_s)?;
        let road = Road::to(centre.port)?;
        let port = free_port();
        let tls = centre.tls();
        let tls = tls.display();
        let settings = format!(
            "listener {port} 127.0.0.1\n\
             connection centre\naddress 127.0.0.1:{}\ntopic ho_so_tthc/# out 1\n\
             remote_clientid {OFFICE}\ncleansession false\nnotifications false\n\
             restart_timeout 1\nkeepalive_interval 30\n\
             bridge_cafile {tls}/ca.crt\nbridge_certfile {tls}/client.crt\n\
             bridge_keyfile {tls}/client.key\n",
            road.port()
        );
        let folder = centre.folder.path();
        configure(folder, "local", autosave_s, &settings)?;
        let broker = mosquitto(folder, "local");
        await_port(port)?;
        save_state(folder, "local", &broker)?;
        let mut publisher = Client::connect(port, "office")?;
        let mut is_connected = false;
        while !is_connected {
            publisher.receive(|packet| is_connected |= matches!(packet, Packet::Connected))?;
        }
        Ok(Bridge {
            broker: Some(broker),
            publisher: Some(publisher),
            number: 0,
            port,
            road,
            centre,
        })
    }

    /// Publishes with so many messages under way at most.
    fn publish(&mut self, records: &[String], window: usize) -> Result<()> {
        let publisher = self.publisher.as_mut().context("connected")?;
        let topic = topic();
        let mut under_way = 0;
        for records in records.chunks(window.div_ceil(2)) {
            wait::check()?;
            let mut bytes = Vec::new();
            for record in records {
                self.number = self.number.checked_add(1).unwrap_or(1);
                bytes.extend_from_slice(&publish(&topic, self.number, record.as_bytes()));
            }
            publisher.send(&bytes)?;
            under_way += records.len();
            await_acknowledgements(publisher, &mut under_way, window / 2)?;
        }
        await_acknowledgements(publisher, &mut under_way, 0)
    }
}

fn await_acknowledgements(
    publisher: &mut Client,
    under_way: &mut usize,
    most: usize,
) -> Result<()> {
    while most < *under_way {
        publisher.receive(|packet| {
            if matches!(packet, Packet::Acknowledged) {
                *under_way -= 1;
            }
        })?;
    }
    Ok(())
}

impl System for Bridge {
    fn road(&mut self) -> &mut Road {
        &mut self.road
    }

    fn hand_in_singly(&mut self, records: &[String]) -> Result<()> {
        self.publish(records, 1)
    }

    fn hand_in(&mut self, records: &[String]) -> Result<()> {
        self.publish(records, WINDOW)
    }

    fn kill(&mut self, part: Part) -> Result<()> {
        if part != Part::Office {
            return self.centre.kill(part);
        }
        self.publisher = None;
        self.broker.take().context("it runs")?.kill();
        self.broker = Some(mosquitto(self.centre.folder.path(), "local"));
        await_port(self.port)
    }

    fn office(&self) -> u32 {
        self.broker.as_ref().map_or(0, Process::pid)
    }

    fn centre(&self) -> Vec<u32> {
        self.centre.pids()
    }

    fn held(&mut self) -> Result<u64> {
        self.centre.held()
    }

    fn tally(&mut self) -> Result<Tally> {
        self.centre.tally()
    }
}

// ------------------------------------------------------------------------------- in-house script

/// `in_house.py` at the office.
pub struct InHouse {
    script: Option<Process>,
    door: Door,
    port: u16,
    road: Road,
    centre: Centre,
}

impl InHouse {
    pub fn start(autosave_s: u32) -> Result<InHouse> {
        let centre = Centre::start(autosave_s)?;
        let port = free_port();
        let mut peer = InHouse {
            script: None,
            door: Door::new(format!("http://127.0.0.1:{port}/"), String::new()),
            port,
            road: Road::to(centre.port)?,
            centre,
        };
        peer.start_script()?;
        Ok(peer)
    }

    fn start_script(&mut self) -> Result<()> {
        let folder = self.centre.folder.path();
        let mut command = Command::new(PYTHON);
        command
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/benches/compare/in_house.py"
            ))
            .arg(folder.join("outbox.db"))
            .args([self.port, self.road.port()].map(|port| port.to_string()))
            .arg(topic())
            .arg(self.centre.tls());
        let log = folder.join("in_house.log");
        self.script = Some(Process::start("in_house.py", &mut command, &log));
        await_port(self.port)
    }
}

impl System for InHouse {
    fn road(&mut self) -> &mut Road {
        &mut self.road
    }

    fn hand_in_singly(&mut self, records: &[String]) -> Result<()> {
        self.door.hand_in(records, 1)
    }

    fn hand_in(&mut self, records: &[String]) -> Result<()> {
        self.door.hand_in(records, GROUP)
    }

    fn kill(&mut self, part: Part) -> Result<()> {
        if part != Part::Office {
            return self.centre.kill(part);
        }
        self.script.take().context("it runs")?.kill();
        self.start_script()
    }

    fn office(&self) -> u32 {
        self.script.as_ref().map_or(0, Process::pid)
    }

    fn centre(&self) -> Vec<u32> {
        self.centre.pids()
    }

    fn held(&mut self) -> Result<u64> {
        self.centre.held()
    }

    fn tally(&mut self) -> Result<Tally> {
        self.centre.tally()
    }
}
