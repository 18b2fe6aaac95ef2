//! One output's thread: plan, deliver, settle, and after a fault begin anew from the stores.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::hub::attachments::kept_path;
use crate::hub::config::Config;
use crate::hub::output::event::{Event, Verdict, judge};
use crate::hub::output::feed;
use crate::hub::output::supervise::Stop;
use crate::hub::output::{Adapter, Delivery, Failure, OutputConfig, Trouble, outlook};
use crate::hub::registry;
use crate::model::Seq;
use crate::model::chunk::Digest;
use crate::shell::backoff::{Backoff, CAP_MS, Ending};
use crate::shell::clock::Clock;
use crate::store::hub::blobs::BlobState;
use crate::store::hub_view::{HubView, LogRow, Snapshot};
use crate::store::outputs::held::{FILE_COMING, Key, NewHeld};
use crate::store::outputs::{Item, LogName, Outcome, OutputRow, OutputStore, Plan};

/// How soon a commit of the hub is noticed.
const LOOK: Duration = Duration::from_millis(200);
/// Held entries of one batch.
const RETRIED_MAX: u64 = 100;

pub struct Runner {
    pub hub: Arc<Config>,
    pub config: OutputConfig,
    pub clock: Clock,
    pub stop: Arc<Stop>,
}

/// How a pause between attempts is found.
struct Pauses {
    backoff: Backoff,
    tries: usize,
}

impl Pauses {
    fn new() -> Pauses {
        Pauses {
            backoff: Backoff::new(Duration::from_millis(CAP_MS)),
            tries: 0,
        }
    }

    fn next(&mut self, trouble: &Trouble, fixed: &[Duration]) -> Duration {
        let tries = self.tries;
        self.tries += 1;
        let roll = getrandom::u64().expect("the operating system has random numbers");
        let own = match fixed.get(tries).or(fixed.last()) {
            Some(pause) => *pause,
            None => self.backoff.pause(Ending::Failed, roll),
        };
        trouble.pause.map_or(own, |asked| asked.max(own))
    }
}

impl Runner {
    /// Delivers until it is told to stop.
    pub fn run(self) {
        if let Some(basis) = &self.config.legal_basis {
            tracing::info!(output = %self.config.name, basis, "sensitive personal data is delivered");
        }
        let mut pauses = Pauses::new();
        loop {
            match self.work(&mut pauses) {
                Ok(()) => return,
                Err(trouble) => {
                    self.tell(&trouble);
                    let pause = pauses.next(&trouble, self.config.kind.pauses());
                    if self.stop.wait(pause) {
                        return;
                    }
                }
            }
        }
    }

    /// Says why nothing can be delivered, once, where status and page read it.
    fn tell(&self, trouble: &Trouble) {
        let path = outlook::store_path(&self.hub);
        let told = OutputStore::open(&path, outlook::OPTIONS).and_then(|mut store| {
            let Some(row) = store.output(&self.config.name)? else {
                return Ok(true);
            };
            let before = row.trouble.as_deref().and_then(outlook::parse_trouble);
            if before.is_some_and(|before| before.code == trouble.code && before.en == trouble.en) {
                return Ok(false);
            }
            let trouble = Trouble {
                since: self.clock.now().wall.to_string(),
                ..trouble.clone()
            };
            let text = serde_json::to_string(&trouble).expect("a trouble is plain data");
            store.set_trouble(row.output, Some(&text))?;
            Ok(true)
        });
        // A store that fails is what the trouble says itself.
        if told.unwrap_or(true) {
            tracing::warn!(output = %self.config.name, code = trouble.code, error = %trouble, hint = trouble.hint_en, "the output cannot deliver; it tries again");
        }
    }

