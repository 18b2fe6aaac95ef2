//! The same job on the product and on what people use today, on one machine, in one table:
//! `cargo bench --bench compare` in minutes, `-- --quick` in two, `-- --full` in an hour.
//!
//! N records of 500 bytes are handed in while the line between office and data centre is down; the
//! line comes back; the clock runs until the hub's database holds all N exactly once. Real
//! processes, TLS with client certificates over a line that is counted and shaped, everything on
//! loopback. The peers are Debian's Mosquitto with a bridge, and the script beside this file; both
//! deliver to a Mosquitto whose subscriber commits to SQLite before it acknowledges.

#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for and timed by the real clock"
)]

mod dossier;
mod job;
mod limits;
mod link;
mod mqtt;
mod peers;
mod process;
mod product;
#[path = "../../tests/e2e/rig.rs"]
#[allow(dead_code)]
mod rig;
mod setup;
mod subscriber;
mod syncs;
mod system;
mod table;
mod wait;
#[path = "../../src/bin/demo/wan.rs"]
#[allow(dead_code)]
mod wan;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use job::{Job, Moment};
use limits::Limits;
use link::{Emulation, Link};
use system::{Kind, Part};
use table::{KillRow, Row};

/// The product beside a Mosquitto bridge and an in-house script, on the same job.
#[derive(Parser)]
struct Arguments {
    /// Records for the product and the bridge; the script, which is slower, gets a fifth.
    #[arg(long)]
    records: Option<u32>,
    /// Runs of each system over each line; the table shows medians.
    #[arg(long)]
    runs: Option<usize>,
    /// Runs with a kill for each part and moment.
    #[arg(long)]
    kills: Option<usize>,
    /// A small run, kills over the plain line only.
    #[arg(long)]
    quick: bool,
    /// 100,000 records, five runs of everything.
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Only these systems.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Product, Kind::Bridge, Kind::InHouse])]
    systems: Vec<Kind>,
    /// Only these lines.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Link::Plain, Link::Shaped])]
    links: Vec<Link>,
    /// How often Mosquitto saves its memory; its own default, 1,800 s, saves nothing in a run.
    #[arg(long, default_value_t = 5)]
    autosave_s: u32,
    /// Of the random moments of the kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the subscriber at the data centre: database, port, topic.
    #[arg(long, hide = true, num_args = 3)]
    subscribe: Option<Vec<String>>,
}

/// What is run, with all defaults filled in.
struct Plan {
    arguments: Arguments,
    records: Vec<String>,
    runs: usize,
    kills: usize,
    silence: Duration,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    if let Some([database, port, topic]) = arguments.subscribe.as_deref() {
        return subscriber::run(Path::new(database), port.parse()?, topic);
    }
    wait::listen_for_interrupts()?;
    setup::prepare()?;
    setup::use_real_disk()?;
    let plan = Plan::new(arguments);
    let load = load_average();
    let emulation = emulation()?;
    let limits = Limits::measure(&plan.records)?;
    let rows = plan.measure()?;
    let kills = plan.kill()?;
    println!("{}", plan.heading(&load, &emulation));
    println!("{}", table::render(&rows, &kills, &limits));
    println!("{}", plan.notes());
    Ok(())
}

impl Plan {
    fn new(arguments: Arguments) -> Plan {
        let (records, runs, kills, silence_s) = match (arguments.quick, arguments.full) {
            (true, _) => (2_000, 1, 1, 8),
            (_, true) => (100_000, 5, 5, 20),
            _ => (10_000, 5, 1, 12),
        };
        let records = arguments.records.unwrap_or(records).max(10);
        Plan {
            records: (0..records).map(dossier::record).collect(),
            runs: arguments.runs.unwrap_or(runs).max(1),
            kills: arguments.kills.unwrap_or(kills),
            silence: Duration::from_secs(silence_s),
            arguments,
        }
    }

