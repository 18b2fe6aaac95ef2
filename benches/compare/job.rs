//! The job that all systems are given: records are handed in while the line is down, the line comes
//! back, and the clock runs until the hub's database holds them all.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::link::Link;
use crate::process::{Usage, memory_mb, usage};
use crate::syncs::Counter;
use crate::system::{Kind, Part, System, Tally};
use crate::wait;

/// How often the hub's database is asked.
const LOOK: Duration = Duration::from_millis(3);
/// How often the office's memory is asked.
const LOOK_AT_MEMORY: Duration = Duration::from_millis(50);
/// A database that may hold records twice is counted no more often than this.
const LOOK_CLOSELY: Duration = Duration::from_millis(500);
/// What a system does after the last record, such as forgetting, is counted too.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// How long an idle system rests before its memory is taken.
const REST: Duration = Duration::from_secs(2);

pub struct Job<'a> {
    pub kind: Kind,
    pub link: Link,
    pub records: &'a [String],
    pub autosave_s: u32,
    /// What has not arrived after so long a silence counts as lost.
    pub silence: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    AfterLastAcknowledgement,
    /// When the hub holds this share of the records.
    InTheDrain(f64),
}

/// What a run without a kill shows; pairs are "handing in" and "draining".
pub struct Measured {
    pub singly_per_s: f64,
    pub grouped_per_s: f64,
    pub survived: Survived,
    pub stream_per_s: f64,
    /// Up and down.
    pub wire_bytes: [f64; 2],
    pub written_bytes: [f64; 2],
    pub idle_mb: f64,
    pub peak_mb: f64,
    pub office_us: f64,
    pub centre_us: f64,
}

/// What is left of the records.
pub struct Survived {
    pub drain_s: f64,
    pub lost: u64,
    pub twice: u64,
}

pub fn measure(job: &Job) -> Result<Measured> {
    let mut system = job.kind.start(job.autosave_s)?;
    wait::pause(REST)?;
    let office = system.office();
    let idle_mb = memory_mb(office);
    let single = (job.records.len() / 10).min(500);
    let (singly, grouped) = job.records.split_at(single);
    let at_start = usage(office);
    let begun = Instant::now();
    system.hand_in_singly(singly)?;
    let singly_per_s = singly.len() as f64 / begun.elapsed().as_secs_f64();

    let before = usage(office);
    let begun = Instant::now();
    system.hand_in(grouped)?;
    let grouped_per_s = grouped.len() as f64 / begun.elapsed().as_secs_f64();

    let filled = usage(office);
    let centre_before = used(&system.centre());
    let mut peak_mb = memory_mb(office);
    let mut looked_at = Instant::now();
    let drain = drain(system.as_mut(), job, None, &mut || {
        if LOOK_AT_MEMORY < looked_at.elapsed() {
            peak_mb = peak_mb.max(memory_mb(office));
            looked_at = Instant::now();
        }
    })?;
    let done = usage(office);
    let per = |value: u64| value as f64 / job.records.len() as f64;
    Ok(Measured {
        singly_per_s,
        grouped_per_s,
        stream_per_s: drain.stream_per_s,
        survived: drain.survived,
        wire_bytes: system.road().passed().map(per),
        written_bytes: [
            (filled.written - before.written) as f64 / grouped.len() as f64,
            per(done.written - filled.written),
        ],
        idle_mb,
        peak_mb,
        office_us: per(done.processor_us - at_start.processor_us),
        centre_us: per(used(&system.centre()).processor_us - centre_before.processor_us),
    })
}

/// Syncs per record while handing in in groups and while draining. A run of its own, because
/// counting slows.
pub fn count_syncs(job: &Job) -> Result<[f64; 2]> {
    let mut system = job.kind.start(job.autosave_s)?;
    let counter = Counter::attach(system.office())?;
    system.hand_in(job.records)?;
    let handing_in = counter.finish()?;
    let counter = Counter::attach(system.office())?;
    drain(system.as_mut(), job, None, &mut || ())?;
    let draining = counter.finish()?;
    Ok([handing_in, draining].map(|syncs| syncs as f64 / job.records.len() as f64))
}

pub fn survive(job: &Job, part: Part, moment: Moment) -> Result<Survived> {
    let mut system = job.kind.start(job.autosave_s)?;
    system.hand_in(job.records)?;
    let kill = match moment {
        Moment::AfterLastAcknowledgement => {
            system.kill(part)?;
            None
        }
        Moment::InTheDrain(share) => Some((part, (job.records.len() as f64 * share) as u64)),
    };
    Ok(drain(system.as_mut(), job, kill, &mut || ())?.survived)
}

struct Drain {
    survived: Survived,
    stream_per_s: f64,
}

/// Opens the line and waits until all is held, or nothing comes any more.
fn drain(
    system: &mut dyn System,
    job: &Job,
    mut kill: Option<(Part, u64)>,
    look: &mut dyn FnMut(),
) -> Result<Drain> {
    let total = job.records.len() as u64;
    let begun = Instant::now();
    system.road().open(job.link)?;
    let mut first = None;
    // What is held, and since when.
    let (mut held, mut since) = (0, begun);
    let mut closely_at = begun;
    loop {
        wait::pause(LOOK)?;
        look();
        let now = Instant::now();
        let seen = system.held()?;
        if seen != held {
            (held, since) = (seen, now);
            first.get_or_insert((seen, now));
        }
        if let Some((part, at)) = kill
            && at <= held
        {
            system.kill(part)?;
            kill = None;
            since = Instant::now();
            continue;
        }
        if job.silence < now.duration_since(since) {
            break;
        }
        if total <= held && closely_at <= now {
            closely_at = now + LOOK_CLOSELY;
            if total <= system.tally()?.distinct {
                break;
            }
        }
    }
    let (first_held, first_at) = first.unwrap_or((0, begun));
    let stream_s = since.duration_since(first_at).as_secs_f64();
    let Tally { distinct, rows } = settle(system)?;
    Ok(Drain {
        survived: Survived {
            drain_s: since.duration_since(begun).as_secs_f64(),
            lost: total - distinct.min(total),
            twice: rows - distinct,
        },
        stream_per_s: held.saturating_sub(first_held) as f64 / stream_s.max(LOOK.as_secs_f64()),
    })
}

/// Waits until nothing is added any more: repeats may come after the last record.
fn settle(system: &mut dyn System) -> Result<Tally> {
    loop {
        let held = system.held()?;
        wait::pause(AFTERWARDS)?;
        if held == system.held()? {
            return system.tally();
        }
    }
}

fn used(processes: &[u32]) -> Usage {
    let all = processes.iter().map(|&pid| usage(pid));
    all.fold(
        Usage {
            written: 0,
            processor_us: 0,
        },
        |sum, one| Usage {
            written: sum.written + one.written,
            processor_us: sum.processor_us + one.processor_us,
        },
    )
}
