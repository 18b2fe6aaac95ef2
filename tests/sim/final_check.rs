//! The checks at the end of a world, from nothing but the hub's database and the checkers' books.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::check::{
    Checked, Checker, GAPS, INVENTED, Key, LOST, LogKey, ORDER, STATE, TWICE, Timeline, office_of,
    violated,
};
use crate::eyes::{EntryRow, HubEye, LogRow, hub_place};

/// Everything that the hub's database holds, joined with what the checkers know.
struct Hub {
    logs: Vec<(LogKey, LogRow)>,
    /// Per log: number and entry.
    held: BTreeMap<i64, BTreeMap<u64, Key>>,
    /// Log and number of the entries that are repeats of another log's.
    doubles: HashSet<(i64, u64)>,
    /// Entries by office, wherever they stand.
    present: HashSet<(usize, Key)>,
    /// Places with bytes of their own.
    places: HashMap<i64, Key>,
    gaps: BTreeMap<LogKey, Vec<(u64, u64)>>,
}

impl Hub {
    /// A log's entries, and whether they are repeats of another log's.
    fn entries(&self, log: i64) -> impl Iterator<Item = (bool, Key)> {
        let held = self.held[&log].iter();
        held.map(move |(&seq, &key)| (self.doubles.contains(&(log, seq)), key))
    }
}

pub fn check(checker: &Checker, eye: &HubEye) -> Checked {
    checker.receipts_hold()?;
    let hub = read(checker, eye)?;
    for (key, row) in &hub.logs {
        check_log(checker, &hub, *key, row)?;
    }
    for line in checker.timelines.iter().filter(|line| line.alive) {
        check_timeline(checker, &hub, line)?;
    }
    check_states(checker, &hub, eye)?;
    match eye.parked().first() {
        Some(place) => violated(STATE, format!("the entry at {place} was parked")),
        None => Ok(()),
    }
}

fn read(checker: &Checker, eye: &HubEye) -> Checked<Hub> {
    let logs: Vec<(LogKey, LogRow)> = eye
        .logs(None)
        .into_iter()
        .map(|row| ((office_of(&row.box_id), row.epoch, row.lane), row))
        .collect();
    let mut hub = Hub {
        held: BTreeMap::new(),
        doubles: HashSet::new(),
        present: HashSet::new(),
        places: HashMap::new(),
        gaps: BTreeMap::new(),
        logs,
    };
    let mut doubles: Vec<(usize, EntryRow)> = Vec::new();
    for (key, row) in &hub.logs {
        let office = key.0;
        hub.held.insert(row.log, BTreeMap::new());
        for mut entry in eye.entries_after(row.log, 0) {
            let Some(bytes) = entry.entry.take() else {
                doubles.push((office, entry));
                continue;
            };
            let Some(&known) = checker.by_bytes.get(&(office, bytes)) else {
                let what = format!("{key:?} number {}", entry.seq);
                return violated(INVENTED, what);
            };
            if !hub.present.insert((office, known)) {
                let uid = checker.facts[known].uid;
                return violated(TWICE, format!("{key:?} number {}: record {uid}", entry.seq));
            }
            hub.places.insert(hub_place(entry.log, entry.seq), known);
            let log = hub.held.get_mut(&row.log).expect("entered above");
            log.insert(entry.seq, known);
        }
    }
    for (office, entry) in doubles {
        let original = entry.same_as.and_then(|place| hub.places.get(&place));
        let Some(&known) = original.filter(|&&known| hub.present.contains(&(office, known))) else {
            let what = format!("log {} number {} repeats nothing", entry.log, entry.seq);
            return violated(LOST, what);
        };
        let log = hub.held.get_mut(&entry.log).expect("entered above");
        log.insert(entry.seq, known);
        hub.doubles.insert((entry.log, entry.seq));
    }
    for gap in eye.gaps() {
        let key = (office_of(&gap.box_id), gap.epoch, gap.lane);
        hub.gaps.entry(key).or_default().push((gap.first, gap.last));
    }
    Ok(hub)
}

/// The log is the box's log: same entries under the same numbers, nothing between, the same chain.
fn check_log(checker: &Checker, hub: &Hub, key: LogKey, row: &LogRow) -> Checked {
    let (office, epoch, lane) = key;
    let held = &hub.held[&row.log];
    let is_it = |line: &&Timeline| {
        line.office == office
            && line.epochs.contains(&epoch)
            && held
                .iter()
                .all(|(&seq, key)| line.log[lane].get(seq as usize - 1) == Some(key))
            && line.chain[lane].get((row.applied as usize).wrapping_sub(1)) == Some(&row.chain)
    };
    let lines: Vec<&Timeline> = checker.timelines.iter().filter(is_it).collect();
    if lines.is_empty() {
        return violated(ORDER, format!("{key:?}: no box has such a log"));
    }
    let mut gaps = hub.gaps.get(&key).cloned().unwrap_or_default();
    gaps.retain(|&(_, last)| row.begin <= last);
    gaps.sort_unstable();
    let mut next = row.begin;
    for &(first, last) in &gaps {
        while next < first && held.contains_key(&next) {
            next += 1;
        }
        if next != first || held.range(first..=last).next().is_some() {
            return violated(
                GAPS,
                format!("{key:?}: gap {first} to {last}, held to {next}"),
            );
        }
        if !lines.iter().any(|line| last <= line.tail[lane]) {
            let what = format!("{key:?}: gap {first} to {last}, which the box still holds");
            return violated(GAPS, what);
        }
        next = last + 1;
    }
    while held.contains_key(&next) {
        next += 1;
    }
    if next != row.applied + 1 {
        let what = format!("{key:?}: {next} is neither held nor said to be lost");
        return violated(GAPS, what);
    }
    match held.range(row.applied + 1..).next() {
        Some((seq, _)) => violated(ORDER, format!("{key:?}: {seq} stands behind the end")),
        None => Ok(()),
    }
}

