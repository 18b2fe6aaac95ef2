//! Bodies that are CloudEvents 1.0 in JSON: one (structured mode), or an array (batched mode).
//!
//! An event's `data` is the record. Its attributes must agree with what the box makes of the
//! record, so that nobody is told something else than what is kept.

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::catalogue::Dataset;
use crate::catalogue::admit::{Fault, Refusal};
use crate::edge::door::{Incoming, op_named};
use crate::edge::http::App;
use crate::edge::named;
use crate::edge::records::refusal::{not_readable, too_many_records};
use crate::edge::records::{Prepared, RECORDS_MAX, Refused, Request, Unfit, request_key};
use crate::engine::sending::NewRecord;
use crate::formats::json::{self, Kind, Limits};
use crate::model::RecordId;
use crate::model::record::{Attachment, Op};

/// How many events a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    One,
    Batch,
}

/// An event as it is written; its attributes are looked at one by one.
#[derive(Deserialize)]
struct Event<'e> {
    #[serde(default)]
    specversion: Value,
    #[serde(default)]
    id: Value,
    #[serde(default)]
    source: Value,
    #[serde(default, rename = "type")]
    kind: Value,
    #[serde(default)]
    subject: Value,
    #[serde(default)]
    time: Value,
    #[serde(default)]
    datacontenttype: Value,
    #[serde(default)]
    op: Value,
    #[serde(default)]
    attachments: Value,
    #[serde(default, borrow)]
    data: Option<&'e RawValue>,
    #[serde(default)]
    data_base64: Value,
}

impl Request {
    pub(super) fn prepare_events(
        &self,
        app: &App,
        body: &Bytes,
        mode: Mode,
    ) -> Result<Prepared, Unfit> {
        let limits = Limits {
            records_max: RECORDS_MAX,
            record_bytes_max: usize::MAX,
        };
        let events = json::split(body, Kind::Json, &limits).map_err(|faults| {
            Unfit::Body(match faults.too_many_records() {
                true => too_many_records(RECORDS_MAX, &faults),
                false => not_readable(&faults),
            })
        })?;
        let is_array = body.trim_ascii_start().first() == Some(&b'[');
        let dataset = &*self.known;
        let mut records = Vec::with_capacity(events.len());
        let mut refused = Refused::default();
        for (index, event) in events.iter().enumerate() {
            let read = match is_array == (mode == Mode::Batch) {
                true => self.event(app, dataset, event),
                false => Err(of_mode(mode)),
            };
            match read {
                Ok(record) => records.push(record),
                Err(refusal) => refused.add(index, is_array, refusal),
            }
        }
        refused.or_none(dataset, events.len())?;
        Ok(Prepared {
            records,
            once: request_key(self, &[body]),
        })
    }

    fn event(&self, app: &App, dataset: &Dataset, text: &RawValue) -> Result<NewRecord, Refusal> {
        let told = read(dataset, text).map_err(Refusal::Schema)?;
        let incoming = Incoming {
            data: told.data,
            op: told.op.unwrap_or(self.op),
            original: None,
            id: Some(told.id),
        };
        let admitted = app
            .door
            .admit_attached(dataset, &self.source, incoming, &told.attachments);
        let (record, subject) = admitted.map_err(inside_data)?;
        match &told.subject {
            // A subject that is hidden is a digest, which a sender does not know.
            Some(given) if !dataset.hide_key && given != subject.as_str() => {
                Err(Refusal::Schema(vec![fault(
                    "/subject",
                    "khác với khóa của bản ghi trong data; bỏ subject hoặc ghi đúng khóa",
                    "differs from the key of the record in data; leave it out or write the key",
                )]))
            }
            _ => Ok(record),
        }
    }
}

/// What an event tells besides its record.
#[derive(Debug)]
pub struct Told<'e> {
    pub id: RecordId,
    pub op: Option<Op>,
    pub subject: Option<String>,
    /// Files that were put before, by their digests.
    pub attachments: Vec<Attachment>,
    pub data: &'e RawValue,
}

/// Reads an event of this dataset, or says everything that is wrong with its attributes.
pub fn read<'e>(dataset: &Dataset, text: &'e RawValue) -> Result<Told<'e>, Vec<Fault>> {
    let event: Event<'e> = serde_json::from_str(text.get())
        .map_err(|error| vec![fault("", "sự kiện không đọc được", &error.to_string())])?;
    let mut faults = Vec::new();
    let id = event.check(dataset, &mut faults);
    let op = match &event.op {
        Value::Null => Some(None),
        Value::String(name) => op_named(name).map(Some),
        _ => None,
    };
    if op.is_none() {
        faults.push(fault(
            "/op",
            "phải là upsert, delete hoặc snapshot",
            "must be upsert, delete or snapshot",
        ));
    }
    let attachments = named::of_event(&event.attachments).unwrap_or_else(|fault| {
        faults.push(fault);
        Vec::new()
    });
    let (Some(id), Some(op), Some(data), true) = (id, op, event.data, faults.is_empty()) else {
        return Err(faults);
    };
    let subject = event.subject.as_str().map(str::to_owned);
    Ok(Told {
        id,
        op,
        subject,
        attachments,
        data,
    })
}

