//! From a message to rows, or to why it is none.
//!
//! What makes a repeat harmless, in this order:
//!
//! 1. a key of the message: CloudEvents' `source` and `id`, the configured `message_key`, or the
//!    record's own `id`;
//! 2. for a record with an event time: its whole content, because the same measurement of the same
//!    moment is the same event, whoever repeats it;
//! 3. otherwise only what the broker sends again under the number that it had when we committed it
//!    (see [`super::Recent`]). Content alone would not do: a switch that goes on, off and on again sends
//!    the same message twice and means it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::catalogue::Dataset;
use crate::edge::config::mqtt::MqttConfig;
use crate::edge::door::{op_named, op_text, short_digest};
use crate::edge::json_rows::{at, is_null, shape, text_of};
use crate::edge::named;
use crate::edge::rows::Row;
use crate::formats::json;
use crate::model::RecordId;
use crate::model::limits::ENTRY_BYTES_MAX;
use crate::model::record::Op;

/// Most records of one message.
const RECORDS_MAX: usize = 1_000;

/// Why a message is not rows: Vietnamese, English.
pub type Poison = [String; 2];

/// CloudEvents 1.0 in structured mode.
#[derive(Deserialize)]
struct Event<'a> {
    specversion: String,
    id: String,
    source: String,
    #[serde(borrow)]
    data: &'a RawValue,
    /// Our extension: what the record does.
    op: Option<String>,
    /// Our extension: files that were put before.
    #[serde(default)]
    attachments: Value,
}

/// The rows of a message; none for an empty one, which is how a kept message is taken back.
pub fn rows(
    config: &MqttConfig,
    dataset: &Dataset,
    topic: &str,
    content_type: Option<&str>,
    payload: &[u8],
) -> Result<Vec<Row>, Poison> {
    if payload.is_empty() {
        return Ok(Vec::new());
    }
    let known = known(config, topic)?;
    let mut rows = Vec::new();
    for item in split(payload)? {
        let event = match is_event(item, content_type) {
            true => Some(event(item)?),
            false => None,
        };
        let (data, op) = match &event {
            Some(event) => (event.data, operation(event)?),
            None => (item, Op::Upsert),
        };
        let shaped = shape(data, &config.fields, &known).ok_or_else(not_an_object)?;
        let id = match &event {
            Some(event) => Some(id_of(&["event", &event.source, &event.id])),
            None => id(config, dataset, topic, item, &shaped)?,
        };
        let named = match &event {
            Some(event) => named::of_event(&event.attachments)
                .map_err(|fault| [fault.message_vi, fault.message_en])?,
            None => Vec::new(),
        };
        rows.push(Row {
            id,
            named,
            ..Row::new(shaped, op)
        });
    }
    Ok(rows)
}

/// What the topic's levels say.
fn known(config: &MqttConfig, topic: &str) -> Result<BTreeMap<String, String>, Poison> {
    let levels: Vec<&str> = topic.split('/').collect();
    let fields = config.topic_fields.iter();
    fields
        .map(|(field, level)| {
            let found = level.checked_sub(1).and_then(|place| levels.get(place));
            let text = found.ok_or_else(|| {
                [
                    format!(
                        "chủ đề có {} cấp, không có cấp {level} cho trường {field}",
                        levels.len()
                    ),
                    format!(
                        "the topic has {} levels and no level {level} for field {field}",
                        levels.len()
                    ),
                ]
            })?;
            Ok((field.clone(), (*text).to_owned()))
        })
        .collect()
}

/// An object, an array, or objects on lines of their own.
fn split(payload: &[u8]) -> Result<Vec<&RawValue>, Poison> {
    let limits = json::Limits {
        records_max: RECORDS_MAX,
        record_bytes_max: ENTRY_BYTES_MAX,
    };
    let whole = json::split(payload, json::Kind::Json, &limits);
    let faults = match whole {
        Ok(items) => return Ok(items),
        Err(faults) => faults,
    };
    if let Ok(items) = json::split(payload, json::Kind::NdJson, &limits) {
        return Ok(items);
    }
    let (vi, en) = faults.list().first().map_or(Default::default(), |fault| {
        let (line, column) = (fault.line, fault.column);
        (
            format!("dòng {line}, cột {column}: {}", fault.message_vi),
            format!("line {line}, column {column}: {}", fault.message_en),
        )
    });
    Err([
        format!("nội dung thông điệp không phải là JSON đọc được: {vi}"),
        format!("the message is not readable JSON: {en}"),
    ])
}

fn is_event(item: &RawValue, content_type: Option<&str>) -> bool {
    let is_named = content_type.is_some_and(|name| name.starts_with("application/cloudevents"));
    is_named
        || ["/specversion", "/id", "/source", "/type", "/data"]
            .iter()
            .all(|place| at(item, place).is_some())
}

fn event(item: &RawValue) -> Result<Event<'_>, Poison> {
    let event: Result<Event<'_>, _> = serde_json::from_str(item.get());
    event
        .ok()
        .filter(|event| event.specversion == "1.0")
        .ok_or_else(|| {
            [
                "không phải là CloudEvents 1.0 đầy đủ (specversion, id, source, data)".to_owned(),
                "not a complete CloudEvents 1.0 (specversion, id, source, data)".to_owned(),
            ]
        })
}

fn operation(event: &Event<'_>) -> Result<Op, Poison> {
    let Some(name) = &event.op else {
        return Ok(Op::Upsert);
    };
    op_named(name).ok_or_else(|| {
        [
            "thuộc tính op phải là upsert, delete hoặc snapshot".to_owned(),
            "the attribute op must be upsert, delete or snapshot".to_owned(),
        ]
    })
}

fn id(
    config: &MqttConfig,
    dataset: &Dataset,
    topic: &str,
    item: &RawValue,
    shaped: &RawValue,
) -> Result<Option<RecordId>, Poison> {
    if let Some(place) = &config.message_key {
        let key = at(item, place).and_then(text_of).ok_or_else(|| {
            [
                format!("thông điệp không có khóa ở {place}"),
                format!("the message has no key at {place}"),
            ]
        })?;
        return Ok(Some(id_of(&["key", topic, &key])));
    }
    if let Some(Ok(own)) = json::top_level_str(shaped, "id") {
        let id = own.parse::<RecordId>().map_err(|error| {
            [
                "mã bản ghi (id) phải là văn bản từ 1 đến 128 ký tự in được".to_owned(),
                error.to_string(),
            ]
        })?;
        return Ok(Some(id));
    }
    let times = dataset.variants.iter().flat_map(|variant| &variant.time);
    let mut times = times.chain(&dataset.time);
    let has_time = times.any(|place| at(shaped, place).is_some_and(|time| !is_null(time)));
    Ok(has_time.then(|| id_of(&["content", topic, shaped.get(), op_text(Op::Upsert)])))
}

/// An id that the same words give again.
fn id_of(words: &[&str]) -> RecordId {
    let digest = short_digest(words);
    let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("mqtt-{text}")
        .parse()
        .expect("letters and digits are an id")
}

fn not_an_object() -> Poison {
    [
        "bản ghi phải là một đối tượng JSON".to_owned(),
        "a record must be a JSON object".to_owned(),
    ]
}