/// What a living box has accepted is at the hub, or said to be lost.
///
/// One loss cannot be seen by anybody: the hub had an entry and was set back, and a clone has meanwhile
/// given the entry's number to one of its own.
fn check_timeline(checker: &Checker, hub: &Hub, line: &Timeline) -> Checked {
    let cloned = checker.is_cloned(line.office);
    for (lane, log) in line.log.iter().enumerate() {
        // A clone may have said it first, under an epoch of its own.
        let gaps: Vec<(u64, u64)> = hub
            .gaps
            .iter()
            .filter(|(key, _)| key.0 == line.office && key.2 == lane)
            .filter(|(key, _)| cloned || line.epochs.contains(&key.1))
            .flat_map(|(_, gaps)| gaps.iter().copied())
            .collect();
        for (seq, key) in (1..).zip(log) {
            let said = gaps
                .iter()
                .any(|&(first, last)| (first..=last).contains(&seq));
            let hidden =
                cloned && checker.hub_set_back && checker.committed.contains(&(line.office, *key));
            if !said && !hidden && !hub.present.contains(&(line.office, *key)) {
                let what = format!("office {} lane {lane} number {seq}", line.office);
                return violated(LOST, what);
            }
        }
    }
    match line.promised.difference(&line.uids).next() {
        Some(uid) => violated(LOST, format!("record {uid} was promised and is nowhere")),
        None => Ok(()),
    }
}

/// The state of a subject comes from the entry that was captured last, of those that the hub holds.
///
/// Where a box's store was set back or cloned there are several histories, and an entry that an
/// earlier epoch's log has cannot always be put in order with those that are new in the newest: then
/// the last of one of the newest epoch's logs will do as well. With clones it is whoever spoke last:
/// the last of any log.
fn check_states(checker: &Checker, hub: &Hub, eye: &HubEye) -> Checked {
    let last = last_of_each_subject(checker, hub.present.iter().map(|&(_, key)| key));
    let mut acceptable: HashSet<Key> = last.values().copied().collect();
    for office in 0..crate::keys::OFFICES_MAX {
        let of_office: Vec<_> = hub.logs.iter().filter(|(key, _)| key.0 == office).collect();
        let newest = of_office.iter().map(|(_, row)| row.life).max();
        let one_history = of_office.iter().all(|(_, row)| Some(row.life) == newest);
        let cloned = checker.is_cloned(office);
        for (_, row) in of_office.iter().filter(|_| !one_history) {
            if cloned || Some(row.life) == newest {
                let keys = hub.held[&row.log].values().copied();
                acceptable.extend(last_of_each_subject(checker, keys).values());
            }
        }
    }
    let states = eye.states();
    if states.len() != last.len() {
        let what = format!("{} subjects, {} states", last.len(), states.len());
        return violated(STATE, what);
    }
    for state in states {
        let Some(&key) = hub.places.get(&state.place) else {
            return violated(STATE, format!("{} comes from nowhere", state.subject));
        };
        let fact = &checker.facts[key];
        let is_last = acceptable.contains(&key)
            || branches_are_mixed(checker, hub, key, last[state.subject.as_str()]);
        if fact.subject != state.subject || !is_last || fact.deleted != state.deleted {
            let wanted = last[state.subject.as_str()];
            let what = format!(
                "{}: {} instead of {}",
                state.subject,
                whereabouts(checker, hub, key),
                whereabouts(checker, hub, wanted)
            );
            return violated(STATE, what);
        }
    }
    Ok(())
}

/// Two branches of a box's history met under one epoch, before the box knew that it was set back:
/// then their captures have the same numbers.
fn branches_are_mixed(checker: &Checker, hub: &Hub, one: Key, other: Key) -> bool {
    let mut lines = checker.timelines.iter();
    let is_on_one_branch = lines.any(|line| {
        [one, other]
            .iter()
            .all(|key| line.log.iter().flatten().any(|k| k == key))
    });
    let epoch_of = |wanted: Key| {
        let logs = hub.logs.iter();
        logs.filter(move |(_, row)| hub.entries(row.log).any(|entry| entry == (false, wanted)))
            .map(|(key, _)| key.1)
    };
    !is_on_one_branch && epoch_of(one).any(|epoch| epoch_of(other).any(|same| same == epoch))
}

/// A record and the logs that it stands in.
fn whereabouts(checker: &Checker, hub: &Hub, key: Key) -> String {
    let mut text = format!("record {}", checker.facts[key].uid);
    for (log, row) in &hub.logs {
        for (seq, _) in hub.held[&row.log].iter().filter(|(_, held)| **held == key) {
            text += &format!(" at {}/{}/{seq}", row.log, log.2);
        }
    }
    text
}

fn last_of_each_subject(checker: &Checker, keys: impl Iterator<Item = Key>) -> HashMap<&str, Key> {
    let mut last: HashMap<&str, Key> = HashMap::new();
    // Pieces of files have no subject.
    for key in keys.filter(|&key| checker.facts[key].uid != 0) {
        let subject = checker.facts[key].subject.as_str();
        let last = last.entry(subject).or_insert(key);
        *last = key.max(*last);
    }
    last
}
