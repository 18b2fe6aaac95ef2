//! What the hub orders of its boxes: catalogues for all of them, commands for one.
//!
//! Everything is checked and signed where it is ordered, on the command line, and written in one
//! transaction with its line in the audit. From there it goes into the boxes' downlink; the running
//! hub sees to boxes that were registered later or have lost what they had.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::catalogue::bundle::{Bundle, PART_BYTES};
use crate::catalogue::{Catalogue, CatalogueFault};
use crate::evidence::{CatalogueClaim, CommandClaim, SigningKey, sha256};
use crate::hub::config::Config;
use crate::hub::registry;
use crate::hub::run::read_receipt_key;
use crate::model::down::{CatalogueNews, CataloguePart, Command, Down, day_of, midnight};
use crate::model::order::{ANSWERS, Order, ROTATE_KEY, USE_CERTIFICATE};
use crate::model::record::Entry;
use crate::model::{BoxId, DatasetId, UnixMs};
use crate::store::hub::down::Reload;
use crate::store::hub::orders::{GivenRow, PublishedRow, holding};
use crate::store::hub::rights::AuditRow;
use crate::store::hub::{BoxState, HubStore};
use crate::store::hub_view::{Snapshot, Wanted};

const DAY_MS: i64 = 86_400_000;
/// Commands that go down in one transaction.
const DUE_MAX: u32 = 500;
/// Faults that are told.
const FAULTS_TOLD: usize = 50;

// === Catalogues ===

/// What somebody wants to publish.
#[derive(Debug, Clone)]
pub struct Publication<'a> {
    /// A folder with a whole catalogue, or one file that changes the last one.
    pub path: &'a Path,
    /// `yyyy-MM-dd`; tomorrow when absent.
    pub effective: Option<&'a str>,
    /// Datasets of which there are records and that are to end all the same.
    pub end: &'a [DatasetId],
    pub by: &'a str,
}

/// All files of a folder, or of the last publication with one of them changed.
pub fn read_bundle(config: &Config, path: &Path) -> anyhow::Result<Bundle> {
    if path.is_dir() {
        return Bundle::read(path).map_err(told);
    }
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.context("the file's name is not readable")?;
    ensure!(
        name.ends_with(".toml"),
        "{name} is not a file of a catalogue (*.toml)"
    );
    let view = registry::open_view(config)?;
    let snapshot = view.snapshot()?;
    let last = snapshot.published()?.last().map(|row| row.news.version);
    let before = match last {
        Some(version) => {
            let content = snapshot.published_content(version)?.unwrap_or_default();
            Bundle::from_content(&content)?
        }
        None => Bundle::read(&config.catalogue).map_err(told)?,
    };
    Ok(before.with_file(name, text))
}

/// Holds a bundle against the parser that boxes use.
pub fn check(bundle: &Bundle) -> anyhow::Result<Catalogue> {
    bundle.catalogue().map_err(told)
}

fn told(faults: Vec<CatalogueFault>) -> anyhow::Error {
    let count = faults.len();
    let mut text = format!("{count} lỗi trong danh mục / {count} faults in the catalogue");
    for fault in faults.iter().take(FAULTS_TOLD) {
        text.push_str(&format!(
            "\n{}: {}: {} / {}\n    {} / {}",
            fault.file,
            fault.place,
            fault.message_vi,
            fault.message_en,
            fault.hint_vi,
            fault.hint_en
        ));
    }
    anyhow!(text)
}

/// Publishes under the next version.
pub fn publish(
    config: &Config,
    plan: &Publication<'_>,
    now: UnixMs,
) -> anyhow::Result<CatalogueNews> {
    let bundle = read_bundle(config, plan.path)?;
    let catalogue = check(&bundle)?;
    let effective = match plan.effective {
        Some(day) => day.to_owned(),
        None => day_of(UnixMs(now.0 + DAY_MS)),
    };
    let begins = midnight(&effective)
        .with_context(|| format!("{effective:?} is not a day such as 2026-12-01"))?;
    ensure!(
        midnight(&day_of(now)).is_some_and(|today| today <= begins),
        "{effective} is past; a catalogue takes effect today at the earliest"
    );
    complete(config, &catalogue, plan.end)?;
    let content = bundle.to_content()?;
    let key = signing_key(config)?;
    let mut store = registry::open(config)?;
    store.begin()?;
    let last = store.published()?.last().map_or(0, |row| row.news.version);
    let mut news = CatalogueNews {
        version: last + 1,
        effective,
        bytes: content.len() as u64,
        sha256: hex(&sha256(&content)),
        parts: u32::try_from(content.len().div_ceil(PART_BYTES)).context("too many parts")?,
        by: plan.by.to_owned(),
        signature: String::new(),
    };
    news.signature = BASE64.encode(key.sign(&CatalogueClaim {
        version: news.version,
        effective: &news.effective,
        bytes: news.bytes,
        sha256: &news.sha256,
        by: &news.by,
    }));
    store.publish(&news, begins, &content, now)?;
    store.add_audit(&AuditRow {
        at: now,
        who: plan.by.to_owned(),
        action: "catalogue".to_owned(),
        detail: format!("{} {} {}", news.version, news.effective, news.sha256),
    })?;
    send_due(&mut store, now)?;
    store.commit()?;
    Ok(news)
}