    fn work(&self, pauses: &mut Pauses) -> Result<(), Trouble> {
        let view = registry::open_view(&self.hub).map_err(|error| {
            Trouble::new(
                "store",
                [
                    format!("không mở được kho của trục: {error:#}"),
                    format!("the hub's store: {error:#}"),
                ],
                [
                    "Kiểm tra store.path và ổ đĩa.",
                    "Check store.path and the disk.",
                ],
            )
        })?;
        let mut store = OutputStore::open(&outlook::store_path(&self.hub), outlook::OPTIONS)?;
        let start = match self.config.from_beginning {
            true => Vec::new(),
            false => feed::ends(&view)?,
        };
        let mut adapter: Option<Box<dyn Adapter>> = None;
        let mut turn = 0;
        loop {
            if self.stop.is_set() {
                return Ok(());
            }
            let seen = (view.data_version()?, store.data_version()?);
            let row = match store.output(&self.config.name)? {
                Some(row) => row,
                None => store.register(&self.config.name, &start)?,
            };
            let next = match row.plan.clone() {
                Some(plan) => Some((row.batch, plan, false)),
                None => self.plan(&view, &mut store, &row, &mut turn)?,
            };
            let Some((batch, plan, is_last)) = next else {
                self.clear(&mut store, &row)?;
                // Until somebody else has written.
                while seen == (view.data_version()?, store.data_version()?) {
                    if self.stop.wait(LOOK) {
                        return Ok(());
                    }
                }
                continue;
            };
            if plan.items.is_empty() {
                continue;
            }
            let adapter = match &mut adapter {
                Some(adapter) => adapter,
                None => adapter.insert(self.config.kind.open(&self.config.name)?),
            };
            let row = OutputRow { batch, ..row };
            self.deliver(&view, &mut store, &row, plan, adapter.as_mut())?;
            *pauses = Pauses::new();
            self.clear(&mut store, &row)?;
            if is_last && self.stop.wait(self.config.kind.gather()) {
                return Ok(());
            }
        }
    }

    fn clear(&self, store: &mut OutputStore, row: &OutputRow) -> Result<(), Trouble> {
        if row.trouble.is_some() {
            store.set_trouble(row.output, None)?;
            tracing::info!(output = %self.config.name, "the output delivers again");
        }
        Ok(())
    }

    /// Writes down the next batch: its number, what is in it, and whether nothing followed it. None
    /// when there is nothing to do.
    fn plan(
        &self,
        view: &HubView,
        store: &mut OutputStore,
        row: &OutputRow,
        turn: &mut usize,
    ) -> Result<Option<(u64, Plan, bool)>, Trouble> {
        let now = self.clock.now().wall;
        let mut plan = Plan::default();
        self.release(view, store, row)?;
        let ready = store.ready(
            row.output,
            RETRIED_MAX.min(self.config.kind.batch_max() as u64),
        )?;
        plan.items.extend(ready.into_iter().map(|held| held.item));
        let mut next = feed::Next {
            plan,
            ..feed::Next::default()
        };
        if next.is_empty() {
            let (parked, _) = store.held_counts(row.output)?;
            if self.config.parked_max <= parked {
                return Err(too_many_parked(&self.config.name, parked));
            }
            next = feed::next(&self.config, view, store, row, turn)?;
        }
        if next.is_empty() {
            return Ok(None);
        }
        let is_last = !next.is_full;
        let batch = store.plan(row, &next.plan, &next.behind, now)?;
        Ok(batch.map(|batch| (batch, next.plan, is_last)))
    }

    /// Lets entries go on that waited for a file which has come, or never will.
    fn release(
        &self,
        view: &HubView,
        store: &mut OutputStore,
        row: &OutputRow,
    ) -> Result<(), Trouble> {
        let waiting = store.waiting_for_files(row.output)?;
        if waiting.is_empty() {
            return Ok(());
        }
        let snapshot = view.snapshot()?;
        for (number, digest) in waiting {
            let is_coming = match digest.parse() {
                Ok(digest) => is_coming(&snapshot, digest)?,
                Err(_) => false,
            };
            if !is_coming {
                store.retry(row.output, Some(number))?;
            }
        }
        Ok(())
    }

