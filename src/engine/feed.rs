//! What the hub hands on of what it commits: copies to the boxes of offices that may read a dataset,
//! documents to those that they are addressed to, and what became of them back to the sender.
//!
//! It works within the transaction in which the records are committed. Rights, offices and boxes are
//! read again when another process has changed the store, and at midnight, when mergers take effect.
//! A right's initial load goes on in slices, each with its position, so that a crash repeats at most
//! one that was not committed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use self::compare::{Ended, Key, Work};
use crate::catalogue::bundle::Bundle;
use crate::catalogue::right::{Lens, Right, Rows, Seen, view};
use crate::catalogue::{Catalogue, Dataset};
use crate::evidence::sha256;
use crate::model::compare::LogsSaid;
use crate::model::down::{Copy, Down, Load, Version, Withdraw};
use crate::model::limits::DOWN_ENTRY_BYTES_MAX;
use crate::model::record::{Entry, Op};
use crate::model::{AgencyCode, BoxId, DatasetId, Lane, Subject, UnixMs};
use crate::store::StoreError;
use crate::store::hub::HubStore;
use crate::store::hub::down::{DataVersion, Reload};
use crate::store::hub::feed::SubscriptionRow;
use crate::store::hub::orders::holding;

pub(super) mod compare;
pub(super) mod route;

/// Subjects that a step looks at for a load, and bytes after which a slice ends.
const SLICE_SUBJECTS: u64 = 500;
const SLICE_BYTES: usize = 1 << 20;
/// A load goes on when no more than this waits for its box in P4: less than the box's room there, so
/// that nothing of it is ever dropped.
pub(super) const WAITING_BYTES_MAX: u64 = 4 << 20;
/// A box is loaded again for what it has said at most so often, so that one that says what is not true
/// cannot keep the hub busy.
const RELOAD_PAUSE_MS: i64 = 3_600_000;
/// What stands around a copy's data at the most.
const COPY_HEAD_BYTES: usize = 4 * 1024;
/// By how much copies of the same subject may differ in length.
const COPY_SLACK_BYTES: usize = 64;
const DAY_MS: i64 = 86_400_000;
/// An office may say so long after a document was handed on what became of it.
const HANDED_MS: i64 = 730 * DAY_MS;
/// So long the hub waits for the document that a word is about.
const UNHEARD_MS: i64 = 90 * DAY_MS;
/// Rows that are forgotten in a step.
const FORGET_ROWS: u64 = 200;

/// An entry for a box's log.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub box_id: BoxId,
    pub lane: Lane,
    pub bytes: Vec<u8>,
}

/// Nothing is handed on without a catalogue.
#[derive(Default)]
pub(super) struct Feed {
    catalogue: Option<Arc<Catalogue>>,
    /// Of the published catalogue that took its place.
    version: Option<u32>,
    /// State of the store and day on which the rest was read.
    read_at: Option<(DataVersion, i64)>,
    secret: Vec<u8>,
    offices: Vec<(BoxId, AgencyCode)>,
    datasets: HashMap<DatasetId, Vec<Subscriber>>,
    /// When a box may be loaded again that was loaded again not long ago.
    reload_due: Option<UnixMs>,
    /// No box with a load has room for more.
    is_resting: bool,
    /// Loads that go on; the first is next.
    loads: Vec<SubscriptionRow>,
    /// Something may be old enough to be forgotten; it is looked for every day.
    forgets: bool,
    /// Documents that found nobody are tried again from this one on.
    retry_from: Option<i64>,
    /// Beyond so many bytes that wait for a box, documents for it wait outside its log.
    pub document_bytes_max: u64,
    /// Boxes for which documents were seen to wait so.
    full: BTreeSet<BoxId>,
    areas: HashMap<AgencyCode, String>,
    /// Comparisons that go on, as the store has them, and which one went on last.
    comparing: BTreeMap<Key, Work>,
    compared_last: Option<Key>,
    /// No comparison can go on by itself.
    is_compare_resting: bool,
    /// What was heard and found of comparisons in the present step.
    logs_said: Vec<(BoxId, LogsSaid)>,
    ended: Vec<Ended>,
    posts: Vec<Post>,
    /// Bytes of documents and statuses among them.
    posted_bytes: HashMap<BoxId, u64>,
}