/// A dataset of which there are records must not end unasked, nor may one go back: boxes that use it
/// would refuse the whole catalogue.
fn complete(config: &Config, catalogue: &Catalogue, end: &[DatasetId]) -> anyhow::Result<()> {
    let view = registry::open_view(config)?;
    let snapshot = view.snapshot()?;
    let answers: DatasetId = ANSWERS.parse()?;
    let known = snapshot.datasets()?.into_iter().map(|(_, known)| known);
    let missing: Vec<String> = known
        .chain([answers])
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter(|known| catalogue.get(known).is_none() && !end.contains(known))
        .map(|known| known.to_string())
        .collect();
    ensure!(
        missing.is_empty(),
        "the catalogue lacks {}, which boxes use; add them, or say --end DATASET for each that is to end",
        missing.join(", ")
    );
    let before = current(&snapshot, UnixMs(i64::MAX))?;
    for dataset in before.iter().flat_map(Catalogue::iter) {
        let after = catalogue.get(&dataset.id).map(|after| after.version);
        ensure!(
            after.is_none_or(|after| dataset.version <= after),
            "{} goes back from version {}; versions only rise",
            dataset.id,
            dataset.version
        );
    }
    Ok(())
}

/// The published catalogue that holds at `now`; the hub changes at the same instant as its boxes.
pub fn current(snapshot: &Snapshot<'_>, now: UnixMs) -> anyhow::Result<Option<Catalogue>> {
    let rows = snapshot.published()?;
    let Some(row) = holding(&rows, now) else {
        return Ok(None);
    };
    let content = snapshot.published_content(row.news.version)?;
    let bundle = Bundle::from_content(&content.unwrap_or_default())?;
    bundle.catalogue().map(Some).map_err(told)
}

// === Commands ===

/// A command that somebody wants to give.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// None: all boxes that are not revoked.
    pub box_id: Option<&'a BoxId>,
    pub name: &'a str,
    /// JSON object.
    pub arguments: String,
    pub expires: UnixMs,
    pub by: &'a str,
}

/// Gives a command; returns each box with the command's id.
pub fn give(config: &Config, wish: &Wish<'_>, now: UnixMs) -> anyhow::Result<Vec<(BoxId, String)>> {
    Order::parse(wish.name, &wish.arguments).map_err(|error| {
        let known = Order::NAMES.join(", ");
        anyhow!("{}: {error}; known are {known}", wish.name)
    })?;
    let boxes: Vec<BoxId> = {
        let view = registry::open_view(config)?;
        let known = view.snapshot()?.boxes()?;
        known
            .into_iter()
            .filter(|known| known.state != BoxState::Revoked)
            .filter(|known| wish.box_id.is_none_or(|wanted| *wanted == known.box_id))
            .map(|known| known.box_id)
            .collect()
    };
    if boxes.is_empty() {
        bail!("there is no such box, or it is revoked; see trucd box list");
    }
    ensure!(
        wish.name != USE_CERTIFICATE,
        "{USE_CERTIFICATE} is given by the hub itself, when a box has made a new key; order {ROTATE_KEY}"
    );
    let key = signing_key(config)?;
    let mut store = registry::open(config)?;
    store.begin()?;
    let mut given = Vec::new();
    for box_id in boxes {
        if wish.name == "update_catalogue" {
            store.forget_published_to(&box_id)?;
        }
        if wish.name == "reload_copies"
            && let Some(known) = store.down_box(&box_id)?
        {
            store.ask_to_reload(known, Reload::Asked, now)?;
        }
        let id = give_one(&mut store, &key, &box_id, wish, now)?;
        given.push((box_id, id));
    }
    send_due(&mut store, now)?;
    store.commit()?;
    Ok(given)
}

/// Signs a command for one box and writes it down, within the open transaction; returns its id.
pub fn give_one(
    store: &mut HubStore,
    key: &SigningKey,
    box_id: &BoxId,
    wish: &Wish<'_>,
    now: UnixMs,
) -> anyhow::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).context("the operating system gives no random numbers")?;
    let id = hex(&random);
    let signature = key.sign(&CommandClaim {
        box_id,
        id: &id,
        name: wish.name,
        arguments: &wish.arguments,
        expires: wish.expires,
        by: wish.by,
    });
    let command = Command {
        id: id.parse().expect("hexadecimal digits are a record id"),
        name: wish.name.to_owned(),
        arguments: RawValue::from_string(wish.arguments.clone())?,
        expires: wish.expires,
        by: wish.by.to_owned(),
        signature: BASE64.encode(signature),
    };
    store.give(box_id, &command, now)?;
    if wish.name == ROTATE_KEY {
        store.note_rotation(box_id, &id, wish.expires, now)?;
    }
    store.add_audit(&AuditRow {
        at: now,
        who: wish.by.to_owned(),
        action: "command".to_owned(),
        detail: format!("{box_id} {} {id} {}", wish.name, wish.arguments),
    })?;
    Ok(id)
}