    fn deliver(
        &self,
        view: &HubView,
        store: &mut OutputStore,
        row: &OutputRow,
        plan: Plan,
        adapter: &mut dyn Adapter,
    ) -> Result<(), Trouble> {
        let mut outcome = Outcome::default();
        let parcels = self.read(view, store, row, &plan, &mut outcome)?;
        let snapshot = view.snapshot()?;
        let mut hand = Hand {
            runner: self,
            snapshot: &snapshot,
            store,
            row,
            adapter,
            outcome,
            blocked: HashSet::new(),
        };
        let mut ended = Ok(());
        for chunk in parcels.chunks(hand.adapter.events_max().max(1)) {
            if self.stop.is_set() {
                break;
            }
            ended = hand.over(chunk);
            if ended.is_err() {
                break;
            }
        }
        let outcome = hand.outcome;
        let done: HashSet<(&LogName, Seq)> = outcome
            .delivered
            .iter()
            .chain(&outcome.dropped)
            .chain(&outcome.passed)
            .chain(outcome.held.iter().map(|held| &held.item))
            .map(|item| (&item.log, item.seq))
            .collect();
        let rest: Vec<Item> = plan
            .items
            .iter()
            .filter(|item| !done.contains(&(&item.log, item.seq)))
            .cloned()
            .collect();
        let rest = Plan {
            items: rest,
            ..plan
        };
        store.settle(row, &outcome, &rest, self.clock.now().wall)?;
        let is_parked = |held: &&NewHeld| held.reason.is_some_and(|reason| reason != FILE_COMING);
        for held in outcome.held.iter().filter(is_parked) {
            tracing::warn!(output = %self.config.name, box_id = %held.item.log.box_id, lane = %held.item.log.lane, seq = held.item.seq.0, reason = held.reason, "an entry was parked; see trucd outputs parked");
        }
        ended
    }

    /// The events of a batch; of a state kind one for each subject, with all items that it stands
    /// for.
    fn read(
        &self,
        view: &HubView,
        store: &OutputStore,
        row: &OutputRow,
        plan: &Plan,
        outcome: &mut Outcome,
    ) -> Result<Vec<Parcel>, Trouble> {
        let snapshot = view.snapshot()?;
        let logs: HashMap<LogName, LogRow> = snapshot
            .logs()?
            .into_iter()
            .map(|log| (feed::name(&log), log))
            .collect();
        let by_number: HashMap<i64, &LogRow> = logs.values().map(|log| (log.log, log)).collect();
        let datasets: HashMap<_, _> = snapshot
            .datasets()?
            .into_iter()
            .map(|(number, name)| (name, number))
            .collect();
        let mut parcels: Vec<Parcel> = Vec::new();
        let mut places: HashMap<Key, usize> = HashMap::new();
        for item in &plan.items {
            let log = logs.get(&item.log);
            let bytes = match log {
                Some(log) => snapshot.entry(log.log, item.seq)?,
                None => None,
            };
            let judged = log
                .zip(bytes)
                .map(|(log, bytes)| judge(&self.config, log, &bytes));
            let Some(Verdict::Deliver(mut event)) = judged else {
                outcome.dropped.push(item.clone());
                continue;
            };
            if !self.config.kind.is_state() {
                parcels.push(Parcel {
                    event: *event,
                    items: vec![item.clone()],
                });
                continue;
            }
            if let Some(place) = places.get(&event.key) {
                parcels[*place].items.push(item.clone());
                continue;
            }
            let dataset = datasets.get(&event.key.dataset).copied().unwrap_or(0);
            let key = event.key.clone();
            let present = snapshot.present(dataset, &key.agency, key.subject.as_str())?;
            if let Some(present) = present
                && let Some(log) = by_number.get(&present.log)
            {
                match judge(&self.config, log, &present.bytes) {
                    Verdict::Deliver(present_event) => event = present_event,
                    // Its newest state is more sensitive than what may leave.
                    Verdict::Withheld | Verdict::Other => {
                        outcome.passed.push(item.clone());
                        continue;
                    }
                }
                event.life = present.life;
                event.capture = present.capture;
            }
            let mut items = Vec::new();
            let number = store.first_held(row.output, &key)?;
            if number != item.held
                && let Some(number) = number
            {
                items.push(Item {
                    held: Some(number),
                    ..item.clone()
                });
            } else {
                items.push(item.clone());
            }
            places.insert(key, parcels.len());
            parcels.push(Parcel {
                event: *event,
                items,
            });
        }
        Ok(parcels)
    }
}

/// An event and the entries that are delivered with it.
struct Parcel {
    event: Event,
    items: Vec<Item>,
}