/// A box that has a dataset.
struct Subscriber {
    box_id: BoxId,
    /// One for each right that its office has, its own first.
    lenses: Vec<Lens>,
    load: Version,
}

/// By what a copy was filled, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    rights: Vec<Right>,
    /// What the areas meant: changes with mergers.
    areas: String,
}

/// A record that changed.
pub(super) struct Change<'a> {
    pub entry: &'a Entry<'a>,
    /// What its subject was before, when that was there.
    pub before: Option<Vec<u8>>,
    pub at: UnixMs,
}

impl Feed {
    pub fn new(catalogue: Option<Arc<Catalogue>>) -> Feed {
        Feed {
            catalogue,
            ..Feed::default()
        }
    }

    /// Whether there is something to do although nothing came in.
    pub fn is_busy(&self) -> bool {
        let is_unread = self.catalogue.is_some() && self.read_at.is_none();
        is_unread
            || (!self.loads.is_empty() && !self.is_resting)
            || (!self.comparing.is_empty() && !self.is_compare_resting)
            || self.forgets
            || self.retry_from.is_some()
    }

    /// A box has to be loaded again.
    pub fn look_again(&mut self) {
        self.read_at = None;
    }

    /// A box has received documents: those that wait outside its log are tried again when half of
    /// the room is free.
    pub fn has_received(&mut self, store: &HubStore, box_id: &BoxId) -> Result<(), StoreError> {
        if self.full.contains(box_id)
            && store.down_waiting_bytes(box_id, Lane::P1)? <= self.document_bytes_max / 2
        {
            self.full.remove(box_id);
            self.retry_from = Some(0);
        }
        Ok(())
    }

    /// Whether somebody has a copy of the dataset.
    pub fn follows(&self, dataset: &DatasetId) -> bool {
        !self.datasets.is_empty() && self.datasets.contains_key(dataset)
    }

    /// Orders what is to go into the boxes' logs, in the transaction that is open.
    pub fn deliver(&mut self, store: &mut HubStore, now: UnixMs) -> Result<(), StoreError> {
        self.posted_bytes.clear();
        for post in self.posts.drain(..) {
            store.post(&post.box_id, post.lane, &post.bytes, now)?;
        }
        Ok(())
    }

    /// A copy that no message can carry, because masks have made it longer than any record may be,
    /// goes as a deletion: what the office finds is never older than what it was told.
    fn post(&mut self, box_id: &BoxId, down: &Down) {
        let mut bytes = bytes_of(down);
        if let Down::Copy(copy) = down
            && DOWN_ENTRY_BYTES_MAX < bytes.len() + COPY_SLACK_BYTES
            && !is_carried(copy)
        {
            bytes = bytes_of(&Down::Copy(gone(copy.clone())));
        }
        if down.lane() == Lane::P1 {
            *self.posted_bytes.entry(box_id.clone()).or_default() += bytes.len() as u64;
        }
        self.posts.push(Post {
            box_id: box_id.clone(),
            lane: down.lane(),
            bytes,
        });
    }

    // === Rights ===