// === Into the downlink ===

/// Puts into the boxes' downlink what is not there yet, within the open transaction.
pub fn send_due(store: &mut HubStore, now: UnixMs) -> anyhow::Result<()> {
    let rows = store.published()?;
    let versions: Vec<u32> = holding(&rows, now)
        .into_iter()
        .chain(rows.iter().filter(|row| now < row.effective))
        .map(|row| row.news.version)
        .collect();
    let mut packed: BTreeMap<u32, Vec<Down>> = BTreeMap::new();
    for (box_id, version) in store.catalogues_due(&versions)? {
        let entries = match packed.get(&version) {
            Some(entries) => entries,
            None => {
                let content = store.published_content(version)?.unwrap_or_default();
                let row = rows.iter().find(|row| row.news.version == version);
                let row = row.context("a version that is due is published")?;
                packed.entry(version).or_insert(entries_of(row, &content))
            }
        };
        for entry in entries {
            post(store, &box_id, entry, now)?;
        }
        store.note_published_to(&box_id, version, now)?;
    }
    for row in store.commands_due(DUE_MAX)? {
        post(store, &row.box_id, &Down::Command(row.command.clone()), now)?;
        store.note_posted(row.number, now)?;
    }
    Ok(())
}

fn post(store: &mut HubStore, box_id: &BoxId, entry: &Down, now: UnixMs) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(entry).context("an entry is plain JSON")?;
    // A box that was revoked in between needs nothing.
    store.post(box_id, entry.lane(), &bytes, now)?;
    Ok(())
}

fn entries_of(row: &PublishedRow, content: &[u8]) -> Vec<Down> {
    let parts = content.chunks(PART_BYTES).zip(0..);
    let parts = parts.map(|(data, part)| {
        Down::CataloguePart(CataloguePart {
            sha256: row.news.sha256.clone(),
            part,
            data: BASE64.encode(data),
        })
    });
    parts.chain([Down::Catalogue(row.news.clone())]).collect()
}

/// What the running hub does now and then: boxes that were registered since get what there is.
pub fn look_after(config: &Config, now: UnixMs) -> anyhow::Result<()> {
    let mut store = registry::open(config)?;
    store.begin()?;
    send_due(&mut store, now)?;
    Ok(store.commit()?)
}

// === What boxes say ===

/// A box's last word about a command or a catalogue.
#[derive(Debug, Clone, Deserialize)]
pub struct Answered {
    pub thiet_bi: BoxId,
    pub loai: String,
    pub ma: String,
    pub trang_thai: String,
    pub thoi_diem: String,
    #[serde(default)]
    pub chi_tiet: String,
}

/// The last word of each box about each thing, by box, kind and id.
pub type Answers = BTreeMap<(BoxId, String, String), Answered>;

pub fn answers(snapshot: &Snapshot<'_>) -> anyhow::Result<Answers> {
    let dataset: DatasetId = ANSWERS.parse()?;
    let wanted = Wanted {
        dataset: &dataset,
        since: None,
        history: false,
        deleted: false,
    };
    let mut answers = Answers::new();
    snapshot.for_each_record::<anyhow::Error>(wanted, |record| {
        let entry = Entry::parse(record.bytes).context("a stored record cannot be read")?;
        // A box speaks for itself only.
        if let Ok(answer) = serde_json::from_str::<Answered>(entry.data.get())
            && answer.thiet_bi == *record.box_id
        {
            let key = (
                answer.thiet_bi.clone(),
                answer.loai.clone(),
                answer.ma.clone(),
            );
            answers.insert(key, answer);
        }
        Ok(())
    })?;
    Ok(answers)
}

/// How a command stands: what its box has said, else as far as it is on its way.
pub fn state_of<'a>(row: &GivenRow, answers: &'a Answers, now: UnixMs) -> &'a str {
    let key = (
        row.box_id.clone(),
        "lenh".to_owned(),
        row.command.id.to_string(),
    );
    match answers.get(&key) {
        Some(answer) => &answer.trang_thai,
        None if row.command.expires < now => "expired",
        None if row.posted.is_some() => "sent",
        None => "waiting",
    }
}

pub fn signing_key(config: &Config) -> anyhow::Result<SigningKey> {
    Ok(SigningKey::from_pkcs8(&read_receipt_key(config)?)?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
