//! An entry as an output delivers it: read, judged by the output's rules, masked.

use serde_json::value::RawValue;

use crate::evidence::entry_digest;
use crate::hub::output::OutputConfig;
use crate::hub::output::pick;
use crate::model::chunk::Digest;
use crate::model::record::{Entry, Op, derived_id};
use crate::model::{AgencyCode, Capture, RecordId};
use crate::store::hub_view::LogRow;
use crate::store::outputs::held::Key;

/// What is delivered of one entry, or of the present state of its subject.
#[derive(Debug, Clone)]
pub struct Event {
    pub key: Key,
    /// The life and the capture order what is said of a subject.
    pub life: i64,
    pub capture: Capture,
    pub id: RecordId,
    /// Of the entry's bytes, hexadecimal: the same whenever it is delivered.
    pub digest: String,
    pub op: Op,
    /// When it happened and when the box stored it, RFC 3339.
    pub time: String,
    pub stored: String,
    /// Without what the masks hide.
    pub data: Box<RawValue>,
    /// The source's own bytes, base64; none when something is masked.
    pub original: Option<String>,
    /// What the source itself wrote, where it is an attachment; none when something is masked.
    pub large_original: Option<Digest>,
    /// The whole CloudEvent in one line.
    pub json: String,
}

/// Whether an entry is the output's business.
pub enum Verdict {
    Deliver(Box<Event>),
    /// It is, but the output's rules keep it back.
    Withheld,
    Other,
}

/// Reads an entry that the hub has taken, and so is readable.
pub fn judge(config: &OutputConfig, log: &LogRow, bytes: &[u8]) -> Verdict {
    let Ok(entry) = Entry::parse(bytes) else {
        return Verdict::Other;
    };
    let is_ours = config.datasets.contains(&entry.kind.dataset)
        && (config.agencies.is_empty()
            || config
                .agencies
                .iter()
                .any(|agency| is_within(&entry.agency, agency)));
    if !is_ours {
        return Verdict::Other;
    }
    if config.sensitivity_max < entry.sensitivity {
        return Verdict::Withheld;
    }
    let digest = entry_digest(&log.box_id, bytes);
    let id = derived_id(&digest);
    let mut event = entry.to_cloud_event(&log.box_id, log.lane, &id);
    let masked = pick::mask(event.data, &config.masks);
    event.data = &masked;
    let mut large_original = entry
        .attachments
        .iter()
        .find(|file| file.original)
        .and_then(|file| file.sha256.parse().ok());
    if !config.masks.is_empty() {
        event.original = None;
        large_original = None;
    }
    let json = serde_json::to_string(&event).expect("an event is plain data");
    Verdict::Deliver(Box::new(Event {
        key: Key {
            dataset: entry.kind.dataset.clone(),
            agency: entry.agency.clone(),
            subject: entry.subject.clone(),
        },
        life: log.life,
        capture: entry.capture,
        id: event.id.clone(),
        digest: digest.to_string(),
        op: entry.op,
        time: event.time.to_owned(),
        stored: event.storedtime.to_owned(),
        original: event.original.map(str::to_owned),
        large_original,
        // Line breaks stand only between values: within a JSON string they are escaped.
        json: json.replace(['\n', '\r'], " "),
        data: masked,
    }))
}

/// Whether an agency is the other one or stands below it.
fn is_within(agency: &AgencyCode, above: &AgencyCode) -> bool {
    let rest = agency.as_str().strip_prefix(above.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agency_stands_below_its_own_codes_only() {
        let within = |a: &str, b: &str| is_within(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(within("H53.12", "H53") && within("H53.12", "H53.12"));
        assert!(!within("H53.12", "H53.1") && !within("H53", "H53.12"));
    }
}