    /// Reads rights, offices and boxes again where they may have changed; begins and ends what
    /// follows from them.
    pub fn refresh(&mut self, store: &mut HubStore, now: UnixMs) -> Result<(), StoreError> {
        let state = (store.data_version()?, now.day());
        if self.read_at == Some(state) && self.reload_due.is_none_or(|due| now < due) {
            return Ok(());
        }
        if self.is_new_day(now) {
            self.areas.clear();
            self.forgets = true;
        }
        self.read_at = Some(state);
        self.follow_published(store, now)?;
        let Some(catalogue) = self.catalogue.clone() else {
            return Ok(());
        };
        self.offices = store.offices()?;
        self.retry_from = Some(0);
        let wanted = self.wanted(store, &catalogue, now)?;
        let mut held: BTreeMap<(BoxId, DatasetId), SubscriptionRow> = store
            .subscriptions()?
            .into_iter()
            .map(|row| ((row.box_id.clone(), row.dataset.clone()), row))
            .collect();
        // What a box holds cannot be relied upon: everything is loaded again.
        let mut again = BTreeSet::new();
        self.reload_due = None;
        for (box_id, _, why) in store.reloads()? {
            if why != Reload::New {
                // A box can bring this about by what it says; a person who orders it is obeyed.
                let is_said = why != Reload::Asked;
                if is_said && let Some(due) = reload_due(store, &box_id, now)? {
                    self.reload_due = self.reload_due.into_iter().chain([due]).min();
                    continue;
                }
                if is_said {
                    store.note_reloaded(&box_id, now)?;
                }
                again.insert(box_id.clone());
            }
            store.reloading(&box_id)?;
        }
        self.datasets.clear();
        self.loads.clear();
        for ((box_id, dataset), content) in wanted {
            let old = held.remove(&(box_id.clone(), dataset.clone()));
            let old = old.map(|row| (row, again.contains(&box_id)));
            let row = self.keep_or_begin(store, (&box_id, &dataset), &content, old, now)?;
            let described = catalogue.get(&dataset).expect("wanted of the catalogue");
            self.datasets.entry(dataset).or_default().push(Subscriber {
                box_id,
                lenses: content
                    .rights
                    .iter()
                    .map(|right| Lens::new(right, described))
                    .collect(),
                load: row.load,
            });
            if !row.done {
                self.loads.push(row);
            }
        }
        for ((box_id, dataset), _) in held {
            self.withdraw(store, &box_id, &dataset, now)?;
            store.drop_subscription(&box_id, &dataset)?;
            self.forget_comparison(store, &(box_id, dataset))?;
        }
        self.recall_comparisons(store)?;
        if self.secret.is_empty() && !self.datasets.is_empty() {
            self.secret = store.feed_secret()?.unwrap_or_default();
        }
        Ok(())
    }

    /// Whether something may begin or end with this day: a merger, another catalogue.
    pub fn is_new_day(&self, now: UnixMs) -> bool {
        self.read_at.is_none_or(|(_, day)| day != now.day())
    }

    /// A published catalogue takes the place of the one before at the same midnight as at the boxes; a
    /// clock that is set back takes nothing back. One that this program cannot read is passed over.
    fn follow_published(&mut self, store: &HubStore, now: UnixMs) -> Result<(), StoreError> {
        let rows = store.published()?;
        let Some(version) = holding(&rows, now).map(|row| row.news.version) else {
            return Ok(());
        };
        if self.version.is_some_and(|held| version <= held) {
            return Ok(());
        }
        self.version = Some(version);
        let content = store.published_content(version)?.unwrap_or_default();
        let bundle = Bundle::from_content(&content).ok();
        if let Some(catalogue) = bundle.and_then(|bundle| bundle.catalogue().ok()) {
            self.catalogue = Some(Arc::new(catalogue));
            self.areas.clear();
        }
        Ok(())
    }

