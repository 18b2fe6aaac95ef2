//! The check at the door, the same for every source: a record in, what the engine keeps out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use serde_json::value::RawValue;

use crate::catalogue::admit::Refusal;
use crate::catalogue::time::today;
use crate::catalogue::{Catalogue, Dataset};
use crate::edge::blobs::Blobs;
use crate::edge::config::Config;
use crate::edge::config::load::OWN_SOURCE;
use crate::edge::connectors::Board;
use crate::edge::intake::Intake;
use crate::edge::named;
use crate::edge::orders::Steering;
use crate::engine::sending::{Answer, Level, NewRecord, Submission};
use crate::evidence::sha256;
use crate::model::record::{Attachment, Draft, Op};
use crate::model::{
    AgencyCode, BoxId, DatasetId, Lane, MonoMs, Now, RecordId, SourceName, Subject,
};
use crate::shell::clock::Clock;
use crate::store::edge::OnceKey;
use crate::store::rows::Beside;

/// While a source keeps offering what it must not, the hub hears of it so often.
const ALARM_EVERY_MS: MonoMs = 60_000;
/// Longest reason that is kept for the page.
const REASON_CHARS_MAX: usize = 240;

/// What a source offers.
#[derive(Debug, Clone)]
pub struct Incoming<'a> {
    pub data: &'a RawValue,
    pub op: Op,
    /// The file's own bytes where `data` was parsed from another format, base64.
    pub original: Option<&'a str>,
    /// The source's own id; a repeat of it is then harmless.
    pub id: Option<RecordId>,
}

/// The check at the door.
pub struct Door {
    /// What holds now; whoever has work in hand finishes it with what held when it began.
    catalogue: RwLock<Arc<Catalogue>>,
    box_id: BoxId,
    agency: AgencyCode,
    alarm_dataset: DatasetId,
    intake: Intake,
    clock: Clock,
    alarms: Mutex<BTreeMap<(SourceName, DatasetId), Alarm>>,
    board: Arc<Board>,
    steering: Arc<Steering>,
    store: PathBuf,
    blobs: Arc<Blobs>,
    turns: Mutex<BTreeMap<SourceName, Arc<tokio::sync::Mutex<u64>>>>,
}

/// Alarms of one source about one dataset.
#[derive(Debug, Default)]
struct Alarm {
    quiet_until_ms: MonoMs,
    /// Refused since the last alarm went out.
    records: u64,
}

impl Door {
    pub fn new(config: &Config, catalogue: Catalogue, intake: Intake, clock: Clock) -> Door {
        Door {
            catalogue: RwLock::new(Arc::new(catalogue)),
            box_id: config.box_id.clone(),
            agency: config.agency.clone(),
            alarm_dataset: config.alarm_dataset.clone(),
            intake,
            clock,
            alarms: Mutex::default(),
            board: Arc::default(),
            steering: Arc::default(),
            store: config.store.path.clone(),
            blobs: Arc::new(
                Blobs::beside(&config.store.path, config.store.blobs_bytes_max)
                    .scanned_by(config.store.scanner.clone()),
            ),
            turns: Mutex::default(),
        }
    }

    /// How the sources stand.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// What the hub's commands steer.
    pub fn steering(&self) -> &Arc<Steering> {
        &self.steering
    }

    /// The office that the box stands in.
    pub fn agency(&self) -> &AgencyCode {
        &self.agency
    }

    /// The dataset whose records say what became of documents.
    pub fn status_dataset(&self) -> Option<Arc<Dataset>> {
        let catalogue = self.catalogue();
        let found = catalogue.iter().find(|dataset| dataset.status.is_some())?;
        catalogue.shared(&found.id)
    }