    fn job(&self, kind: Kind, link: Link) -> Job<'_> {
        let records = match kind {
            Kind::Product | Kind::Bridge => self.records.len(),
            Kind::InHouse => self.records.len().div_ceil(5),
        };
        Job {
            kind,
            link,
            records: &self.records[..records],
            autosave_s: self.arguments.autosave_s,
            silence: self.silence,
        }
    }

    /// The systems take turns, so that what disturbs the machine disturbs them all.
    fn measure(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for &kind in &self.arguments.systems {
            eprintln!("{kind:?}: counting syncs");
            let mut job = self.job(kind, Link::Plain);
            job.records = &job.records[..job.records.len().min(2_000)];
            let syncs = match job::count_syncs(&job) {
                Ok(syncs) => Some(syncs),
                Err(error) => {
                    wait::check()?;
                    eprintln!("syncs are not counted: {error:#}");
                    None
                }
            };
            for &link in &self.arguments.links {
                rows.push(Row {
                    kind,
                    link,
                    records: self.job(kind, link).records.len(),
                    runs: Vec::new(),
                    syncs,
                });
            }
        }
        for run in 1..=self.runs {
            for row in &mut rows {
                let measured = job::measure(&self.job(row.kind, row.link))
                    .with_context(|| format!("{:?} over the {:?} line", row.kind, row.link))?;
                eprintln!(
                    "{:?}, {:?}, run {run}: held after {:.2} s, {:.0} records/s, {} lost, {} twice",
                    row.kind,
                    row.link,
                    measured.survived.drain_s,
                    measured.stream_per_s,
                    measured.survived.lost,
                    measured.survived.twice,
                );
                row.runs.push(measured);
            }
        }
        Ok(rows)
    }

    fn kill(&self) -> Result<Vec<KillRow>> {
        let mut rows = Vec::new();
        let mut dice = self.arguments.seed;
        for &link in &self.arguments.links {
            if self.arguments.quick && link == Link::Shaped {
                continue;
            }
            for &kind in &self.arguments.systems {
                let in_the_drain = kind
                    .parts()
                    .iter()
                    .map(|&part| (part, Moment::InTheDrain(0.0)));
                let all = [(Part::Office, Moment::AfterLastAcknowledgement)]
                    .into_iter()
                    .chain(in_the_drain);
                for (part, moment) in all {
                    rows.push(self.kill_runs(kind, link, part, moment, &mut dice)?);
                }
            }
        }
        Ok(rows)
    }

    fn kill_runs(
        &self,
        kind: Kind,
        link: Link,
        part: Part,
        moment: Moment,
        dice: &mut u64,
    ) -> Result<KillRow> {
        let job = self.job(kind, link);
        let mut runs = Vec::new();
        for run in 1..=self.kills {
            let moment = match moment {
                Moment::InTheDrain(_) => Moment::InTheDrain(0.1 + 0.8 * share(dice)),
                Moment::AfterLastAcknowledgement => moment,
            };
            let survived = job::survive(&job, part, moment).with_context(|| {
                format!("{kind:?} over the {link:?} line, kill of {part:?} {moment:?}")
            })?;
            eprintln!(
                "{kind:?}, {link:?}, kill of {part:?} {moment:?}, run {run}: held after {:.2} s, {} lost, {} twice",
                survived.drain_s, survived.lost, survived.twice,
            );
            runs.push(survived);
        }
        Ok(KillRow {
            kind,
            link,
            records: job.records.len(),
            part,
            moment,
            runs,
        })
    }

    fn heading(&self, load: &str, emulation: &Emulation) -> String {
        format!(
            "## Beside what people use today, {}\n\n\
             `cargo bench --bench compare -- --records {} --runs {} --kills {} --seed {}` on {}; load \
             average at the start {load}. {}. The emulated line passes {:.1} % and {:.1} % of 20 Mbit/s, \
             up and down, in a plain copy, with a round trip of {:.1} ms.\n",
            jiff::Timestamp::now().strftime("%-d %B %Y, %H:%M UTC"),
            self.records.len(),
            self.runs,
            self.kills,
            self.arguments.seed,
            machine(),
            setup::versions(),
            emulation.shares[0] * 100.0,
            emulation.shares[1] * 100.0,
            emulation.round_trip_ms,
        )
    }

    fn notes(&self) -> String {
        format!(
            "Medians of {} runs; in parentheses the multiple of the product's value over the same line. \
             *In groups*: {} records a request for the product and the script, up to 1,000 messages under \
             way for the bridge. *Until all held* counts from the return of the line, *stream* from the \
             first record that the hub's database held. Written bytes, syncs and memory are those of \
             the process at the office (the box, the local Mosquitto, the script); syncs are counted in \
             a run of their own, handed in in groups; bytes on the wire are those inside TCP. A part that \
             is killed is started again at once; *lost* is what the hub's database did not hold after \
             {} s without any addition, *held twice* the rows beyond one for each dossier. Mosquitto keeps \
             its queue in memory and saves it every {} s; its bridge is told to try again after 1 s. The bound of the stream is SQLite's with bare \
             rows over the plain line, the line's with bare zstd-1 batches over the emulated one.",
            self.runs,
            system::GROUP,
            self.silence.as_secs(),
            self.arguments.autosave_s,
        )
    }
}

/// A line that costs by itself would be measured instead of the systems.
fn emulation() -> Result<Emulation> {
    let mut tries = 0;
    loop {
        let emulation = Emulation::measure()?;
        eprintln!(
            "emulated line: {:.3} and {:.3} of 20 Mbit/s, {:.1} ms",
            emulation.shares[0], emulation.shares[1], emulation.round_trip_ms
        );
        if emulation.shares.iter().all(|&share| 0.97 <= share) {
            return Ok(emulation);
        }
        tries += 1;
        ensure!(
            tries < 3,
            "the emulated line passes less than 97 % of its rate: is the machine busy?"
        );
    }
}

/// The next of a row of numbers from 0 to 1 (SplitMix64).
fn share(dice: &mut u64) -> f64 {
    *dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *dice;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores of {name}")
}