    /// What each box is to have by the rights of its office, and of those merged into it.
    fn wanted(
        &mut self,
        store: &HubStore,
        catalogue: &Catalogue,
        now: UnixMs,
    ) -> Result<BTreeMap<(BoxId, DatasetId), Content>, StoreError> {
        let on = date(now);
        let mut wanted: BTreeMap<(BoxId, DatasetId), Content> = BTreeMap::new();
        let mut rights = store.rights()?;
        for (box_id, agency) in self.offices.clone() {
            rights.sort_by_key(|row| row.agency != agency);
            for row in &rights {
                let Some(dataset) = catalogue.get(&row.dataset) else {
                    continue;
                };
                let directory = &dataset.codes.directory;
                // A right that this program cannot read is none.
                let Ok(right) = serde_json::from_str::<Right>(&row.content) else {
                    continue;
                };
                if !directory.is_same(agency.as_str(), row.agency.as_str(), on) {
                    continue;
                }
                let areas = self.areas_of(&right, dataset, on);
                let content = wanted
                    .entry((box_id.clone(), row.dataset.clone()))
                    .or_insert_with(|| Content {
                        rights: Vec::new(),
                        areas: String::new(),
                    });
                content.rights.push(right);
                content.areas.push_str(&areas);
            }
        }
        Ok(wanted)
    }

    fn areas_of(&mut self, right: &Right, dataset: &Dataset, on: Date) -> String {
        let Rows::Of(offices) = &right.rows else {
            return String::new();
        };
        let directory = &dataset.codes.directory;
        // Another catalogue may say by other fields whose a record is.
        let fields: Vec<String> = dataset.area.iter().map(ToString::to_string).collect();
        let mut areas = fields.join(" ");
        for office in offices {
            let area = self.areas.entry(office.clone()).or_insert_with(|| {
                let within = directory.within(office.as_str(), on).join(" ");
                let digest = sha256(within.as_bytes());
                digest[..8]
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect()
            });
            areas.push_str(area);
        }
        areas
    }

    /// The subscription as it is to go on: as it was, or filled anew because the right has changed or
    /// the box has to be loaded again.
    fn keep_or_begin(
        &mut self,
        store: &mut HubStore,
        (box_id, dataset): (&BoxId, &DatasetId),
        content: &Content,
        old: Option<(SubscriptionRow, bool)>,
        now: UnixMs,
    ) -> Result<SubscriptionRow, StoreError> {
        let text = serde_json::to_string(content).expect("rights are plain JSON");
        if let Some((old, is_again)) = old {
            if old.content == text && !is_again {
                return Ok(old);
            }
            let before: Option<Content> = serde_json::from_str(&old.content).ok();
            if !before.is_some_and(|before| covers(content, &before)) {
                self.withdraw(store, box_id, dataset, now)?;
            }
        }
        self.begin_load(store, (box_id, dataset), text, now)
    }

    fn begin_load(
        &mut self,
        store: &mut HubStore,
        (box_id, dataset): (&BoxId, &DatasetId),
        content: String,
        now: UnixMs,
    ) -> Result<SubscriptionRow, StoreError> {
        let number = store.dataset_number(dataset)?;
        let row = SubscriptionRow {
            box_id: box_id.clone(),
            dataset: dataset.clone(),
            content,
            load: store.next_version(now)?,
            subjects: store.state_count(number)?,
            seen: 0,
            last: (String::new(), String::new()),
            done: false,
        };
        store.put_subscription(&row)?;
        self.post_load(&row, now);
        Ok(row)
    }

    /// Fills a copy anew by the rights by which it was filled.
    fn load_again(
        &mut self,
        store: &mut HubStore,
        (box_id, dataset): &Key,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let rows = store.subscriptions()?;
        let mut rows = rows.into_iter();
        let Some(old) = rows.find(|row| row.box_id == *box_id && row.dataset == *dataset) else {
            return Ok(());
        };
        let row = self.begin_load(store, (box_id, dataset), old.content, now)?;
        let subscribers = self.datasets.get_mut(dataset).into_iter().flatten();
        for subscriber in subscribers.filter(|one| one.box_id == *box_id) {
            subscriber.load = row.load;
        }
        self.loads
            .retain(|one| one.box_id != *box_id || one.dataset != *dataset);
        self.loads.push(row);
        Ok(())
    }

