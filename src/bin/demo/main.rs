//! The product on one machine: a hub, three boxes with their offices, and a WAN that breaks. At the
//! end, the proof: what the offices' sources had accepted against what the hub's database holds.

mod fleet;
mod generator;
mod office;
mod proof;
mod show;
mod wan;
mod wan_script;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use lienthong::edge::status::Status;
use lienthong::model::{AgencyCode, BoxId, UnixMs};
use lienthong::shell::clock::Clock;
use lienthong::store::hub_view::HubView;

use fleet::{BoxHome, Daemon, Hub};
use generator::{Generator, Profile};
use office::{Doors, Ledger, Office, done_files};
use show::{Row, Screen};
use wan::{Line, Wan};
use wan_script::Script;

/// How long the boxes may take to deliver everything once the lines are whole again.
const DRAIN: Duration = Duration::from_secs(150);

/// A hub, boxes, and a WAN that breaks, on this machine.
#[derive(Parser)]
struct Arguments {
    /// End after so long (such as 60s or 5min) with the proof; without it, run until Ctrl-C.
    #[arg(long = "for", value_parser = duration)]
    lasts: Option<Duration>,
    /// How many boxes; 151 rehearses a province.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=400))]
    boxes: u16,
    /// How much faster than the load model the offices work; by default what this machine bears.
    #[arg(long)]
    speed: Option<f64>,
    /// Decides the records and when the lines break.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep stores and logs in this folder, which must not exist yet.
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    // Hub and boxes are this program under their own names, each in its own process.
    let name = std::env::args_os().next().map(PathBuf::from);
    match name
        .as_deref()
        .and_then(Path::file_name)
        .and_then(OsStr::to_str)
    {
        Some("trucd") => return lienthong::hub::commands::main(),
        Some("tramd") => return tramd(),
        _ => {}
    }
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `tramd run` with the configuration that is the only argument.
fn tramd() -> ExitCode {
    let config = PathBuf::from(std::env::args_os().nth(1).unwrap_or_default());
    match lienthong::edge::run::run(&config, None) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.text());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// One box with its line, its office, and what it runs as.
struct Site {
    box_id: BoxId,
    home: BoxHome,
    wan: Wan,
    daemon: Daemon,
    office: Office,
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let clock = Clock::start(UnixMs(0));
    let folder = Folder::new(arguments.keep.clone(), clock.now().wall)?;
    let hub = Hub::init(folder.path.join("hub"))?;
    let mut hub_daemon = hub.start()?;
    let speed = arguments
        .speed
        .unwrap_or(4_000.0 / f64::from(arguments.boxes.max(3)));
    let mut sites = Vec::new();
    for number in 0..arguments.boxes {
        let place = Place::new(number)?;
        let target = ([127, 0, 0, 1], hub.port).into();
        let wan = runtime.block_on(Wan::start(target, wan_script::open()))?;
        let home = hub.add_box(
            folder.path.join(place.box_id.as_str()),
            &place.box_id,
            &place.agency,
            wan.address.port(),
        )?;
        let daemon = home.start()?;
        let seed = arguments
            .seed
            .wrapping_mul(1_000)
            .wrapping_add(u64::from(number));
        let generator = Generator::new(seed, place.profile, place.agency);
        let doors = Doors {
            url: home.url(),
            drop_folder: home.drop_folder(),
        };
        let office = Office::open(clock.clone(), generator, place.profile, speed, doors);
        if number < 5 {
            let daily = place.profile.messages_per_day();
            let name = place.box_id.as_str();
            println!(
                "{name:<14} {}  {daily} records a day, played {speed:.0} times as fast",
                home.url()
            );
        }
        sites.push(Site {
            box_id: place.box_id,
            home,
            wan,
            daemon,
            office,
        });
    }
    println!("the stores and logs lie in {}", folder.path.display());
    live(
        arguments,
        &runtime,
        &clock,
        &hub,
        &mut hub_daemon,
        &mut sites,
    )?;
    println!("the offices close, the lines are whole again");
    for site in &mut sites {
        site.office.close();
        site.wan.set(Line::FREE);
    }
    drain(&clock, &sites)?;
    for site in &mut sites {
        site.daemon.stop();
    }
    hub_daemon.stop();
    prove(&hub, &sites)
}

/// Breaks the lines and shows what happens, until the time is over or Ctrl-C.
fn live(
    arguments: &Arguments,
    runtime: &tokio::runtime::Runtime,
    clock: &Clock,
    hub: &Hub,
    hub_daemon: &mut Daemon,
    sites: &mut [Site],
) -> anyhow::Result<()> {
    let begun_ms = clock.mono_ms();
    let mut scripts: Vec<(Script, u64)> = (0..sites.len() as u64)
        .map(|number| {
            (
                Script::new(arguments.seed.wrapping_mul(77).wrapping_add(number)),
                0,
            )
        })
        .collect();
    let stop = runtime.spawn(tokio::signal::ctrl_c());
    let mut screen = Screen::new();
    let mut drawn_ms = 0;
    loop {
        let now_ms = clock.mono_ms() - begun_ms;
        let over = arguments
            .lasts
            .is_some_and(|lasts| lasts.as_millis() as u64 <= now_ms);
        if over || stop.is_finished() {
            return Ok(());
        }
        hub_daemon.must_run("the hub")?;
        for (site, (script, until_ms)) in sites.iter_mut().zip(&mut scripts) {
            site.daemon.must_run(site.box_id.as_str())?;
            if *until_ms <= now_ms
                && let Some(scene) = script.next()
            {
                site.wan.set(scene.line);
                *until_ms = now_ms + scene.lasts.as_millis() as u64;
            }
        }
        if drawn_ms + screen.pause().as_millis() as u64 <= now_ms {
            drawn_ms = now_ms;
            screen.draw(now_ms / 1000, &rows(hub, sites));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn rows(hub: &Hub, sites: &[Site]) -> Vec<Row> {
    let received = received(hub).unwrap_or_default();
    sites
        .iter()
        .enumerate()
        .map(|(number, site)| Row {
            box_id: site.box_id.clone(),
            handed_in: site.office.ledger.handed_in.load(Ordering::Relaxed),
            received: received.get(&site.box_id).copied().unwrap_or(0),
            line: site.wan.line(),
            // With a province of boxes, asking each one takes longer than the table is young.
            status: if number < 12 {
                status(site).map(Box::new)
            } else {
                None
            },
        })
        .collect()
}

/// Entries that the hub's database holds of each box.
fn received(hub: &Hub) -> anyhow::Result<BTreeMap<BoxId, u64>> {
    let view = HubView::open(&hub.store())?;
    let mut received = BTreeMap::new();
    for log in view.snapshot()?.logs()? {
        *received.entry(log.box_id).or_insert(0) += log.entries - log.doubles;
    }
    Ok(received)
}

fn status(site: &Site) -> Option<Status> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(2)))
        .build()
        .into();
    agent
        .get(format!("{}/status.json", site.home.url()))
        .call()
        .ok()?
        .body_mut()
        .read_json()
        .ok()
}

/// Waits until no box has anything left to deliver, and the drop folders are empty.
fn drain(clock: &Clock, sites: &[Site]) -> anyhow::Result<()> {
    let until_ms = clock.mono_ms() + DRAIN.as_millis() as u64;
    for site in sites {
        loop {
            let is_empty = status(site).is_some_and(|status| status.waiting() == 0);
            if is_empty && dropped(site) == 0 {
                break;
            }
            if until_ms < clock.mono_ms() {
                bail!(
                    "{} has not delivered everything within {} s",
                    site.box_id,
                    DRAIN.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

/// Files in the drop folder that have not been taken yet.
fn dropped(site: &Site) -> usize {
    let folder = site.home.drop_folder();
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter(|file| file.file_type().is_ok_and(|kind| kind.is_file()))
        .count()
}

/// Prints the proof; true when what was accepted and what is held are equal.
fn prove(hub: &Hub, sites: &[Site]) -> anyhow::Result<bool> {
    let offices: BTreeMap<BoxId, (&Ledger, BTreeSet<String>)> = sites
        .iter()
        .map(|site| {
            let done = done_files(&site.home.drop_folder());
            (site.box_id.clone(), (site.office.ledger.as_ref(), done))
        })
        .collect();
    let verdicts = proof::compare(&hub.store(), &offices)?;
    let mut equal = true;
    println!(
        "\n{:<14} {:>9} {:>9} {:>6} {:>8} {:>8} {:>8}",
        "box", "accepted", "at hub", "lost", "doubled", "altered", "unasked"
    );
    for (box_id, verdict) in &verdicts {
        equal &= verdict.is_equal();
        println!(
            "{:<14} {:>9} {:>9} {:>6} {:>8} {:>8} {:>8}",
            box_id.as_str(),
            verdict.accepted,
            verdict.held,
            verdict.lost,
            verdict.doubled,
            verdict.altered,
            verdict.unasked
        );
    }
    hub.verify().context("the hub's evidence is not whole")?;
    println!("every chain and signature at the hub verifies");
    let accepted: u64 = verdicts.values().map(|verdict| verdict.accepted).sum();
    if equal && 0 < accepted {
        println!("PROVED: the {accepted} records accepted and the records at the hub are equal");
    } else {
        println!("NOT EQUAL: see the table");
    }
    Ok(equal && 0 < accepted)
}

/// Who and where the box with this number is.
struct Place {
    box_id: BoxId,
    agency: AgencyCode,
    profile: Profile,
}

impl Place {
    fn new(number: u16) -> anyhow::Result<Place> {
        let (name, profile) = match number {
            0 => ("xa-vung-cao".to_owned(), Profile::S),
            1 => ("phuong-dong".to_owned(), Profile::L),
            2 => ("khu-vuc".to_owned(), Profile::R),
            _ => (
                format!("xa-{number}"),
                [Profile::S, Profile::M, Profile::M, Profile::K][usize::from(number) % 4],
            ),
        };
        let agency = format!("H60.{:03}", number + 1).parse()?;
        Ok(Place {
            box_id: name.parse()?,
            agency,
            profile,
        })
    }
}

/// Where everything lies; removed at the end unless it is to be kept.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    fn new(keep: Option<PathBuf>, now: UnixMs) -> anyhow::Result<Folder> {
        let is_kept = keep.is_some();
        let path = keep.unwrap_or_else(|| {
            std::env::temp_dir().join(format!("lienthong-demo-{}-{}", std::process::id(), now.0))
        });
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Folder {
            path: path.canonicalize()?,
            keep: is_kept,
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Reads `90s`, `5min`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "s" | "" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        unit => return Err(format!("unknown unit {unit:?}; write 60s, 5min or 1h")),
    };
    digits
        .parse::<u64>()
        .map(|count| Duration::from_secs(count * seconds))
        .map_err(|_| format!("{text:?} is no duration; write 60s, 5min or 1h"))
}