/// Hands parcels to the adapter and keeps account.
struct Hand<'a> {
    runner: &'a Runner,
    snapshot: &'a Snapshot<'a>,
    store: &'a OutputStore,
    row: &'a OutputRow,
    adapter: &'a mut dyn Adapter,
    outcome: Outcome,
    /// Subjects of which an event was parked just now.
    blocked: HashSet<Key>,
}

impl Hand<'_> {
    fn over(&mut self, parcels: &[Parcel]) -> Result<(), Trouble> {
        let mut free = Vec::new();
        for parcel in parcels {
            if self.blocked.contains(&parcel.event.key) {
                self.hold(parcel, None, String::new());
            } else if let Some(digest) = self.lacks(parcel)? {
                self.hold(parcel, Some(FILE_COMING), digest.to_string());
                self.blocked.insert(parcel.event.key.clone());
            } else {
                free.push(parcel);
            }
        }
        if free.is_empty() {
            return Ok(());
        }
        let events: Vec<Event> = free.iter().map(|parcel| parcel.event.clone()).collect();
        let (store, output) = (self.store, self.row.output);
        let hub_store = &self.runner.hub.store.path;
        let delivery = Delivery {
            batch: self.row.batch,
            events: &events,
            now: self.runner.clock.now().wall,
            answered: &|key| store.answer(output, key),
            kept: &|digest| Some(kept_path(hub_store, digest)).filter(|path| path.is_file()),
        };
        match self.adapter.deliver(&delivery) {
            Ok(receipt) => {
                let items = free.iter().flat_map(|parcel| &parcel.items);
                self.outcome.delivered.extend(items.cloned());
                self.outcome.once.extend(receipt.once);
                self.outcome.late += receipt.late;
                self.outcome.history += receipt.history;
                self.outcome.delay_ms = receipt.delay_ms.or(self.outcome.delay_ms);
                Ok(())
            }
            Err(Failure::World(trouble)) => Err(trouble),
            Err(Failure::Data { reason, detail }) => match free.as_slice() {
                [parcel] => {
                    self.hold(parcel, Some(reason), detail);
                    self.blocked.insert(parcel.event.key.clone());
                    Ok(())
                }
                several => several
                    .iter()
                    .try_for_each(|parcel| self.over(std::slice::from_ref(*parcel))),
            },
        }
    }

    /// The file of the event's own bytes, when it is to be delivered and is still on its way.
    fn lacks(&self, parcel: &Parcel) -> Result<Option<Digest>, Trouble> {
        let Some(digest) = parcel.event.large_original else {
            return Ok(None);
        };
        let is_wanted = self.runner.config.kind.takes_large_original();
        match is_wanted && is_coming(self.snapshot, digest)? {
            true => Ok(Some(digest)),
            false => Ok(None),
        }
    }

    /// The last entry of a parcel stands for all of it: only a state's parcel has several.
    fn hold(&mut self, parcel: &Parcel, reason: Option<&'static str>, detail: String) {
        let Some((last, others)) = parcel.items.split_last() else {
            return;
        };
        let held = parcel.items.iter().find_map(|item| item.held);
        let others = others
            .iter()
            .cloned()
            .map(|item| Item { held: None, ..item });
        self.outcome.passed.extend(others);
        self.outcome.held.push(NewHeld {
            item: Item {
                held,
                ..last.clone()
            },
            key: parcel.event.key.clone(),
            reason,
            detail,
        });
    }
}

/// Whether an attachment is not whole yet, or not checked.
fn is_coming(snapshot: &Snapshot<'_>, digest: Digest) -> Result<bool, Trouble> {
    let state = snapshot.blob(digest)?.map(|blob| blob.state);
    Ok(matches!(
        state,
        Some(BlobState::Expected | BlobState::Receiving | BlobState::Checking)
    ))
}

fn too_many_parked(name: &str, parked: u64) -> Trouble {
    Trouble::new(
        "too_many_parked",
        [
            format!("đã tạm giữ {parked} mục, đầu ra dừng lại"),
            format!("{parked} entries are parked, so the output stands still"),
        ],
        [
            format!(
                "Xem trucd outputs parked {name}, sửa nguyên nhân chung, rồi trucd outputs retry {name}."
            ),
            format!(
                "See trucd outputs parked {name}, mend the common cause, then trucd outputs retry {name}."
            ),
        ],
    )
}