    fn withdraw(
        &mut self,
        store: &mut HubStore,
        box_id: &BoxId,
        dataset: &DatasetId,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let withdraw = Withdraw {
            dataset: dataset.clone(),
            version: store.next_version(now)?,
            at: now,
        };
        self.post(box_id, &Down::Withdraw(withdraw));
        Ok(())
    }

    fn post_load(&mut self, row: &SubscriptionRow, now: UnixMs) {
        let load = Load {
            dataset: row.dataset.clone(),
            load: row.load,
            subjects: row.subjects,
            seen: row.seen,
            done: row.done,
            at: now,
        };
        self.post(&row.box_id, &Down::Load(load));
    }

    // === Copies ===

    /// Goes on with a load, and with documents that found nobody; forgets what is old.
    pub fn work(&mut self, store: &mut HubStore, now: UnixMs) -> Result<(), StoreError> {
        self.retry(store, now)?;
        if self.forgets {
            let before = |ms| UnixMs(now.0.saturating_sub(ms));
            self.forgets = store.forget_handed(before(HANDED_MS), FORGET_ROWS)?
                | store.forget_unheard(before(UNHEARD_MS), FORGET_ROWS)?;
        }
        self.is_resting = true;
        for _ in 0..self.loads.len() {
            let mut row = self.loads.remove(0);
            if WAITING_BYTES_MAX < store.down_waiting_bytes(&row.box_id, Lane::P4)? {
                self.loads.push(row);
                continue;
            }
            self.slice(store, &mut row, now)?;
            self.is_resting = false;
            if !row.done {
                self.loads.push(row);
            }
            break;
        }
        self.compare(store, now)?;
        self.deliver(store, now)
    }

    fn slice(
        &mut self,
        store: &mut HubStore,
        row: &mut SubscriptionRow,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let number = store.dataset_number(&row.dataset)?;
        let states = store.state_after(number, &row.last, SLICE_SUBJECTS)?;
        row.done = (states.len() as u64) < SLICE_SUBJECTS;
        let mut bytes = 0;
        for state in states {
            if SLICE_BYTES < bytes {
                row.done = false;
                break;
            }
            bytes += state.entry.len();
            row.seen += 1;
            if let Ok(entry) = Entry::parse(&state.entry)
                && let Some(subscribers) = self.datasets.get(&row.dataset)
                && let Some(subscriber) = subscribers.iter().find(|one| one.box_id == row.box_id)
                && let Some(mut copy) = self.copy(subscriber, &entry, now)
            {
                copy.version = store.next_version(now)?;
                copy.initial = true;
                self.post(&row.box_id, &Down::Copy(copy));
            }
            row.last = (state.agency.to_string(), state.subject);
        }
        self.post_load(row, now);
        store.put_subscription(row)
    }

    /// Tells everybody who has a copy of the subject, or is to have one now.
    pub fn changed(&mut self, store: &mut HubStore, change: &Change<'_>) -> Result<(), StoreError> {
        let entry = change.entry;
        let dataset = &entry.kind.dataset;
        let Some(subscribers) = self.datasets.get(dataset) else {
            return Ok(());
        };
        let before = change
            .before
            .as_deref()
            .and_then(|bytes| Entry::parse(bytes).ok());
        let mut copies = Vec::new();
        for subscriber in subscribers {
            let shown = match entry.op {
                Op::Delete => None,
                Op::Upsert | Op::Snapshot => self.copy(subscriber, entry, change.at),
            };
            // What left the area, or is gone, goes where it was seen before, and nobody else hears
            // its name.
            let copy =
                shown.or_else(|| self.copy(subscriber, before.as_ref()?, change.at).map(gone));
            copies.extend(copy.map(|copy| (subscriber.box_id.clone(), copy)));
        }
        for (box_id, mut copy) in copies {
            copy.version = store.next_version(change.at)?;
            self.mark(store, &box_id, &copy)?;
            self.post(&box_id, &Down::Copy(copy));
        }
        Ok(())
    }

