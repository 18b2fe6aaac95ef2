//! What the job asks of a system, whichever it is.

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::link::Road;
use crate::peers::{Bridge, InHouse};
use crate::product::Product;

/// The box at the office, and its place in the topics of the peers.
pub const OFFICE: &str = "xa-tan-bien";
/// Records in one request over HTTP.
pub const GROUP: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Product,
    Bridge,
    InHouse,
}

/// What `kill -9` is done to; it is started again at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What has accepted the records.
    Office,
    /// What the office's line ends at.
    Broker,
    /// What writes the hub's database.
    Hub,
}

/// What the hub's database holds.
pub struct Tally {
    /// Dossiers, each counted once.
    pub distinct: u64,
    pub rows: u64,
}

/// A system that runs: an office and a data centre, with a line between them that is down.
pub trait System {
    fn road(&mut self) -> &mut Road;
    /// Returns when each record has been acknowledged; one at a time.
    fn hand_in_singly(&mut self, records: &[String]) -> Result<()>;
    /// Returns when all are acknowledged, on the quickest way that the system has.
    fn hand_in(&mut self, records: &[String]) -> Result<()>;
    fn kill(&mut self, part: Part) -> Result<()>;
    /// The process at the office.
    fn office(&self) -> u32;
    /// The processes at the data centre.
    fn centre(&self) -> Vec<u32>;
    /// Rows in the hub's database, cheap enough to be asked often.
    fn held(&mut self) -> Result<u64>;
    fn tally(&mut self) -> Result<Tally>;
}

impl Kind {
    pub fn label(self) -> &'static str {
        match self {
            Kind::Product => "**product**",
            Kind::Bridge => "Mosquitto bridge",
            Kind::InHouse => "in-house script",
        }
    }

    /// The product's broker and hub are one process.
    pub fn parts(self) -> &'static [Part] {
        match self {
            Kind::Product => &[Part::Office, Part::Hub],
            Kind::Bridge | Kind::InHouse => &[Part::Office, Part::Broker, Part::Hub],
        }
    }

    pub fn part_label(self, part: Part) -> &'static str {
        match (self, part) {
            (Kind::Product, Part::Office) => "box",
            (Kind::Product, Part::Broker | Part::Hub) => "hub with its broker",
            (Kind::Bridge, Part::Office) => "local broker",
            (Kind::InHouse, Part::Office) => "script",
            (_, Part::Broker) => "remote broker",
            (_, Part::Hub) => "subscriber",
        }
    }

    pub fn start(self, autosave_s: u32) -> Result<Box<dyn System>> {
        Ok(match self {
            Kind::Product => Box::new(Product::start()?),
            Kind::Bridge => Box::new(Bridge::start(autosave_s)?),
            Kind::InHouse => Box::new(InHouse::start(autosave_s)?),
        })
    }
}

/// Where records are handed in over HTTP.
pub struct Door {
    agent: ureq::Agent,
    url: String,
    authorization: String,
}

impl Door {
    pub fn new(url: String, authorization: String) -> Door {
        let agent = ureq::Agent::config_builder().build().into();
        Door {
            agent,
            url,
            authorization,
        }
    }

    pub fn hand_in(&self, records: &[String], group: usize) -> Result<()> {
        for group in records.chunks(group) {
            crate::wait::check()?;
            let answer = self
                .agent
                .post(&self.url)
                .header("authorization", &self.authorization)
                .header("content-type", "application/x-ndjson")
                .send(group.join("\n"))?;
            ensure!(
                matches!(answer.status().as_u16(), 201 | 204),
                "{} answers {}",
                self.url,
                answer.status()
            );
            // Only an answer that was read lets the connection be used again.
            answer.into_body().read_to_vec()?;
        }
        Ok(())
    }
}