impl Event<'_> {
    /// Looks at every attribute; the id, if it is one.
    fn check(&self, dataset: &Dataset, faults: &mut Vec<Fault>) -> Option<RecordId> {
        let mut say = |pointer: &str, vi: &str, en: &str| faults.push(fault(pointer, vi, en));
        if self.specversion != "1.0" {
            say("/specversion", "phải là “1.0”", "must be \"1.0\"");
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let id = text(&self.id).and_then(|id| id.parse::<RecordId>().ok());
        if id.is_none() {
            say(
                "/id",
                "bắt buộc có, là văn bản từ 1 đến 128 ký tự in được, mỗi sự kiện một mã",
                "is required: a text of 1 to 128 printable characters, another one for each event",
            );
        }
        if text(&self.source).is_none_or(|source| source.trim().is_empty()) {
            say(
                "/source",
                "bắt buộc có, là địa chỉ (URI) của phần mềm gửi",
                "is required: the URI of the sending software",
            );
        }
        let (id_of, versioned) = (
            dataset.id.to_string(),
            format!("{}/{}", dataset.id, dataset.version),
        );
        if text(&self.kind).is_none_or(|kind| kind != id_of && kind != versioned) {
            say(
                "/type",
                &format!("phải là “{versioned}” hoặc “{id_of}”"),
                &format!("must be {versioned:?} or {id_of:?}"),
            );
        }
        if !self.subject.is_null() && text(&self.subject).is_none() {
            say("/subject", "phải là văn bản", "must be a text");
        }
        let is_time = |value: &Value| {
            let time = value.as_str().map(str::parse::<jiff::Timestamp>);
            matches!(time, Some(Ok(_)))
        };
        if !self.time.is_null() && !is_time(&self.time) {
            say(
                "/time",
                "phải là thời điểm theo RFC 3339 có múi giờ, ví dụ 2026-11-20T08:12:45+07:00",
                "must be a time with offset such as 2026-11-20T08:12:45+07:00",
            );
        }
        let is_json = |kind: &str| {
            let essence = kind.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json")
        };
        if !self.datacontenttype.is_null() && !self.datacontenttype.as_str().is_some_and(is_json) {
            say(
                "/datacontenttype",
                "phải là application/json",
                "must be application/json",
            );
        }
        if !self.data_base64.is_null() {
            say(
                "/data_base64",
                "không được nhận; gửi bản ghi JSON trong data, tệp gửi bằng multipart/form-data",
                "is not taken; send the record as JSON in data, and files as multipart/form-data",
            );
        } else if self.data.is_none_or(|data| !data.get().starts_with('{')) {
            say(
                "/data",
                "bắt buộc có, là bản ghi JSON {…}",
                "is required: the record, a JSON object",
            );
        }
        id
    }
}

fn fault(pointer: &str, vi: &str, en: &str) -> Fault {
    let name = pointer.trim_start_matches('/');
    Fault {
        pointer: pointer.to_owned(),
        message_vi: format!("“{name}” {vi}"),
        message_en: format!("{name:?} {en}"),
    }
}

fn schema(fault: Fault) -> Refusal {
    Refusal::Schema(vec![fault])
}

fn of_mode(mode: Mode) -> Refusal {
    let (vi, en) = match mode {
        Mode::One => (
            "một sự kiện là một đối tượng; nhiều sự kiện gửi với application/cloudevents-batch+json",
            "one event is an object; send several as application/cloudevents-batch+json",
        ),
        Mode::Batch => (
            "lô sự kiện là một danh sách [ ]; một sự kiện gửi với application/cloudevents+json",
            "a batch is an array; send one event as application/cloudevents+json",
        ),
    };
    schema(Fault {
        pointer: String::new(),
        message_vi: vi.to_owned(),
        message_en: en.to_owned(),
    })
}

/// The catalogue's faults, with the way to them from the event's top.
fn inside_data(refusal: Refusal) -> Refusal {
    let inside = |faults: Vec<Fault>| {
        let faults = faults.into_iter().map(|fault| Fault {
            pointer: format!("/data{}", fault.pointer),
            ..fault
        });
        faults.collect()
    };
    match refusal {
        Refusal::Schema(faults) => Refusal::Schema(inside(faults)),
        Refusal::Key(faults) => Refusal::Key(inside(faults)),
        Refusal::Rule {
            pointer,
            reason_vi,
            reason_en,
            alarm,
        } => Refusal::Rule {
            pointer: format!("/data{pointer}"),
            reason_vi,
            reason_en,
            alarm,
        },
        other => other,
    }
}