    /// The record as a subscriber may see it; its version is to be set.
    fn copy(&self, subscriber: &Subscriber, entry: &Entry<'_>, at: UnixMs) -> Option<Copy> {
        let catalogue = self.catalogue.as_ref()?;
        let directory = &catalogue.get(&entry.kind.dataset)?.codes.directory;
        let seen = Seen {
            owner: &entry.agency,
            sensitivity: entry.sensitivity,
            data: entry.data,
        };
        let (lens, data) = subscriber
            .lenses
            .iter()
            .find_map(|lens| Some((lens, view(seen, lens, directory, date(at))?)))?;
        let subject = match lens.shows_key() {
            true => entry.subject.clone(),
            false => self.pseudonym(entry),
        };
        Some(Copy {
            dataset: entry.kind.dataset.clone(),
            schema: entry.kind.version,
            agency: entry.agency.clone(),
            subject,
            op: Op::Upsert,
            version: Version::default(),
            at,
            load: subscriber.load,
            initial: false,
            attachments: match lens.is_whole() {
                true => entry.attachments.clone(),
                false => Vec::new(),
            },
            data: Some(data),
        })
    }

    /// A name that stays the same and tells nothing, in place of one made of fields that the office
    /// may not read.
    fn pseudonym(&self, entry: &Entry<'_>) -> Subject {
        let mut named = self.secret.clone();
        for part in [
            entry.kind.dataset.as_str(),
            entry.agency.as_str(),
            entry.subject.as_str(),
        ] {
            named.extend_from_slice(&(part.len() as u64).to_be_bytes());
            named.extend_from_slice(part.as_bytes());
        }
        let digest = sha256(&named);
        let text: String = digest[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        text.parse().expect("hexadecimal digits are a subject")
    }
}

/// When a box may be loaded again for what it has said; none: now.
fn reload_due(store: &HubStore, box_id: &BoxId, now: UnixMs) -> Result<Option<UnixMs>, StoreError> {
    let due = store
        .reloaded(box_id)?
        .map(|last| UnixMs(last.0.saturating_add(RELOAD_PAUSE_MS)));
    // After a clock that was set back nobody waits longer than that.
    let is_ahead = |due: &UnixMs| now < *due && due.0 <= now.0 + RELOAD_PAUSE_MS;
    Ok(due.filter(is_ahead))
}

fn bytes_of(down: &Down) -> Vec<u8> {
    serde_json::to_vec(down).expect("an entry holds only what JSON can say")
}

/// Whether a message can carry a copy, whichever way it goes: what a load carries a change carries
/// too, and what one of them cannot carry none does.
fn is_carried(copy: &Copy) -> bool {
    let data_bytes = copy.data.as_ref().map_or(0, |data| data.get().len());
    if copy.attachments.is_empty() && data_bytes + COPY_HEAD_BYTES <= DOWN_ENTRY_BYTES_MAX {
        return true;
    }
    let longest = Copy {
        version: copy.load,
        initial: true,
        ..copy.clone()
    };
    bytes_of(&Down::Copy(longest)).len() <= DOWN_ENTRY_BYTES_MAX
}

/// The same subject, which the office is to see no longer.
fn gone(copy: Copy) -> Copy {
    Copy {
        op: Op::Delete,
        data: None,
        attachments: Vec::new(),
        ..copy
    }
}

/// Whether copies that were made by the old rights may be read until the new load has passed.
fn covers(new: &Content, old: &Content) -> bool {
    new.rights.len() == old.rights.len()
        && new
            .rights
            .iter()
            .zip(&old.rights)
            .all(|(new, old)| new.covers(old))
}

/// The day in Vietnam.
fn date(at: UnixMs) -> Date {
    let midnight = jiff::Timestamp::from_millisecond(at.day() * DAY_MS);
    let utc = midnight
        .unwrap_or_default()
        .to_zoned(jiff::tz::TimeZone::UTC);
    utc.date()
}