    /// The store's file, for short looks.
    pub fn store(&self) -> &Path {
        &self.store
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Attachments that records name.
    pub fn blobs(&self) -> &Arc<Blobs> {
        &self.blobs
    }

    /// Held by whoever decides on a source's rows by what of it is parked, until they are kept, and by
    /// whoever sets its cursor. It counts how often a person has set the cursor: rows that were read
    /// from the place before that are not handed in.
    pub async fn turn(&self, source: &SourceName) -> tokio::sync::OwnedMutexGuard<u64> {
        let turn = {
            let mut turns = self.turns.lock().expect("no holder panics");
            Arc::clone(turns.entry(source.clone()).or_default())
        };
        turn.lock_owned().await
    }

    /// The dataset as it holds now; to be asked anew for every file, request or round of a poll.
    pub fn dataset(&self, id: &DatasetId) -> Option<Arc<Dataset>> {
        self.catalogue().shared(id)
    }

    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue.read().expect("no holder panics"))
    }

    /// From now on this one holds.
    pub fn set_catalogue(&self, catalogue: Catalogue) {
        *self.catalogue.write().expect("no holder panics") = Arc::new(catalogue);
    }

    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Checks one record of `dataset`. Pure computing: it may be called from any thread.
    pub fn admit(
        &self,
        dataset: &Dataset,
        source: &SourceName,
        incoming: Incoming<'_>,
    ) -> Result<NewRecord, Refusal> {
        self.admit_row(dataset, source, incoming)
            .map(|(record, _)| record)
    }

    /// As [`Door::admit`], and tells the record's subject.
    pub fn admit_row(
        &self,
        dataset: &Dataset,
        source: &SourceName,
        incoming: Incoming<'_>,
    ) -> Result<(NewRecord, Subject), Refusal> {
        self.admit_attached(dataset, source, incoming, &[])
    }

    /// As [`Door::admit_row`], of a record that names files, here or in the field that its dataset says. They must be in [`Door::blobs`] before
    /// the record is handed in.
    pub fn admit_attached(
        &self,
        dataset: &Dataset,
        source: &SourceName,
        incoming: Incoming<'_>,
        attachments: &[Attachment],
    ) -> Result<(NewRecord, Subject), Refusal> {
        let Incoming {
            data,
            op,
            original,
            id,
        } = incoming;
        let bytes = data.get().as_bytes();
        let admitted = match op {
            Op::Delete => dataset.admit_delete(bytes)?,
            Op::Upsert | Op::Snapshot => dataset.admit_on(bytes, today(self.clock.now()))?,
        };
        let named = match (&dataset.attachments, op) {
            (Some(field), Op::Upsert | Op::Snapshot) if attachments.is_empty() => {
                named::in_record(field, data).map_err(|fault| Refusal::Schema(vec![fault]))?
            }
            _ => Vec::new(),
        };
        let attachments = match attachments.is_empty() {
            true => &named,
            false => attachments,
        };
        let once = id.as_ref().map(|id| {
            let mut content = vec![op_text(op), data.get()];
            content.extend(attachments.iter().map(|file| file.sha256.as_str()));
            OnceKey {
                key: short_digest(&["record", source.as_str(), dataset.id.as_str(), id.as_str()]),
                digest: short_digest(&content),
            }
        });
        let lane = match op {
            Op::Snapshot => Lane::P4,
            Op::Upsert | Op::Delete => admitted.lane,
        };
        let draft = Draft {
            id: id.clone(),
            source,
            kind: dataset.record_type(),
            subject: admitted.subject.clone(),
            time: admitted.time,
            agency: &self.agency,
            op,
            sensitivity: dataset.sensitivity,
            classification: &admitted.classification,
            attachments,
            codeflags: &admitted.code_flags,
            data,
            original,
        };
        let record = NewRecord {
            lane,
            tail: draft.to_tail(),
            id,
            once,
            attachments: attachments.to_vec(),
        };
        Ok((record, admitted.subject))
    }

    /// Counts what was refused, and raises the alarm where the refusal asks for one: an event on
    /// the page, and a record to the hub that says who and how many but nothing of the content.
    pub async fn refused(
        &self,
        source: &SourceName,
        dataset: &DatasetId,
        records: u64,
        refusal: &Refusal,
    ) {
        let reason = reason_of(refusal);
        self.intake.refused(source.clone(), records, reason).await;
        if refusal.alarm() && self.is_alarm_due(source, dataset) {
            self.raise_alarm(source, dataset).await;
        }
    }

    /// Counts one more; says whether the hub is to hear of it now.
    fn is_alarm_due(&self, source: &SourceName, dataset: &DatasetId) -> bool {
        let now_ms = self.clock.mono_ms();
        let mut alarms = self.alarms.lock().expect("no holder panics");
        let alarm = alarms.entry((source.clone(), dataset.clone())).or_default();
        alarm.records += 1;
        if now_ms < alarm.quiet_until_ms {
            return false;
        }
        alarm.quiet_until_ms = now_ms + ALARM_EVERY_MS;
        true
    }

    /// How many were refused since the last alarm.
    fn take_count(&self, source: &SourceName, dataset: &DatasetId) -> u64 {
        let mut alarms = self.alarms.lock().expect("no holder panics");
        let alarm = alarms.get_mut(&(source.clone(), dataset.clone()));
        alarm.map_or(0, |alarm| std::mem::take(&mut alarm.records))
    }

    async fn raise_alarm(&self, source: &SourceName, dataset: &DatasetId) {
        let records = self.take_count(source, dataset);
        tracing::error!(%source, %dataset, records, "a state secret was offered and refused");
        let detail = format!("{source} / {dataset}: {records}");
        self.intake.note(Level::Alarm, "state_secret", detail).await;
        let own: SourceName = OWN_SOURCE
            .parse()
            .expect("the program's own name is a source name");
        let Some(record) = self.alarm_record(&own, source, dataset, records) else {
            return;
        };
        let submission = Submission {
            reply: (),
            source: own,
            records: vec![record],
            once: None,
            cursor: None,
            beside: Beside::default(),
        };
        match self.intake.submit(submission).await {
            Ok(Answer::Stored { .. }) => {}
            Ok(answer) => tracing::error!(?answer, "the alarm was not kept"),
            Err(error) => tracing::error!(%error, "the alarm was not kept"),
        }
    }

    fn alarm_record(
        &self,
        own: &SourceName,
        source: &SourceName,
        dataset: &DatasetId,
        records: u64,
    ) -> Option<NewRecord> {
        let Some(security) = self.dataset(&self.alarm_dataset) else {
            tracing::warn!(dataset = %self.alarm_dataset, "the catalogue has no dataset for alarms");
            return None;
        };
        let data = serde_json::json!({
            "loai_ban_ghi": "su_kien",
            "thiet_bi": self.box_id,
            "su_kien": "tai_lieu_mat_bi_tu_choi",
            "muc": "nghiem_trong",
            "thoi_diem": self.clock.now().wall.to_string(),
            "mo_ta": format!("Nguồn {source} đưa tài liệu mang dấu mật vào bộ dữ liệu {dataset}; trạm đã từ chối và không lưu nội dung."),
            "dem": records.max(1),
        });
        let data = serde_json::value::to_raw_value(&data).expect("an alarm is plain JSON");
        let incoming = Incoming {
            data: &data,
            op: Op::Upsert,
            original: None,
            id: None,
        };
        match self.admit(&security, own, incoming) {
            Ok(record) => Some(record),
            Err(refusal) => {
                tracing::warn!(dataset = %self.alarm_dataset, %refusal, "the catalogue does not take alarms");
                None
            }
        }
    }

    /// Sends the alarms that were held back, for ever: a burst of refusals ends with its count.
    pub async fn send_alarms_held_back(&self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(Duration::from_millis(ALARM_EVERY_MS)).await;
            let now_ms = self.clock.mono_ms();
            let due: Vec<_> = {
                let mut alarms = self.alarms.lock().expect("no holder panics");
                alarms.retain(|_, alarm| 0 < alarm.records || now_ms < alarm.quiet_until_ms);
                let due = alarms
                    .iter()
                    .filter(|(_, alarm)| 0 < alarm.records && alarm.quiet_until_ms <= now_ms);
                due.map(|(key, _)| key.clone()).collect()
            };
            for (source, dataset) in due {
                self.raise_alarm(&source, &dataset).await;
            }
        }
    }
}

/// The first fault, as it may stand on the page: the catalogue's sentences quote no personal data.
fn reason_of(refusal: &Refusal) -> String {
    let faults = refusal.faults();
    let first = faults.first().map_or("", |fault| fault.message_vi.as_str());
    let mut reason: String = first.chars().take(REASON_CHARS_MAX).collect();
    if faults.len() > 1 {
        reason.push_str(&format!(" (và {} lỗi khác)", faults.len() - 1));
    }
    reason
}

/// The first 16 bytes of a SHA-256 over texts, each with its end marked.
pub fn short_digest(parts: &[&str]) -> [u8; 16] {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    let mut short = [0; 16];
    short.copy_from_slice(&sha256(&bytes)[..16]);
    short
}

/// The operation that a source names.
pub fn op_named(text: &str) -> Option<Op> {
    let mut known = [Op::Upsert, Op::Delete, Op::Snapshot].into_iter();
    known.find(|op| op_text(*op) == text)
}

pub fn op_text(op: Op) -> &'static str {
    match op {
        Op::Upsert => "upsert",
        Op::Delete => "delete",
        Op::Snapshot => "snapshot",
    }
}
